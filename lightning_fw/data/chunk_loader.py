"""Batches of sequences, cut along time as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, cast

from torch import Tensor

from lightning_fw.data.noise import NoisySequences
from lightning_fw.data.sequence_loader import SequenceLoader, epoch_length
from lightning_fw.data.sequences import Loader, Sequences


class Chunk(NamedTuple):
    """Some time steps of a batch of sequences.

    Attributes:
        x: Shape (batch, time, input_size).
        y: Targets of the sequences, or, one a step, of these steps.
        starts: Whether the sequences start here.
        share: Time steps of the chunk and of the sequences: share[0] / share[1] is what the chunk
            costs of a gradient evaluation on the whole batch.

    Example:
        >>> import torch
        >>> chunk = Chunk(torch.zeros(4, 5, 2), torch.zeros(4), starts=True, share=(5, 20))
        >>> chunk[0] is chunk.x, chunk.share[0] / chunk.share[1]
        (True, 0.25)
    """

    x: Tensor
    y: Tensor
    starts: bool
    share: tuple[int, int]


def cut(x: Tensor, y: Tensor, chunk_length: int, *, per_step: bool) -> Iterator[Chunk]:
    """The chunks of a batch, in order; the last may be shorter.

    Args:
        x: Sequences of shape (batch, time, input_size).
        y: Their targets.
        chunk_length: Time steps of a chunk.
        per_step: Whether there is a target a step, to be cut too; otherwise each chunk has those
            of the sequences.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(4, 10, 2), torch.zeros(4)
        >>> [(tuple(c.x.shape), c.starts, c.share) for c in cut(x, y, 6, per_step=False)]
        [((4, 6, 2), True, (6, 10)), ((4, 4, 2), False, (4, 10))]
    """
    length = x.shape[1]
    for start in range(0, length, chunk_length):
        steps = slice(start, min(start + chunk_length, length))
        targets = y[:, steps] if per_step else y
        yield Chunk(x[:, steps], targets, start == 0, (steps.stop - start, length))


class ChunkLoader:
    """The batches of a loader in its order, epoch after epoch, each as its chunks.

    It can be resumed in mid-epoch, in mid-sequence too: order and noise are drawn again as far as
    they had come.

    Args:
        loader: Of a split of a :class:`~lightning_fw.data.SequenceData`.
        chunk_length: Time steps of a chunk.
        per_step: Whether targets are cut, too.

    Attributes:
        limit: Chunks after which a Trainer ends an epoch; None: there are no more. Data modules
            set it.

    Example:
        >>> from lightning_fw.data import AddingProblem
        >>> data = AddingProblem(sequence_length=20, train_size=100)
        >>> loader = ChunkLoader(data.train_dataloader(), 8, per_step=False)
        >>> len(loader), next(iter(loader)).share
        (6, (8, 20))
        >>> loader.state_dict()
        {'epochs': 1, 'position': 1, 'limit': 6}
    """

    def __init__(self, loader: Loader, chunk_length: int, *, per_step: bool) -> None:
        self._batches = SequenceLoader(
            loader.dataset,
            batch_sampler=loader.batch_sampler,
            generator=loader.generator,
            collate_fn=loader.collate_fn,
        )
        self._chunk_length = chunk_length
        self._per_step = per_step
        # Where Lightning looks for a sampler to tell the epoch, and whether it shuffles.
        self.sampler = self._batches.dealing or loader.sampler
        length = time_steps(cast(Sequences, loader.dataset))
        self._chunks_a_batch = -(-length // chunk_length)
        self.limit: int | None = None
        self._position = 0
        self._saved: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._batches) * self._chunks_a_batch

    def __iter__(self) -> Iterator[Chunk]:
        rest = self._position = 0
        if self._saved is not None:
            state, self._saved = self._saved, None
            limit = state.get("limit", len(self))
            batches = -(-limit // self._chunks_a_batch)
            whole = batches
            if state["position"] != limit:
                self._position = state["position"]
                whole, rest = divmod(self._position, self._chunks_a_batch)
            self._batches.load_state_dict({**state, "position": whole, "limit": batches})
        for x, y in self._batches:
            chunks = cut(x, y, self._chunk_length, per_step=self._per_step)
            for chunk in islice(chunks, rest, None):
                self._position += 1
                yield chunk
            rest = 0

    def state_dict(self) -> dict[str, int]:
        """Epochs begun, chunks handed out of the last, and after how many they end."""
        epochs = self._batches.state_dict()["epochs"]
        state = {"epochs": epochs, "position": self._position, "limit": epoch_length(self)}
        return self._saved or state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next iteration."""
        self._saved = dict(state) if state["epochs"] else None


def time_steps(dataset: Sequences) -> int:
    """Of each sequence; noise that is drawn at each reading is not drawn."""
    if isinstance(dataset, NoisySequences):
        return dataset.time_steps
    return int(dataset.tensors[0].shape[1])
