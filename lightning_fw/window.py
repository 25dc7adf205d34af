"""The window: one inner loop in progress, between two restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lightning_fw.anchor import Anchor
from lightning_fw.balls._base import Atoms
from lightning_fw.displacement import Displacement
from lightning_fw.foreach import mask_, pick, tensor_norms, working_dtype
from lightning_fw.gradients import Gradients
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.local_windows import share
from lightning_fw.momentum import Momentum
from lightning_fw.parameters import ParameterInfo, require_movable
from lightning_fw.radius import Radius
from lightning_fw.record import RestartRecord
from lightning_fw.scalars import Scalar, at_least, is_finite, scalars, total
from lightning_fw.statistics import WindowStatistics, slope_along


class Window:
    """Moves parameters through the windows of a Frank-Wolfe inner loop.

    The weights stand at the anchor ω except inside :meth:`displaced`, where they stand at
    ω + d_{k−1}. One object serves all windows of a fit: momentum, radius and buffers outlive a
    restart. A step makes no host-device synchronization, :meth:`close` makes one.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Args:
        inner_loop: The settings; ``batches`` is the caller's matter.
        parameters: Trainable parameters, all on one device.
        infos: What balls need to know of each parameter.
        statistics: Whether to keep what gaps, ball usage and the cosine of the record need: a
            pass or two over the parameters a window, and a copy of the first gradient.

    Attributes:
        anchor: ω, which it can copy, or restore in mid-evaluation.
        has_direction: Whether the window before left its direction in ``p.grad``.

    Raises:
        ValueError: If there are no parameters, they are not real floating-point tensors of one
            device, or the ball cannot serve them.

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
        parameters: Sequence[Tensor],
        infos: Sequence[ParameterInfo] | None = None,
        *,
        statistics: bool = True,
    ) -> None:
        require_movable(parameters)
        if infos is not None:
            inner_loop.ball.check(infos)
        self.inner_loop = inner_loop
        self.parameters = list(parameters)
        self.infos = None if infos is None else list(infos)
        self.restart = 0
        self.outer_step = 0
        self.anchor = Anchor(parameters)
        self._gradients = Gradients(parameters)
        self._displacement = Displacement(
            parameters, cumulative=inner_loop.trajectory == "cumulative"
        )
        self._momentum = Momentum(inner_loop, parameters, infos)
        self._radius = Radius(inner_loop, parameters)
        self.statistics = WindowStatistics(enabled=statistics)
        self.has_direction = False
        self._open()

    def _open(self) -> None:
        self.radius = self._radius.open(self.outer_step)
        self.attempts = 0
        self._displacement.reset()
        self.statistics.open()

    def succeed(self, previous: Window) -> None:
        """Take over from a window on other parameters what holds of those that both move."""
        self._momentum.succeed(previous._momentum)
        self._radius.succeed(previous._radius)
        self.count_on(previous.restart, previous.outer_step)

    def count_on(self, restart: int, outer_step: int) -> None:
        """Open the window of these indices, which records and schedules of the radius go by."""
        self.restart, self.outer_step = restart, outer_step
        self._open()

    @property
    def k(self) -> Scalar:
        """Inner steps taken in this window; skipped ones do not count."""
        return self._displacement.k

    @property
    def is_full(self) -> bool:
        """Whether K inner steps were tried: time to close."""
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

        Args:
            drop_direction: Whether to drop the direction of the window before from ``p.grad``; if
                not, call :meth:`drop_direction` before the backward pass.
        """
        if drop_direction:
            self.drop_direction()
        if not self._displacement.has_moved or self.inner_loop.trajectory == "fixed":
            yield
            return
        offsets, factor = self._displacement.offsets
        with self.anchor.displaced(offsets, factor * self.radius):
            yield

    def drop_direction(self) -> None:
        """Drop what the window before left in ``p.grad``: its buffers belong to the next one."""
        if self.has_direction:
            self._gradients.drop()
            self.has_direction = False

    def accumulate(self, loss: Tensor | None = None) -> None:
        """Hold gradients and loss of a batch for the inner step to come; without a loss neither."""
        if loss is None:
            self._gradients.skipped += 1
        else:
            self._gradients.hold(loss)

    def step(self, loss: Tensor | None = None, *, last: bool = False) -> None:
        """Take one inner step along the gradients in ``p.grad``, and set these to None.

        After :meth:`accumulate` it is along the mean of these and of those held.
        A parameter without a gradient stays where it is. A gradient with a NaN or an infinity
        skips the step for all parameters; it counts as one of the K tried.

        Args:
            loss: The loss at this step, a scalar, for the record.
            last: Whether the caller closes the window next, full or not.
        """
        self.attempts += 1
        present, gradients, loss = self._gradients.take(loss)
        norms = scalars(tensor_norms(gradients))
        finite = is_finite(total(norms))
        if finite is False or not gradients:
            self.statistics.see_skipped()
            return
        weight: Scalar = 1
        if isinstance(finite, Tensor):
            gradients = mask_(gradients, ~finite)
            norms = mask_(norms, ~finite)  # type: ignore[arg-type]
            weight = finite.to(working_dtype(gradients[0].dtype))
        self._radius.meet(self.k, gradients, present, weight)
        first = self.attempts == 1
        self.statistics.see_step(gradients, present, loss, weight, first=first)
        atoms, gap, squared_distance = self._atoms(
            gradients, norms, present, weight, first=first, last=last or self.is_full
        )
        step_size = self.inner_loop.step_size(self.k + 1, gap, squared_distance)
        self._displacement.toward(
            atoms, present, step_size, weight, noise=self.inner_loop.restart_when is not None
        )

    def _atoms(
        self,
        gradients: list[Tensor],
        norms: Sequence[Scalar] | None,
        present: list[int],
        weight: Scalar,
        *,
        first: bool,
        last: bool,
    ) -> tuple[Atoms, Scalar | None, Scalar | None]:
        """The atoms / δ, and where they are needed the gap and ‖d_{k−1} − s_k‖²."""
        loop, infos = self.inner_loop, self.infos and pick(self.infos, present)
        averages = self._momentum.average(gradients, present, weight)
        if averages is not gradients:
            gradients, norms = averages, None
        for_rules = loop.step_size.needs_gap or loop.restart_when is not None
        atoms = self._radius.stretch(loop.ball.atoms(gradients, infos, norms), present, weight)
        gap = distance = None
        if for_rules or (self.statistics.enabled and (first or last)):
            dual = -slope_along(gradients, atoms) if atoms.dual_norm is None else atoms.dual_norm
            # d_{k−1} itself lies in the ball; an oracle short of the minimum would tell less.
            gap = at_least(self.radius * (self._displacement.along(gradients, present) + dual), 0.0)
            self.statistics.see_gap(gap, weight, first=first)
        if loop.step_size.needs_gap:
            distance = self.radius**2 * self._displacement.squared_distance_to(atoms, present)
        return atoms, gap, distance

    def wants_restart(self) -> bool:
        """Whether ``restart_when`` would close the window now; reads the device if it is set."""
        rule = self.inner_loop.restart_when
        if rule is None or not self._displacement.has_moved:
            return False
        return bool(rule(self.statistics.progress(self._displacement)))

    def close(
        self,
        *,
        early: bool = False,
        ended: bool = False,
        reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> RestartRecord:
        """Close the window: write the direction into ``p.grad`` and open the next one.

        A parameter without a gradient in the whole window keeps ``grad=None``; if every step was
        skipped, all do, and the outer optimizer has nothing to do.

        Args:
            early: Whether a restart rule closed it, for the record.
            ended: Whether it is the epoch's last on this rank.
            reduce: Averages a tensor over ranks, for ``sync="restart"``; called once.

        Returns:
            The record of the window, its batches, evaluations and seconds left at 0.
        """
        sync, slopes = self.inner_loop.sync, self._radius.slopes()
        joined = share(sync, self._displacement, slopes, reduce, ended=ended)
        self._radius.close(joined.slopes)
        record = self.statistics.record(
            self._displacement,
            self.inner_loop.ball,
            self.infos,
            self._radius.own,
            restart=self.restart,
            attempts=self.attempts,
            early=early,
            radius=self.radius,
            slope_ratio=self._radius.slope_ratio(),
            agreement=joined.agreement,
        )
        if record.steps or (sync == "restart" and self._displacement.has_moved):
            unit = self.inner_loop.direction == "unit"
            self._displacement.hand_over(-1.0 if unit else -1.0 * self.radius)
            self.has_direction = True
            self.outer_step += 1
        self.restart += 1
        self._open()
        return record

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights; ``torch.load(weights_only=True)`` reads it back."""
        return {
            "restart": self.restart,
            "outer_step": self.outer_step,
            "attempts": self.attempts,
            "gradients": self._gradients.state_dict(),
            "displacement": self._displacement.state_dict(),
            "momentum": self._momentum.state_dict(),
            "slopes": self._radius.state_dict(),
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; the anchor is where the weights stand now.

        Raises:
            ValueError: If the state is of other parameters or other settings.
        """
        self._momentum.load_state_dict(state["momentum"])
        self._radius.load_state_dict(state["slopes"])
        self.count_on(state["restart"], state["outer_step"])
        self._displacement.load_state_dict(state["displacement"])
        self.attempts = state["attempts"]
        self._gradients.load_state_dict(state["gradients"])
        self.statistics.load_state_dict(state["statistics"], self.parameters)
