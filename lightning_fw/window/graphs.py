"""CUDA graphs of a window's arithmetic: one launch where there were a hundred."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    ProductBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.radius_rules import SlopeRatio
from lightning_fw.step_sizes import ConstantStep, Harmonic, OpenLoop, ShortStep
from lightning_fw.tensors.foreach import copy_
from lightning_fw.tensors.scalars import Gathered
from lightning_fw.tensors.shards import any_sharded
from lightning_fw.window.arithmetic import Arithmetic
from lightning_fw.window.local import Joined
from lightning_fw.window.statistics import Seen, WindowStatistics

T = TypeVar("T")

# Beyond it the arithmetic takes longer than its launches, and a copy of the gradients costs more.
_MOST_ENTRIES = 2**24

# More kinds of calls than windows have: what has more is not the same from window to window.
_MOST_KINDS = 32

# Their arithmetic reads no number off the device; nobody knows of those that users write.
_BALLS = (L1Ball, L2Ball, LinfBall, LpBall, RMSBall, RowBall, NuclearBall)
_STEP_SIZES = (Harmonic, OpenLoop, ConstantStep, ShortStep)


def are_worthwhile(inner_loop: InnerLoop, parameters: Sequence[Tensor]) -> bool:
    """Whether a window on these parameters can be captured, and gains by it.

    A schedule of the radius hands over numbers, which a graph would keep.
    """
    rule = inner_loop.radius_rule
    return (
        parameters[0].is_cuda
        and _only_launches(inner_loop.ball)
        and type(inner_loop.step_size) in _STEP_SIZES
        and (rule is None or type(rule) is SlopeRatio)
        and not any_sharded(parameters)
        and sum(p.numel() for p in parameters) <= _MOST_ENTRIES
    )


def _only_launches(ball: Ball) -> bool:
    if type(ball) is ProductBall:
        return all(map(_only_launches, ball.balls.values()))
    if type(ball) is SpectralBall:
        return ball.oracle == "newton_schulz"
    return type(ball) in _BALLS


class Graphs:
    """Runs functions that do no more than launch kernels, and replays what they launch.

    Each is run as it is at first, which loads what it needs, captured at the second call, and
    replayed from then on. One that cannot be captured goes on as it is, with a warning.

    Copies, and what is unpickled, start anew.

    Args:
        device: Where they launch, which need not be the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: set[Hashable] = set()
        self._captured: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        self._inputs: dict[Hashable, list[Tensor]] = {}
        self._refused = False

    def __reduce__(self) -> tuple[type[Graphs], tuple[torch.device]]:
        return Graphs, (self._device,)

    def run(
        self,
        key: Hashable,
        function: Callable[[list[Tensor]], T],
        tensors: Sequence[Tensor] = (),
        undo: Callable[[], None] = lambda: None,
    ) -> T:
        """``function`` of the tensors, which it may change.

        Args:
            key: All else that decides what it launches.
            function: What it changes must stay at its address, and what it returns is written
                again at the next call with the same key.
            tensors: Its input.
            undo: Takes back what it does on the host, where it cannot be captured.
        """
        with torch.cuda.device(self._device):
            if torch.cuda.is_current_stream_capturing():
                return function(list(tensors))
            return self._run(key, function, tensors, undo)

    def _run(
        self,
        key: Hashable,
        function: Callable[[list[Tensor]], T],
        tensors: Sequence[Tensor],
        undo: Callable[[], None],
    ) -> T:
        if self._refused:
            return function(list(tensors))
        kinds = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        key = key, kinds
        if key not in self._known:
            if len(self._known) < _MOST_KINDS:
                self._known.add(key)
            return function(list(tensors))
        if kinds not in self._inputs:
            self._inputs[kinds] = [torch.empty_like(tensor) for tensor in tensors]
        inputs = self._inputs[kinds]
        if key not in self._captured:
            self._capture(key, function, inputs)
            if self._refused:
                undo()
                return function(list(tensors))
        if tensors:
            copy_(inputs, tensors)
        graph, result = self._captured[key]
        graph.replay()
        found: T = result
        return found

    def _capture(
        self, key: Hashable, function: Callable[[list[Tensor]], T], inputs: list[Tensor]
    ) -> None:
        try:
            self._captured[key] = self._record(lambda: function(list(inputs)))
        except RuntimeError as error:
            self._refused = True
            warnings.warn(
                f"The inner loop cannot be captured as a CUDA graph, and goes on without: {error}",
                stacklevel=2,
            )

    def _record(self, function: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        # With memory of its own: what one returns must outlive the replays of others.
        graph = torch.cuda.CUDAGraph()
        # A capture that fails leaves its own stream current. Threads that load batches may call
        # what a capture of all of them forbids.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(
                graph, stream=_capture_stream(self._device), capture_error_mode="thread_local"
            ),
        ):
            result = function()
        return graph, result


@lru_cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One for each device: torch's own is of the device that captured first."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


class GraphedArithmetic(Arithmetic):
    """The arithmetic of a window on CUDA, where to launch it takes longer than to do it."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._device = self.displacement.tensors[0].device
        self._graphs = Graphs(self._device)
        # Whether all steps of the window were of all parameters.
        self._is_whole = False

    def step(
        self,
        gradients: list[Tensor],
        present: list[int],
        loss: Tensor | None,
        *,
        wants_gap: bool,
        wants_gradients: bool,
    ) -> Seen | None:
        take = partial(super().step, wants_gap=wants_gap, wants_gradients=wants_gradients)
        displacement = self.displacement
        self._is_whole = len(present) == len(displacement.tensors) and (
            self._is_whole or not displacement.has_moved
        )
        if not self._is_whole:
            return take(gradients, present, loss)
        losses = [] if loss is None else [loss.detach().reshape(()).to(self._device)]
        seen = self._graphs.run(
            ("step", displacement.factor, wants_gap, wants_gradients),
            lambda tensors: take(tensors[: len(present)], present, tensors[-1] if losses else None),
            [*gradients, *losses],
            partial(displacement.note, displacement.factor, list(displacement.moved)),
        )
        displacement.mark_moved(present)
        return seen

    def end(self, joined: Joined, statistics: WindowStatistics) -> Gathered:
        end = partial(super().end, joined, statistics)
        if self._inner_loop.sync == "restart" or not self._is_whole:
            return end()
        key = ("end", self.displacement.factor, statistics.identity())
        return self._graphs.run(key, lambda _: end())

    def turn(self, slopes: Tensor | None) -> None:
        turn = partial(super().turn, slopes)
        if self._inner_loop.sync == "step" and self._is_whole:
            self._graphs.run(("turn", self.displacement.factor), lambda _: turn())
        else:
            turn()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        # Those of before know nothing of what is missing in the state.
        self._graphs = Graphs(self._device)
