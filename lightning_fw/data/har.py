"""HAR-2: two groups of activities, from the motion of a phone at the waist."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fw.data.activities import ActivityData
from lightning_fw.data.noise import NoisySequences, require_deviation, with_noise
from lightning_fw.data.sequences import Sequences, Split
from lightning_fw.data.tables import read_table

_STEPS = 128
_SIGNALS = tuple(
    f"{name}_{axis}" for name in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
# Of the 21 people of the training files. Windows overlap by a half, so whole people are held out.
_VALIDATION_SUBJECTS = (28, 29, 30)


class HAR2(ActivityData):
    """128 steps of 9 inertial signals; {walking, walking down, standing} against the rest.

    The windows of UCI HAR, 2.56 s at 50 Hz: body acceleration, angular velocity and total
    acceleration along x, y, z. The six activities make two classes: 1 is {walking, walking
    downstairs, standing}, 0 is {walking upstairs, sitting, laying}. Test: the 9 people (2,947
    windows) of the test files; validation: people 28, 29 and 30 of the training files (7,352
    windows); the other 18 train.

    There is no download: no checksum of the archive is known to us from a source that we trust.

    Source: Anguita, Ghio, Oneto, Parra, Reyes-Ortiz (2013), "A Public Domain Dataset for Human
    Activity Recognition Using Smartphones"; the two classes from Kusupati, Singh, Bhatia, Kumar,
    Jain, Varma (2018), arXiv:1901.02358; the noise from Yue, Li, Saligrama, Zhang (2020),
    arXiv:2010.05397.

    Args:
        root: The directory ``UCI HAR Dataset``, which holds ``train`` and ``test``.
        noise: Standard deviation of the noise that is added to the scaled signals; 2 makes the
            noisy HAR-2. A training window has other noise at each reading, the others keep theirs.
        batch_size: Sequences a batch.
        seed: Of the order of the batches and of the noise.

    Raises:
        TypeError: If ``noise`` is no number, or another one not an int.
        ValueError: If ``noise`` is negative or not finite, ``batch_size`` < 1, or a file is broken.
        FileNotFoundError: When read, if a file is missing.

    Example:
        >>> data = HAR2("UCI HAR Dataset", noise=2.0)
        >>> data.input_size, data.output_size
        (9, 2)
    """

    source: ClassVar[str] = (
        "https://archive.ics.uci.edu/dataset/240 (UCI HAR Dataset.zip, as it unpacks)"
    )

    def __init__(
        self, root: str | Path, *, noise: float = 0.0, batch_size: int = 128, seed: int = 0
    ) -> None:
        super().__init__(root, batch_size=batch_size, seed=seed)
        require_deviation("noise", noise)
        self.noise = noise
        self.input_size, self.output_size = len(_SIGNALS), 2

    @override
    def make_dataset(self, split: Split) -> Sequences:
        if self.noise == 0:
            return super().make_dataset(split)
        return NoisySequences(
            *self.make_split(split),
            noisy=partial(with_noise, deviation=self.noise),
            seed=self.seed_of(split),
            redrawn=split == "train",
        )

    @override
    def read_split(self, split: Split) -> tuple[Tensor, Tensor]:
        source = "test" if split == "test" else "train"
        signals = [
            read_table(self._path(source, "Inertial Signals", f"{name}_{source}.txt"), _STEPS)
            for name in _SIGNALS
        ]
        labels, subjects = (
            read_table(self._path(source, f"{name}_{source}.txt"), 1).flatten().long()
            for name in ("y", "subject")
        )
        self._check(source, [len(table) for table in (*signals, labels, subjects)], labels)
        windows = torch.stack(signals, dim=-1)
        if split != "test":
            held_out = torch.isin(subjects, torch.tensor(_VALIDATION_SUBJECTS))
            chosen = held_out if split == "val" else ~held_out
            if not chosen.any():
                raise ValueError(
                    f"`root` must hold people {_VALIDATION_SUBJECTS} and others to train on, got "
                    f"{sorted(set(subjects.tolist()))} in {self.root}. Get the files again."
                )
            windows, labels = windows[chosen], labels[chosen]
        # 1 walking, 2 upstairs, 3 downstairs, 4 sitting, 5 standing, 6 laying.
        return windows, labels % 2

    def _check(self, source: str, sizes: list[int], labels: Tensor) -> None:
        if len(set(sizes)) > 1:
            raise ValueError(
                f"`root` must hold as many labels, people and windows of each signal, got {sizes} "
                f"in {self.root} ({source}). Get the files again."
            )
        if labels.min() < 1 or labels.max() > 6:
            raise ValueError(
                f"`root` must hold labels from 1 to 6, got {labels.min()} to {labels.max()} in "
                f"{self.root} ({source}). Get the files again."
            )
