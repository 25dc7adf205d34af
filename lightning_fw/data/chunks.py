"""Sequences in chunks along time, for truncated back-propagation."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.chunk_loader import Chunk, ChunkLoader
from lightning_fw.data.sequence_loader import begin_after_epochs_of
from lightning_fw.data.sequences import Kind, Loader, SequenceData
from lightning_fw.data.text import TextData

__all__ = ["Chunk", "InChunks"]

# Lightning calls those of the module, unless the data have their own.
_OF_BATCHES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class InChunks(L.LightningDataModule):
    """Trains on chunks along time of another module's sequences: truncated back-propagation.

    A training batch of the wrapped data becomes ⌈T / chunk_length⌉ batches, one a chunk and in the
    order of time, the last of which may be shorter. Each is a :class:`.Chunk`, whose ``batch[0]``
    and ``batch[1]`` are x and y. Order, batches and noise are those that the wrapped data would
    train on: joined along time, a batch's chunks are its batch, on each rank its own. The networks
    of :mod:`lightning_fw.nn` carry their state, detached, from chunk to chunk.

    With one target a sequence the loss is taken at the end of each chunk, against that target.

    Validation and test read whole sequences. Hooks of the wrapped data are called, too, those of
    batches with each chunk.

    Args:
        data: The sequences.
        chunk_length: Time steps of a chunk; from T on, a sequence is one chunk.

    Attributes:
        data: The sequences.
        kind: The wrapped data's, and so are ``input_size`` and ``output_size``.

    Raises:
        TypeError: If ``data`` is no SequenceData, or ``chunk_length`` not an int.
        ValueError: If ``chunk_length`` < 1.

    Example:
        >>> from lightning_fw.data import AddingProblem
        >>> data = InChunks(AddingProblem(sequence_length=20, train_size=100), chunk_length=8)
        >>> [(tuple(batch.x.shape), batch.starts) for batch in data.train_dataloader()][:4]
        [((50, 8, 2), True), ((50, 8, 2), False), ((50, 4, 2), False), ((50, 8, 2), True)]
    """

    def __init__(self, data: SequenceData, chunk_length: int) -> None:
        super().__init__()
        if isinstance(data, TextData):
            raise TypeError(
                f"`data` must be a SequenceData, got a {type(data).__name__}, which comes in "
                "chunks already. Pass it as it is, with a chunk_length of its own."
            )
        if not isinstance(data, SequenceData):
            raise TypeError(
                f"`data` must be a SequenceData, got {data!r}. Pass one such as AddingProblem()."
            )
        require_count("chunk_length", chunk_length)
        self.data = data
        self.chunk_length = chunk_length
        for hook in _OF_BATCHES:
            if is_overridden(hook, data):
                setattr(self, hook, getattr(data, hook))

    @property
    def kind(self) -> Kind:
        """The wrapped data's."""
        return self.data.kind

    @property
    def reads_symbols(self) -> bool:
        """Whether sequences are of symbols, each a one-hot vector."""
        return self.data.reads_symbols

    @property
    def input_size(self) -> int:
        """Channels of a sequence."""
        return self.data.input_size

    @property
    def output_size(self) -> int:
        """Numbers or classes to predict."""
        return self.data.output_size

    @override
    def prepare_data(self) -> None:
        self.data.trainer = self.trainer
        self.data.prepare_data()

    @override
    def setup(self, stage: str) -> None:
        self.data.trainer = self.trainer
        self.data.setup(stage)

    @override
    def teardown(self, stage: str) -> None:
        self.data.teardown(stage)

    @override
    def on_exception(self, exception: BaseException) -> None:
        self.data.on_exception(exception)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.data.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.data.load_state_dict(state_dict)

    @override
    def train_dataloader(self) -> ChunkLoader:
        loader = self.data.train_dataloader()
        if self.trainer is not None:
            # Lightning 2.6.6 gives each rank rows of its own in a DataLoader alone, to train on in
            # random order whatever the loader's was.
            connector: Any = self.trainer._data_connector
            loader = connector._prepare_dataloader(loader, True, RunningStage.TRAINING)
        per_step = self.kind == "classification_per_step"
        chunks = ChunkLoader(loader, self.chunk_length, per_step=per_step)
        if self.trainer is not None:
            begin_after_epochs_of(self.trainer, chunks)
        return chunks

    @override
    def val_dataloader(self) -> Loader:
        return self.data.val_dataloader()

    @override
    def test_dataloader(self) -> Loader:
        return self.data.test_dataloader()

    @override
    def predict_dataloader(self) -> Loader:
        return self.data.predict_dataloader()
