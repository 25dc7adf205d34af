"""What people do, from the sensors that they wear."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from lightning_fw.data.sequences import Kind, SequenceData, Split


class ActivityData(SequenceData):
    """Recordings whose splits share no person, shifted and scaled by two numbers.

    These make the mean 0 and the variance 1 over all training recordings, steps and channels
    together, so that the proportions between the channels stay.

    Args:
        root: Directory of the files.
        batch_size: Sequences a batch.
        seed: Of the order of the batches, and of noise.
    """

    kind: ClassVar[Kind] = "classification"
    # Where the files are to be had.
    source: ClassVar[str]

    def __init__(self, root: str | Path, *, batch_size: int, seed: int) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        self.root = Path(root)
        self._scale: tuple[float, float] | None = None

    @abstractmethod
    def read_split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Sequences as they were recorded, and class indices."""

    @override
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        sequences, targets = self.read_split(split)
        mean, deviation = self._training_scale(sequences if split == "train" else None)
        return sequences.sub_(mean).div_(deviation), targets

    def _training_scale(self, training: Tensor | None) -> tuple[float, float]:
        if self._scale is None:
            training = self.read_split("train")[0] if training is None else training
            deviation, mean = training.double().std(correction=0), training.double().mean()
            if not deviation > 0:
                raise ValueError(
                    f"`root` must hold recordings that vary, got constant ones in {self.root}. "
                    "Get the files again."
                )
            self._scale = mean.item(), deviation.item()
        return self._scale

    def _path(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        if not path.is_file():
            raise FileNotFoundError(
                f"`root` must hold {Path(*parts)}, got {self.root} without it. Put the files of "
                f"{self.source} there."
            )
        return path
