"""InnerLoop: what the user chose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_fw.balls import Ball, L2Ball, ProductBall, SpectralBall
from lightning_fw.balls.product import require_all_patterns
from lightning_fw.checks import (
    require_choice,
    require_count,
    require_flag,
    require_kind,
    require_positive,
    require_share,
)
from lightning_fw.parameters import ParameterInfo
from lightning_fw.radius_rules import RadiusRule, RadiusSchedule, SlopeRatio
from lightning_fw.restarts import RestartRule
from lightning_fw.step_sizes import Harmonic, OpenLoop, StepSize

Batches = Literal["successive", "same", "split"]
Trajectory = Literal["anchored", "cumulative", "fixed"]
Direction = Literal["unit", "displacement"]
Sync = Literal["step", "restart"]


@dataclass(frozen=True, kw_only=True)
class InnerLoop:
    """The settings of the Frank-Wolfe inner loop; ``InnerLoop()`` alone is the paper's.

    A window of K steps, around the weights ω at which it opens::

        g_k = ∇ loss(ω + d_{k−1}; batch_k)
        s_k = argmin over the ball of ⟨g_k, s⟩
        d_k = (1 − γ_k) d_{k−1} + γ_k s_k

    then ω is restored and the outer optimizer steps along the direction.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Args:
        ball: The feasible set of displacements, with its radius δ.
        steps: K ≥ 1, inner steps a window.
        step_size: γ_k.
        batches: What each inner step sees. ``"successive"``: the next training batch, so that a
            window spans K batches; ``"same"``: the one batch, K times its cost; ``"split"``: one
            of K chunks of the batch along its first dimension.
        trajectory: ``"anchored"``: step k is evaluated at ω + d_{k−1}, as the paper states;
            ``"cumulative"``: at ω + Σ_{j<k} d_j, as the authors' released code does; ``"fixed"``:
            at ω, so that K atoms are averaged without an inner loop, to tell what it is worth.
        momentum: β in [0, 1): the oracle answers m_k = β m_{k−1} + (1 − β) g_k, kept across
            restarts.
        recurrent_momentum: β of recurrent weights, ``weight_hh…`` in torch's layers and those of
            :mod:`lightning_fw.nn`; None: the others'. Every step of the sequence passes through
            them, so that their gradients age soonest. Needs momentum.
        nesterov: Whether the oracle answers β m_k + (1 − β) g_k instead, which heeds the newest
            gradient more, as Muon does. Needs momentum.
        whitening: β in [0, 1) of the running average C of Σ g gᵀ over input and recurrent weights,
            of each gate of a recurrent layer whose units mix and read values, scaled to trace 1:
            of these the oracle answers C^{−1/2} m instead, so that directions in which single
            gradients are long for nothing count less. None: it does not.
        radius_rule: None, a schedule (outer step → factor on the radius), or :class:`SlopeRatio`,
            which starts at the ball's radius. A unit direction does not carry the radius to the
            outer step: decay its learning rate too, or pass ``direction="displacement"``.
        direction: What the outer optimizer gets as the gradient: ``"unit"``: −d_K / δ;
            ``"displacement"``: −d_K, so that ``SGD(lr=1)`` lands where the window ended.
        restart_when: None, or a rule that closes a window early.
        sync: When ranks talk. ``"step"``: gradients are averaged at every inner step, as DDP does;
            ``"restart"``: every rank runs its own window, and displacements are averaged once, when
            it closes. Their mean stays in the ball, which is convex.
        accumulate_grad_batches: Batches whose mean gradient makes one inner step, as one batch of
            their joint size would; fewer at the end of an epoch. A window spans that many times K
            batches. Needs ``batches="successive"``.

    Raises:
        TypeError: If a setting is of the wrong kind.
        ValueError: If a setting is out of its range, or ``SlopeRatio`` cannot see two slopes, or is
            to set radii of tensors that share a ball.

    Example:
        >>> from lightning_fw import L2Ball
        >>> loop = InnerLoop(ball=L2Ball(radius=1e-2), steps=5)
        >>> loop.outer([torch.nn.Parameter(torch.zeros(3))]).__class__.__name__
        'Adam'
    """

    ball: Ball = field(default_factory=L2Ball)
    steps: int = 5
    step_size: StepSize = field(default_factory=Harmonic)
    batches: Batches = "successive"
    trajectory: Trajectory = "anchored"
    momentum: float = 0.0
    recurrent_momentum: float | None = None
    nesterov: bool = False
    whitening: float | None = None
    radius_rule: RadiusSchedule | RadiusRule | None = None
    direction: Direction = "unit"
    restart_when: RestartRule | None = None
    sync: Sync = "step"
    accumulate_grad_batches: int = 1

    def __post_init__(self) -> None:
        require_kind("ball", self.ball, Ball, "L2Ball(radius=1e-2)")
        require_kind("step_size", self.step_size, StepSize, "Harmonic()")
        require_flag("nesterov", self.nesterov)
        if self.restart_when is not None:
            require_kind("restart_when", self.restart_when, RestartRule, "GapFraction(0.1)")
        require_choice("batches", self.batches, get_args(Batches))
        require_choice("trajectory", self.trajectory, get_args(Trajectory))
        require_choice("direction", self.direction, get_args(Direction))
        require_choice("sync", self.sync, get_args(Sync))
        require_count("steps", self.steps)
        require_count("accumulate_grad_batches", self.accumulate_grad_batches)
        if self.accumulate_grad_batches > 1 and self.batches != "successive":
            raise ValueError(
                f'`accumulate_grad_batches` must be 1 with batches="{self.batches}", got '
                f'{self.accumulate_grad_batches}. Pass batches="successive" to make an inner step '
                "of several batches."
            )
        self._check_momentum()
        self._check_radius_rule()

    def _check_momentum(self) -> None:
        require_share("momentum", self.momentum)
        for name in ("recurrent_momentum", "whitening"):
            if getattr(self, name) is not None:
                require_share(name, getattr(self, name), instead=", or None")
        for name, unused in {"nesterov": False, "recurrent_momentum": None}.items():
            value = getattr(self, name)
            if value is not unused and not self.momentum:
                raise ValueError(
                    f"`{name}` must be {unused} without momentum, got {value}. Pass momentum=0.9, "
                    "or leave it out."
                )

    def _check_radius_rule(self) -> None:
        rule = self.radius_rule
        if isinstance(rule, SlopeRatio):
            if not rule.minimum <= self.ball.radius <= rule.maximum:
                raise ValueError(
                    f"`radius` must be between SlopeRatio's minimum and maximum, got "
                    f"{self.ball.radius} outside [{rule.minimum}, {rule.maximum}]. "
                    "Pass a ball or a rule that fits the other."
                )
            if rule.own_share and not self.ball.is_per_tensor:
                raise ValueError(
                    f'`ball` must have scope="tensor" with SlopeRatio(own_share={rule.own_share}), '
                    f"got {self.ball}: a tensor's own radius is of a ball of its own. "
                    'Pass scope="tensor" or own_share=0.'
                )
            if self.steps < 2:
                raise ValueError(
                    f"`steps` must be at least 2 with SlopeRatio, got {self.steps}: it compares "
                    "the slopes at both ends of a window. Pass steps >= 2 or another radius_rule."
                )
            if self.trajectory == "fixed":
                raise ValueError(
                    '`trajectory` must be "anchored" or "cumulative" with SlopeRatio, got "fixed": '
                    "its slopes are of two points. Pass one of these or another radius_rule."
                )
            if self.batches == "same":
                raise ValueError(
                    '`batches` must be "successive" or "split" with SlopeRatio, got "same": its '
                    "slopes need fresh batches. Pass one of these or another radius_rule."
                )
        elif rule is not None and (isinstance(rule, type) or not callable(rule)):
            raise TypeError(
                f"`radius_rule` must be None, a schedule or SlopeRatio, got {rule!r}. "
                "Pass a callable from outer step to factor, such as CosineDecay(total_steps=1000)."
            )

    @classmethod
    def paper(cls) -> InnerLoop:
        """The paper's: l2 ball per tensor, radius 1e-2, K = 5, γ = 1/k, Adam outside."""
        return cls()

    @classmethod
    def authors(cls, lr: float) -> InnerLoop:
        """The authors' released code: δ equal to the learning rate, cumulative trajectory.

        Args:
            lr: Learning rate of the outer optimizer, and radius.

        Raises:
            TypeError: If ``lr`` is not a number.
            ValueError: If ``lr`` is not positive and finite.
        """
        require_positive("lr", lr)
        return cls(ball=L2Ball(radius=lr), trajectory="cumulative")

    @classmethod
    def spectral(cls) -> InnerLoop:
        """The recommended one: nothing to tune.

        Per-gate spectral ball, K = 2, Nesterov's momentum 0.9 and of recurrent weights 0.8,
        recurrent layers whitened, γ = 2/(k + 1), radii that set themselves; to go with
        ``SGD(lr=1.0, momentum=0.5, nesterov=True)`` outside, and best validated with
        :class:`~lightning_fw.AnchorAveraging`.
        """
        return cls(
            ball=SpectralBall(
                radius=0.015,
                scale_by_shape=True,
                gate_radius=3.0,
                input_radius=12.0,
                input_power=0.8,
                input_limit=3.0,
                symbol_radius=2.25,
                head_radius=2.5,
            ),
            steps=2,
            step_size=OpenLoop(),
            momentum=0.9,
            recurrent_momentum=0.8,
            nesterov=True,
            whitening=0.95,
            # Past the bottom along the way: momentum outside follows the valley all the same. A
            # spike of the slopes holds radii down for ten windows. Tensors have their own: a head's
            # overshoot on a plateau would shrink the recurrent weights' too, and the run stall.
            radius_rule=SlopeRatio(
                target=-0.5, early_rate=0.3, decay=0.9, own_share=0.4, minimum=4e-3, maximum=0.05
            ),
            direction="displacement",
        )

    def outer(self, params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """The outer optimizer that the direction was made for.

        A displacement goes with ``SGD(lr=1, momentum=0.5, nesterov=True)``, a unit direction with
        ``Adam(lr=radius)``, which moves an entry by about the radius; that of a ProductBall, whose
        parts have radii of their own, with ``SGD(lr=radius)``, which lands where the window ended.

        Args:
            params: Parameters or param groups, as for any torch optimizer.
        """
        if self.direction == "displacement":
            return torch.optim.SGD(params, lr=1.0, momentum=0.5, nesterov=True)
        if isinstance(self.ball, ProductBall):
            return torch.optim.SGD(params, lr=self.ball.radius)
        return torch.optim.Adam(params, lr=self.ball.radius)


def require_infos(
    inner_loop: InnerLoop, infos: Sequence[ParameterInfo] | None, *, may_grow: bool = False
) -> None:
    """Raise if the inner loop needs to know more of the parameters, or other ones.

    Args:
        inner_loop: The settings.
        infos: What is known of each parameter.
        may_grow: Whether a pattern of a ProductBall may wait for others.

    Raises:
        ValueError: If the ball cannot serve them, or settings go by names or groups that are
            missing.
    """
    ball = inner_loop.ball
    if infos is not None:
        ball.check(infos)
        if not may_grow:
            require_all_patterns(ball, [info.name for info in infos])
        return
    named = _goes_by(ball)
    named += ["recurrent_momentum"] if inner_loop.recurrent_momentum is not None else []
    named += ["whitening"] if inner_loop.whitening is not None else []
    if named:
        raise ValueError(
            f"`infos` must tell of parameters what {', '.join(named)} goes by, got None. "
            "Pass Window(inner_loop, *trainable(optimizer.param_groups, module))."
        )


def _goes_by(ball: Ball) -> list[str]:
    """The settings of a ball that go by names, gates or groups."""
    if isinstance(ball, ProductBall):
        patterns = [f"the pattern {pattern!r}" for pattern in ball.balls if pattern != "*"]
        return patterns + [name for part in ball.balls.values() for name in _goes_by(part)]
    absent = dict.fromkeys(("input_radius", "input_limit", "symbol_radius", "head_radius"))
    neutral = {"gate_radius": 1.0, "input_power": 0.0, **absent}
    named = [name for name, value in neutral.items() if getattr(ball, name, value) != value]
    return named + (['scope="group"'] if getattr(ball, "scope", None) == "group" else [])


def require_inner_loop(name: str, value: object) -> InnerLoop:
    """The value, if it is an InnerLoop; a TypeError otherwise."""
    if isinstance(value, InnerLoop):
        return value
    remedy = "Take InnerLoop() or a preset, called."
    if isinstance(value, Mapping):
        remedy = "LightningCLI's hparams hold its fields alone: keep the argument in an attribute."
    raise TypeError(f"`{name}` must be an InnerLoop, got {value!r}. {remedy}")
