"""What the data modules share: splits made of two tensors each, and their loaders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_args

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.noise import NoisySequences
from lightning_fw.data.sequence_loader import InOrder, SequenceLoader, begin_after_epochs_of

Split = Literal["train", "val", "test"]
Kind = Literal["regression", "classification", "classification_per_step", "language"]
Sequences = TensorDataset | NoisySequences
Loader = DataLoader[tuple[Tensor, ...]]

# Three splits have seeds of their own, which torch takes in 64 bits.
_SEEDS = 2**61


class SequenceData(L.LightningDataModule, ABC):
    """Sequences of shape (batch, time, input_size), float32, and their targets.

    Targets are float32 of shape (batch, output_size) for a regression, int64 class indices of
    shape (batch,) for a classification, and of shape (batch, time) for a classification per step.
    The order of the training batches follows from ``seed`` and the epoch alone, whatever the model
    draws in between, and a fit that resumes goes on with it, in mid-epoch too.

    Args:
        batch_size: Sequences a batch.
        seed: Of the data, where it is drawn, of its splits and of the order of the batches; >= 0,
            < 2⁶¹.

    Attributes:
        input_size: Channels of a sequence.
        output_size: Numbers or classes to predict.
        kind: ``"regression"``, ``"classification"`` or ``"classification_per_step"``.
        reads_symbols: Whether sequences are of symbols, each a one-hot vector.

    Raises:
        TypeError: If ``batch_size`` or ``seed`` is not an int.
        ValueError: If ``batch_size`` < 1, or ``seed`` out of range.
    """

    kind: ClassVar[Kind]
    reads_symbols: ClassVar[bool] = False
    input_size: int
    output_size: int

    def __init__(self, *, batch_size: int, seed: int) -> None:
        super().__init__()
        require_count("batch_size", batch_size)
        require_count("seed", seed, least=0)
        if seed >= _SEEDS:
            raise ValueError(f"`seed` must be less than 2**61, got {seed}. Pass a smaller one.")
        self.batch_size = batch_size
        self.seed = seed
        self._splits: dict[Split, Sequences] = {}

    @abstractmethod
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Sequences and targets of one split."""

    def make_dataset(self, split: Split) -> Sequences:
        """What a split is read from; override it for noise that is drawn at each reading."""
        return TensorDataset(*self.make_split(split))

    def split(self, split: Split) -> Sequences:
        """One split, made at the first call."""
        if split not in self._splits:
            self._splits[split] = self.make_dataset(split)
        return self._splits[split]

    def seed_of(self, split: Split) -> int:
        """A seed of its own for each split and each ``seed``."""
        return 3 * self.seed + get_args(Split).index(split)

    @override
    def train_dataloader(self) -> Loader:
        dataset = self.split("train")
        if isinstance(dataset, NoisySequences):
            dataset.rank = 0 if self.trainer is None else self.trainer.global_rank
        trainer: Any = self.trainer
        # Lightning takes the order from its own loaders alone.
        shuffled = trainer is None or not trainer.overfit_batches
        dealt = self._dealt(dataset, shuffled)
        loader = SequenceLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffled and dealt is None,
            sampler=dealt,
            generator=torch.Generator().manual_seed(self.seed),
        )
        if self.trainer is not None:
            begin_after_epochs_of(self.trainer, loader)
        return loader

    def _dealt(
        self, dataset: Sequences, shuffled: bool
    ) -> DistributedSampler[tuple[Tensor, ...]] | None:
        """What deals batches out to ranks; Lightning's own would not know the seed."""
        trainer = self.trainer
        if trainer is None or not trainer._accelerator_connector.use_distributed_sampler:
            return None
        ranks = trainer.distributed_sampler_kwargs
        if ranks is None:
            return None
        kind = DistributedSampler if shuffled else InOrder
        return kind(dataset, shuffle=shuffled, seed=self.seed, **ranks)

    @override
    def val_dataloader(self) -> Loader:
        return DataLoader(self.split("val"), batch_size=self.batch_size)

    @override
    def test_dataloader(self) -> Loader:
        return DataLoader(self.split("test"), batch_size=self.batch_size)

    @override
    def predict_dataloader(self) -> Loader:
        return self.test_dataloader()


def drawn(size: int, split: Split, *, val: int, test: int) -> Tensor:
    """Which of so many examples make a split, drawn with a fixed seed: the rest trains."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
    return parts[split]


def require_sizes(train_size: int, val_size: int, test_size: int) -> dict[Split, int]:
    """Sizes by split.

    Raises:
        TypeError: If one is not an int.
        ValueError: If one is below 1.
    """
    sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
    for split, size in sizes.items():
        require_count(f"{split}_size", size)
    return sizes
