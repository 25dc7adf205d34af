"""The window: one inner loop in progress, between two restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lightning_fw.inner_loop import InnerLoop, require_infos, require_inner_loop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.record import RestartRecord
from lightning_fw.restarts import closes
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.window.anchor import Anchor
from lightning_fw.window.arithmetic import Arithmetic
from lightning_fw.window.buffers import places
from lightning_fw.window.call_order import require_anchor, require_evaluation
from lightning_fw.window.gradients import Gradients
from lightning_fw.window.graphs import GraphedArithmetic, are_worthwhile
from lightning_fw.window.host_copy import HostCopy
from lightning_fw.window.local import Joined, join
from lightning_fw.window.movable import movable
from lightning_fw.window.saved_settings import require_same, settings_in_words
from lightning_fw.window.statistics import WindowStatistics


class Window:
    """Moves parameters through the windows of a Frank-Wolfe inner loop.

    The weights stand at the anchor ω except inside :meth:`displaced`, where they stand at
    ω + d_{k−1}. One object serves all windows of a fit: momentum, radius and buffers outlive a
    restart. A step makes no host-device synchronization, :meth:`close` makes one.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Args:
        inner_loop: The settings; ``batches`` is the caller's matter.
        parameters: Trainable parameters, all on one device.
        infos: What balls need to know of each parameter, as :func:`.trainable` tells.
        statistics: Whether to keep what gaps, ball usage and the cosine of the record need.
        may_grow: Whether a pattern of a ProductBall may wait for parameters of a successor.

    Attributes:
        parameters: Those that it moves: given once, and with entries.
        restart: Windows closed before this one.
        anchor: ω, which it can copy, or restore in mid-evaluation.
        has_direction: Whether the window before left its direction in ``p.grad``.

    Raises:
        TypeError: If ``inner_loop`` is none, or ``parameters`` is a module.
        ValueError: If there are no parameters, they are not real floating-point tensors of one
            device, the ball cannot serve them, or needs ``infos`` that are not there.

    Example:
        >>> import torch
        >>> from lightning_fw import InnerLoop, L2Ball
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=2), [weight])
        >>> outer = torch.optim.SGD([weight], lr=0.5)
        >>> while not window.is_full:
        ...     with window.displaced():
        ...         weight.square().sum().backward()
        ...     window.step()
        >>> record = window.close()
        >>> outer.step()
        >>> weight.data
        tensor([2.7000, 3.6000])
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        parameters: Iterable[Tensor],
        infos: Sequence[ParameterInfo] | None = None,
        *,
        statistics: bool = True,
        may_grow: bool = False,
    ) -> None:
        require_inner_loop("inner_loop", inner_loop)
        self.parameters, self.infos = parameters, infos = movable(parameters, infos)
        require_infos(inner_loop, infos, may_grow=may_grow)
        self.inner_loop = inner_loop
        self.restart = self.outer_step = 0
        self.anchor = Anchor(parameters)
        self._gradients = Gradients(parameters)
        kind = GraphedArithmetic if are_worthwhile(inner_loop, parameters) else Arithmetic
        self._arithmetic = kind(inner_loop, parameters, self.infos)
        self._displacement = self._arithmetic.displacement
        self._first_count = HostCopy()
        self.statistics = WindowStatistics(inner_loop.restart_when, enabled=statistics)
        self.has_direction = False
        self._open()

    def _open(self) -> None:
        self._arithmetic.open(self.outer_step)
        self.attempts = 0
        self._first_count.forget()
        self.statistics.open()

    def succeed(self, previous: Window) -> None:
        """Take over from a window on other parameters what holds of those that both hold.

        It goes on in mid-window: a parameter that joins stands where it is, as one without a
        gradient so far does.
        """
        self.count_on(previous.restart, previous.outer_step)
        self.attempts, self.has_direction = previous.attempts, previous.has_direction
        self._first_count = previous._first_count
        self._arithmetic.succeed(previous._arithmetic)
        self._gradients.succeed(previous._gradients)
        self.statistics = previous.statistics
        self.statistics.renumber(places(previous.parameters, self.parameters))

    def count_on(self, restart: int, outer_step: int) -> None:
        """Open the window of these indices, which records and schedules of the radius go by."""
        self.restart, self.outer_step = restart, outer_step
        self._open()

    @property
    def k(self) -> Scalar:
        """Inner steps taken in this window; skipped ones do not count."""
        return self._displacement.k

    @property
    def radius(self) -> Scalar:
        """δ of this window."""
        return self._arithmetic.radius.now

    @property
    def is_full(self) -> bool:
        """Whether K inner steps were tried, so that it is time to close."""
        return self.attempts >= self.inner_loop.steps

    @property
    def is_fresh(self) -> bool:
        """Whether no evaluation of this window was made yet."""
        return self.attempts == 0 and self.holds == 0

    @property
    def holds(self) -> int:
        """Batches that wait for others to make an inner step."""
        return self._gradients.batches + self._gradients.skipped

    @contextmanager
    def displaced(self, *, drop_direction: bool = True) -> Iterator[None]:
        """The weights stand at ω + d_{k−1} inside, at ω before and after, also on an error.

        The direction of the window before is dropped from ``p.grad``; without ``drop_direction``
        call :meth:`drop_direction` before the backward pass.
        """
        if drop_direction:
            self.drop_direction()
        moves = self._displacement.has_moved and self.inner_loop.trajectory != "fixed"
        offsets, factor = self._displacement.offsets if moves else (None, 0.0)
        with self.anchor.displaced(offsets, factor * self.radius, self._displacement.moved):
            yield

    def drop_direction(self) -> None:
        """Drop what the window before left in ``p.grad``: its buffers belong to the next one."""
        if self.has_direction:
            self._gradients.drop()
            self._displacement.take_back()
            self.has_direction = False

    def accumulate(self, loss: Tensor | None = None) -> None:
        """Hold a batch's gradients and loss for the inner step to come; raises as :meth:`step`."""
        require_evaluation(self, "accumulate", self._displacement, loss)
        self._gradients.hold(loss)

    def skip(self) -> None:
        """Count a batch without gradients among those that wait for an inner step."""
        self._gradients.skipped += 1

    def step(self, loss: Tensor | None = None, *, last: bool = False) -> None:
        """Take one inner step along the gradients in ``p.grad``, and set these to None.

        After :meth:`accumulate` it is along the mean of these and of those held. A parameter
        without one steps toward ω; a NaN or an infinity skips the step for all, one of the K tried.

        Args:
            loss: The loss at this step, a scalar, for the record.
            last: Whether the caller closes the window next, full or not.

        Raises:
            RuntimeError: If the window is full, or ``p.grad`` still holds the direction before it.
            TypeError, ValueError: If the loss is no tensor of one entry.
        """
        require_evaluation(self, "step", self._displacement, loss)
        self.attempts += 1
        present, gradients, loss = self._gradients.take(loss)
        first, told = self.attempts == 1, self.statistics.enabled
        seen = gradients and self._arithmetic.step(
            gradients,
            present,
            loss,
            wants_gap=told and (first or last or self.is_full),
            wants_gradients=told and first,
        )
        if seen:
            self.statistics.see(seen, present, first=first)
        else:
            self.statistics.see_skipped()
        if first and not told:
            self._first_count.send(self._displacement.k)

    def wants_restart(self) -> bool:
        """Whether ``restart_when`` would close the window now; reads the device if it is set."""
        rule, d = self.inner_loop.restart_when, self._displacement
        return rule is not None and d.has_moved and closes(rule, self.statistics.progress(d))

    def close(
        self,
        *,
        early: bool = False,
        ended: bool = False,
        reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> RestartRecord:
        """Close the window: write the direction into ``p.grad`` and open the next one.

        A parameter without a gradient in the whole window keeps ``grad=None``; if every step was
        skipped, all do, and the outer optimizer has nothing to do. Batches still held make a step.

        Args:
            early: Whether a restart rule closed it, for the record.
            ended: Whether it is the epoch's last on this rank.
            reduce: Averages a tensor over ranks, for ``sync="restart"``; called once.

        Returns:
            The record of the window, its batches, evaluations and seconds left at 0.

        Raises:
            RuntimeError: Inside :meth:`displaced`.
            ValueError: With ``sync="restart"``, if ``ended`` is true on some ranks alone.
        """
        joined = self._joined(reduce, ended=ended)
        values = self._arithmetic.end(joined, self.statistics)
        record = self.statistics.record(
            values, self.infos, restart=self.restart, attempts=self.attempts, early=early
        )
        self._hand_over(joined, stepped=record.steps > 0)
        return record

    def close_untold(
        self, *, ended: bool = False, reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> None:
        """:meth:`close` without a record: it waits for the first step of the window, not the last.

        If that was skipped, it waits for all, and so it does with ``sync="restart"``.
        """
        joined = self._joined(reduce, ended=ended)
        stepped = self._first_count.read() > 0 or float(self._displacement.k) > 0
        self._hand_over(joined, stepped=stepped)

    def _joined(self, reduce: Callable[[Tensor], Tensor], *, ended: bool) -> Joined:
        require_anchor(self)
        if self._gradients.batches:
            self.step(last=True)
        slopes = self._arithmetic.radius.slopes()
        if self.inner_loop.sync == "restart":
            return join(self._displacement, slopes, reduce, ended=ended)
        return Joined(slopes)

    def _hand_over(self, joined: Joined, *, stepped: bool) -> None:
        """Write the direction into ``p.grad`` if there is one, and open the next window."""
        self._arithmetic.turn(joined.slopes)
        if stepped or (self.inner_loop.sync == "restart" and self._displacement.has_moved):
            self._displacement.hand_over()
            self.has_direction = True
            self.outer_step += 1
        else:
            self.drop_direction()
        self.restart += 1
        self._open()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights; ``torch.load(weights_only=True)`` reads it back."""
        return {
            "restart": self.restart,
            "outer_step": self.outer_step,
            "attempts": self.attempts,
            "inner_loop": settings_in_words(self.inner_loop),
            "gradients": self._gradients.state_dict(),
            **self._arithmetic.state_dict(),
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; the anchor is where the weights stand now.

        Raises:
            ValueError: If the state is of other parameters or other settings, or none.
        """
        require_same(state, self.inner_loop)
        self.count_on(state["restart"], state["outer_step"])
        self._arithmetic.load_state_dict(state)
        self.attempts = state["attempts"]
        self._gradients.load_state_dict(state["gradients"])
        self.statistics.load_state_dict(state["statistics"], self.parameters)
