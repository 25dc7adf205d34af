"""MNIST as sequences: by row, with noise after the rows, by pixel, in a permuted order."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fw.checks import require_choice, require_flag
from lightning_fw.data.downloads import download
from lightning_fw.data.idx import read_idx
from lightning_fw.data.noise import NoisySequences, require_deviation, with_noise, with_noise_after
from lightning_fw.data.sequences import Kind, SequenceData, Sequences, Split, drawn

By = Literal["row", "pixel", "permuted", "padded"]

# SHA-256 of the gzipped files, as LeCun, Cortes and Burges published them.
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
_VALIDATION_SIZE = {"train": 5_000, "t10k": 1_000}
_PERMUTATION_SEED = 92_916
_PADDED_LENGTH = 1_000


class SequentialMNIST(SequenceData):
    """28 × 28 images of handwritten digits as sequences; ten classes, values in [0, 1].

    The four IDX files, gzipped or not, lie in ``root``. With the training files: 55,000 images to
    train on, 5,000 to validate, the 10,000 of the test files to test. With the test files alone
    these are split 8,000 / 1,000 / 1,000. Splits are drawn with a fixed seed.

    Source: LeCun, Bottou, Bengio, Haffner (1998); the permuted order after Le, Jaitly, Hinton
    (2015), arXiv:1504.00941; the noise after Chang, Chen, Haber, Chi (2019), arXiv:1902.09689.

    Args:
        root: Directory of the files.
        by: ``"row"``: 28 steps of 28 values; ``"pixel"``: 784 steps of one value;
            ``"permuted"``: the same in a random order with a fixed seed; ``"padded"``: the 28 rows,
            then 972 steps of 28 values from N(0, 1), an image's own at each reading.
        batch_size: Sequences a batch.
        noise: Standard deviation of noise that is added to an image's values; a training image has
            other noise at each reading, the others keep theirs.
        seed: Of the order of the batches and of the noise.
        download: Fetch missing files, and check them against their SHA-256.
        base_url: Where from.

    Raises:
        TypeError: If ``noise`` is no number, another one not an int, or ``download`` not a bool.
        ValueError: If ``by`` is unknown, ``noise`` is negative or not finite, ``batch_size`` < 1,
            or a file is broken.
        FileNotFoundError: If the test files are missing.
        ModuleNotFoundError: If pooch is missing and there is something to download.

    Example:
        >>> SequentialMNIST("mnist", by="permuted").input_size
        1
    """

    kind: ClassVar[Kind] = "classification"

    def __init__(
        self,
        root: str | Path,
        by: By = "row",
        *,
        noise: float = 0.0,
        batch_size: int = 64,
        seed: int = 0,
        download: bool = False,
        base_url: str = "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        require_choice("by", by, get_args(By))
        require_deviation("noise", noise)
        require_flag("download", download)
        self.noise = noise
        self.root = Path(root)
        self.by = by
        self.download = download
        self.base_url = base_url
        self.input_size, self.output_size = (28 if by in ("row", "padded") else 1), 10

    @override
    def prepare_data(self) -> None:
        if not self.download:
            return
        for name in (name for name in _SHA256 if _find(self.root, name) is None):
            url = f"{self.base_url.rstrip('/')}/{name}"
            download(url, _SHA256[name], self.root / name, asked_by="SequentialMNIST")

    @override
    def make_dataset(self, split: Split) -> Sequences:
        if self.by != "padded" and self.noise == 0:
            return super().make_dataset(split)
        # Padded beforehand, the 60,000 images would take 6.7 GB.
        return NoisySequences(
            *self.make_split(split),
            noisy=partial(_noisy, deviation=self.noise, padded=self.by == "padded"),
            seed=self.seed_of(split),
            redrawn=self.noise > 0 and split == "train",
        )

    @override
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        source = "train" if _find(self.root, "train-images-idx3-ubyte.gz") else "t10k"
        if source == "train" and split == "test":
            images, labels = self._read("t10k")
        else:
            images, labels = self._part(source, split)
        sequences = images.float().div_(255).reshape(len(images), -1, self.input_size)
        if self.by == "permuted":
            generator = torch.Generator().manual_seed(_PERMUTATION_SEED)
            sequences = sequences[:, torch.randperm(784, generator=generator)]
        return sequences, labels.long()

    def _part(self, source: str, split: Split) -> tuple[Tensor, Tensor]:
        """A split of the one pair of files; the test part is empty for the training files."""
        images, labels = self._read(source)
        held_out = _VALIDATION_SIZE[source]
        test_size = held_out if source == "t10k" else 0
        if len(images) <= held_out + test_size:
            raise ValueError(
                f"`root` must hold more than {held_out + test_size} images to split, got "
                f"{len(images)} in {self.root} ({source}). Get the files again."
            )
        chosen = drawn(len(images), split, val=held_out, test=test_size)
        return images[chosen], labels[chosen]

    def _read(self, source: str) -> tuple[Tensor, Tensor]:
        images = read_idx(self._path(f"{source}-images-idx3-ubyte.gz"), dimensions=3)
        labels = read_idx(self._path(f"{source}-labels-idx1-ubyte.gz"), dimensions=1)
        if images.shape[1:] != (28, 28) or len(images) != len(labels):
            raise ValueError(
                f"`root` must hold images of 28 x 28 and a label for each, got images "
                f"{tuple(images.shape)} and {len(labels)} labels in {self.root} ({source}). "
                "Get the files again."
            )
        if int(labels.max()) > 9:
            raise ValueError(
                f"`root` must hold labels from 0 to 9, got {int(labels.max())} in {self.root} "
                f"({source}). Get the files again."
            )
        return images, labels

    def _path(self, name: str) -> Path:
        path = _find(self.root, name)
        if path is None:
            raise FileNotFoundError(
                f"`root` must hold {name}, gzipped or not, got {self.root} without it. "
                "Put it there, or have it fetched: lightning_fw.data.SequentialMNIST("
                f"{str(self.root)!r}, download=True).prepare_data()."
            )
        return path


def _noisy(
    sequence: Tensor, generator: torch.Generator, *, deviation: float, padded: bool
) -> Tensor:
    if deviation > 0:
        sequence = with_noise(sequence, generator, deviation=deviation)
    return with_noise_after(sequence, _PADDED_LENGTH, generator) if padded else sequence


def _find(root: Path, name: str) -> Path | None:
    """The file, gzipped or not."""
    for path in (root / name, root / name.removesuffix(".gz")):
        if path.is_file():
            return path
    return None
