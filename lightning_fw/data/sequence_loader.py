"""Batches of sequences, in an order that a fit which resumes goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol, cast

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler
from typing_extensions import override

from lightning_fw.data.noise import NoisySequences


class SequenceLoader(DataLoader[tuple[Tensor, ...]]):
    """A loader that can be resumed in mid-epoch, at the batch after the last it gave.

    Order and noise are drawn again as far as they had come.

    Attributes:
        limit: Batches after which a Trainer ends an epoch; None: there are no more. Data modules
            set it.

    Example:
        >>> from lightning_fw.data import AddingProblem
        >>> loader = AddingProblem(sequence_length=20, train_size=100).train_dataloader()
        >>> batches = list(loader)
        >>> loader.load_state_dict({"epochs": 1, "position": 1})
        >>> [bool((x == batches[1][0]).all()) for x, _ in loader]
        [True]
    """

    limit: int | None = None
    _epochs = 0
    _position = 0
    _saved: dict[str, int] | None = None
    _at_first: Tensor | None = None

    @override
    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]
        # Nothing is drawn before the first batch is asked for: Lightning 2.6.6 may ask for an
        # iterator only to see whether there is one.
        read: list[int] = []
        skipped = 0
        if self._saved is not None or not self._epochs:
            self._epochs, skipped, each = self._ended(self._saved)
            self._saved = None
            read = self._draw_again(self._epochs, each)
        self._epochs, self._position = self._epochs + 1, skipped
        order = self._order()
        for indices in islice(order, skipped):
            read.extend(indices)
        if read and isinstance(self.dataset, NoisySequences):
            self.dataset.pass_over(read)
        for indices in order:
            self._position += 1
            yield self.collate_fn([self.dataset[index] for index in indices])

    def _ended(self, saved: dict[str, int] | None) -> tuple[int, int, int]:
        """Epochs that ended, batches of the one after them, and batches of each of them."""
        if saved is None:
            return 0, 0, 0
        each = saved.get("limit", len(self))
        if saved["position"] == each:
            return saved["epochs"], 0, each
        return saved["epochs"] - 1, saved["position"], each

    def _order(self) -> Iterator[list[int]]:
        """The indices of an epoch; a sampler that is asked for more draws once more.

        Lightning does not ask.
        """
        # Draws what the loader itself would from its generator, but reads nothing.
        order: DataLoader[int] = DataLoader(
            cast(Dataset[int], range(len(cast(Any, self.dataset)))),
            batch_sampler=self.batch_sampler,
            generator=self.generator,
            collate_fn=list,
        )
        return islice(cast(Iterator[list[int]], iter(order)), len(self))

    def _draw_again(self, epochs: int, each: int) -> list[int]:
        """Leave the generator as after so many epochs of so many batches; what is read in them."""
        if self.generator is not None:
            if self._at_first is None:
                self._at_first = self.generator.get_state()
            self.generator.set_state(self._at_first)
        if isinstance(self.dataset, NoisySequences):
            self.dataset.start_over()
        read: list[int] = []
        told = 0 if self.dealing is None else self.dealing.epoch
        for epoch in range(epochs):
            if self.dealing is not None:
                self.dealing.set_epoch(epoch)
            for indices in islice(self._order(), each):
                read.extend(indices)
        if self.dealing is not None:
            self.dealing.set_epoch(told)
        return read

    @property
    def dealing(self) -> DistributedSampler[Any] | None:
        """What deals batches out to ranks, whose order depends on the epoch that it is told."""
        sampler = getattr(self.batch_sampler, "sampler", None)
        return sampler if isinstance(sampler, DistributedSampler) else None

    def state_dict(self) -> dict[str, int]:
        """Epochs begun, batches handed out of the last, and after how many they end."""
        state = {"epochs": self._epochs, "position": self._position, "limit": epoch_length(self)}
        return self._saved or state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next iteration."""
        self._saved = dict(state) if state["epochs"] else None


class InOrder(DistributedSampler[Any], SequentialSampler):
    """Deals batches out to ranks in their order, and is no shuffling that Lightning turns off."""


class Limited(Protocol):
    """What knows where a Trainer ends its epochs."""

    limit: int | None

    def __len__(self) -> int: ...


class Resumable(Limited, Protocol):
    """What goes on where a state says, too."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""


def begin_after_epochs_of(trainer: L.Trainer, loader: Resumable) -> None:
    """Have a loader begin with the epoch that a Trainer has not read yet.

    A Trainer may ask for a loader anew in each epoch. Where it resumes, Lightning 2.6.6 restores
    the loader in mid-epoch alone, not at the end of one, where it saves by default.
    """
    progress: Any = trainer.fit_loop.epoch_progress.current
    loader.limit = batches_read_of(len(loader), trainer)
    # The fit that was saved may have had another limit, or ended in mid-epoch by max_steps.
    each = trainer.fit_loop.epoch_loop.batch_progress.total.ready // max(progress.processed, 1)
    each = max(each, loader.limit)
    loader.load_state_dict({"epochs": progress.processed, "position": each, "limit": each})


def epoch_length(loader: Limited) -> int:
    """Batches of a loader that make an epoch."""
    return len(loader) if loader.limit is None else loader.limit


def batches_read_of(batches: int, trainer: L.Trainer) -> int:
    """How many of an epoch's batches a Trainer trains on."""
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
