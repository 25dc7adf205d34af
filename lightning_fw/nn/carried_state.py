"""A recurrent state that goes from batch to batch, for truncated back-propagation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.apply_func import apply_to_collection
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, distributed
from typing_extensions import override

from lightning_fw.data.chunk_loader import Chunk

# As the recurrent layers return it: (layers, batch, hidden_size), of an LSTM two of them.
State = Tensor | tuple[Tensor, ...]

_KEY = "carried_state"


class CarriedState:
    """Where the batch in progress starts, and where it ended.

    Attributes:
        start: The state that the batch starts from, however often it is evaluated; None: zeros.
        end: The state at its end, detached; None before it was evaluated.
        carries: Whether there is anything to carry.

    Example:
        >>> rnn, carried = torch.nn.GRU(2, 3, batch_first=True), CarriedState()
        >>> carried.advance(starts=True)
        >>> carried.keep(rnn(torch.ones(4, 5, 2))[1])
        >>> carried.advance(starts=False)
        >>> tuple(carried.start_of(torch.ones(4, 5, 2)).shape)
        (1, 4, 3)
    """

    def __init__(self) -> None:
        self.start: State | None = None
        self.end: State | None = None
        self.carries = False

    def advance(self, *, starts: bool) -> None:
        """Go on to the next batch.

        Args:
            starts: Whether its sequences start, from zeros.
        """
        self.start, self.end = None if starts else self.end, None
        self.carries = True

    def drop(self) -> None:
        """Carry nothing."""
        self.start = self.end = None
        self.carries = False

    def start_of(self, inputs: Tensor) -> State | None:
        """The start for inputs of shape (batch, …); None also where they are of another size."""
        first = self.start[0] if isinstance(self.start, tuple) else self.start
        if first is None or first.shape[1] != len(inputs):
            return None
        # Of a checkpoint it comes on the CPU.
        start: State = _map(self.start, lambda state: state.to(inputs.device))
        return start

    def keep(self, end: State) -> None:
        """Note where the batch ended."""
        # A sample that is not finite would stay in the state of its row to the end of an epoch.
        self.end = _map(end, lambda state: state.detach().nan_to_num(0.0, 0.0, 0.0))


def _map(state: Any, function: Any) -> Any:
    return apply_to_collection(state, Tensor, function)


class CarriesState(L.LightningModule):
    """Starts a training batch where the one before it ended, where batches go on.

    That is so for a :class:`~lightning_fw.data.chunks.Chunk`, but for those with which sequences
    start, and, in training and evaluation, for all of an epoch's batches of a network that
    ``always_carries``. A network reads through :meth:`read`; what is read outside of the steps of
    training and evaluation starts from zeros and leaves the carried state as it is.

    Raises:
        ValueError: In training, if a state is to be carried and the network reads in both
            directions, or the inner loop splits batches.
    """

    always_carries = False
    bidirectional: bool

    def __init__(self) -> None:
        super().__init__()
        self._in_training, self._in_evaluation = CarriedState(), CarriedState()
        self._reading: CarriedState | None = None

    def read(self, rnn: torch.nn.Module, inputs: Tensor) -> Tensor:
        """The states of all steps, (batch, time, width)."""
        states: Tensor
        if self._reading is None or not self._reading.carries:
            states, _ = rnn(inputs)
            return states
        states, end = rnn(inputs, self._reading.start_of(inputs))
        self._reading.keep(end)
        return states

    @contextmanager
    def carrying(self, state: CarriedState) -> Iterator[None]:
        """What is read inside starts from a state, and leaves its end there."""
        self._reading = state
        try:
            yield
        finally:
            self._reading = None

    @override
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        stop = super().on_train_batch_start(batch, batch_idx)
        if not self.always_carries and not isinstance(batch, Chunk):
            self._in_training.drop()
            return stop
        starts = batch_idx == 0 or (isinstance(batch, Chunk) and batch.starts)
        if starts:
            self._require_carriable()
        self._in_training.advance(starts=starts)
        return stop

    @override
    def on_validation_batch_start(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        super().on_validation_batch_start(batch, batch_idx, dataloader_idx)
        self._on_evaluation_batch_start(batch_idx)

    @override
    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().on_test_batch_start(batch, batch_idx, dataloader_idx)
        self._on_evaluation_batch_start(batch_idx)

    @override
    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().on_predict_batch_start(batch, batch_idx, dataloader_idx)
        self._on_evaluation_batch_start(batch_idx)

    def _on_evaluation_batch_start(self, batch_idx: int) -> None:
        if self.always_carries:
            self._in_evaluation.advance(starts=batch_idx == 0)

    @override
    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        self._in_evaluation.drop()

    def _require_carriable(self) -> None:
        if self.bidirectional:
            raise ValueError(
                "`bidirectional` must be False to train on chunks, got True: backwards, a state "
                "comes from a chunk that is yet to be read. Leave it out, or train on whole "
                "sequences."
            )
        configure: Any = getattr(self, "configure_frank_wolfe", None)
        if configure is not None and configure().batches == "split":
            raise ValueError(
                '`batches` must be "successive" or "same" with a state carried from batch to '
                'batch, got "split": its parts are of other rows. Pass one of these.'
            )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._in_training.carries:
            end = self._in_training.end
            mine = _map(self._in_training.start if end is None else end, Tensor.cpu)
            checkpoint[_KEY] = _of_all_ranks(self, mine)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._in_training.drop()
        ranks = checkpoint.get(_KEY)
        if ranks is None:
            return
        trainer = self._trainer
        rank, count = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        if len(ranks) == count:
            self._in_training.end = ranks[rank]
            self._in_training.carries = True
        elif trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            rank_zero_warn(
                f"The checkpoint has the states that {len(ranks)} ranks carried, and {count} go "
                "on. They start from zeros."
            )


def _of_all_ranks(module: L.LightningModule, mine: State | None) -> list[State | None]:
    """Every rank's state; of a rank that fails, which may be alone in it, its own."""
    trainer = module._trainer
    if trainer is None or trainer.world_size == 1 or trainer.interrupted:
        return [mine]
    states: list[State | None] = [None] * trainer.world_size
    distributed.all_gather_object(states, mine)
    return states
