"""What is timed: optimizers' steps and inner steps, on one module's parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, NamedTuple, get_args

import torch
from torch import nn

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.balls._vector import Scope
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import trainable
from lightning_fw.tensors.foreach import copy_, tensor_norms
from lightning_fw.tensors.scalars import on_host
from lightning_fw.window import Window

COPY = "copy of the weights"
REFERENCE = "Adam, fused"

# A copy reads and writes 4 bytes a parameter.
COPIED_BYTES = 8

_SCOPES = get_args(Scope)
BALLS: dict[str, Sequence[Ball]] = {
    "l2": [L2Ball(scope=scope) for scope in _SCOPES],
    "linf": [LinfBall(scope=scope) for scope in _SCOPES],
    "rms": [RMSBall(scope=scope) for scope in _SCOPES],
    "l1": [L1Ball(scope=scope) for scope in _SCOPES],
    "lp": [LpBall(3.0, scope=scope) for scope in _SCOPES],
    "row": [RowBall()],
    "spectral": [SpectralBall(), SpectralBall(oracle="svd")],
    "nuclear": [NuclearBall()],
}


class Contender(NamedTuple):
    """Something to time: ``prepare`` runs before every ``run``, outside the clock.

    Attributes:
        floor: Bytes a parameter that it cannot do without; None: not known.
    """

    name: str
    prepare: Callable[[], None]
    run: Callable[[], object]
    floor: int | None = None


def list_contenders(module: nn.Module, balls: Collection[str]) -> list[Contender]:
    """Optimizer steps and inner steps on one module's parameters.

    Args:
        module: Whose parameters stay where they are, up to steps of about 1e-9.
        balls: Keys of ``BALLS``.
    """
    parameters = list(module.parameters())
    give_gradients = gradients_for(parameters)
    copies = [torch.empty_like(p) for p in parameters]
    found = [
        Contender(
            COPY, lambda: None, torch.no_grad()(lambda: copy_(copies, parameters)), COPIED_BYTES
        ),
        *_optimizer_steps(parameters, give_gradients),
        naive_step(parameters, give_gradients),
    ]
    for name in balls:
        for ball in BALLS[name]:
            loop = InnerLoop(ball=ball)
            # Reads g for the norm, then d and g, and writes d.
            floor = 16 if name == "l2" else None
            found.append(inner_step(module, give_gradients, _label(name, ball), loop, floor))
    if "l2" in balls:
        if on_host(parameters[0].device):
            found.append(bare_step(parameters, give_gradients))
        found += _whole_steps(module, give_gradients)
    if "spectral" in balls:
        found += _muon_step(parameters, give_gradients)
        preset = InnerLoop.spectral()
        loops = {
            "spectral() step": preset,
            "spectral() step, unwhitened": replace(preset, whitening=None),
            "spectral() step, row": replace(preset, ball=RowBall()),
        }
        found += [inner_step(module, give_gradients, *named) for named in loops.items()]
    return found


def gradients_for(parameters: Sequence[nn.Parameter]) -> Callable[[], None]:
    """What gives the parameters gradients from N(0, 1), the same ones at every call."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]

    def give() -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient

    return give


def _label(name: str, ball: Ball) -> str:
    variant = getattr(ball, "scope", None) or getattr(ball, "oracle", None)
    return f"{name} step, {variant}" if variant else f"{name} step"


def _optimizer_steps(
    parameters: list[nn.Parameter], give_gradients: Callable[[], None]
) -> Iterator[Contender]:
    def step(name: str, optimizer: torch.optim.Optimizer, floor: int) -> Contender:
        return Contender(name, give_gradients, optimizer.step, floor)

    adam, sgd = torch.optim.Adam, torch.optim.SGD
    # Adam reads w, g, m and v, and writes w, m and v.
    yield step(REFERENCE, adam(parameters, lr=1e-9, fused=True), 28)
    yield step("Adam, foreach", adam(parameters, lr=1e-9, foreach=True), 28)
    yield step("Adam, one by one", adam(parameters, lr=1e-9, foreach=False), 28)
    yield step("SGD, foreach", sgd(parameters, lr=1e-9, foreach=True), 12)


def _muon_step(
    parameters: list[nn.Parameter], give_gradients: Callable[[], None]
) -> Iterator[Contender]:
    """That of torch.optim, since 2.9, for matrices alone."""
    matrices = [p for p in parameters if p.ndim == 2]
    if matrices and hasattr(torch.optim, "Muon"):
        muon = torch.optim.Muon(matrices, lr=1e-9)
        yield Contender("Muon, matrices", give_gradients, muon.step)


def _whole_steps(module: nn.Module, give_gradients: Callable[[], None]) -> Iterator[Contender]:
    """What a window of the l2 ball does besides its steps."""
    l2 = InnerLoop(ball=L2Ball())
    # Reads g for the norm, then w, the anchor and g, and writes w: the least for both.
    yield inner_step(module, give_gradients, "l2 step, weights moved", l2, 20, moves=True)
    yield inner_step(module, give_gradients, "… and monitored", l2, 20, moves=True, statistics=True)
    yield _restart(module, give_gradients, l2)


def new_window(module: nn.Module, inner_loop: InnerLoop, *, statistics: bool = False) -> Window:
    """A window around a module's parameters, matrices and the rest in groups of their own."""
    parameters = list(module.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2]},
    ]
    return Window(inner_loop, *trainable(groups, module), statistics=statistics)


def inner_step(
    module: nn.Module,
    give_gradients: Callable[[], None],
    name: str,
    inner_loop: InnerLoop,
    floor: int | None = None,
    *,
    moves: bool = False,
    statistics: bool = False,
) -> Contender:
    """A step of a window; ``moves`` adds moving the weights away and back around it."""
    window = new_window(module, inner_loop, statistics=statistics)

    def prepare() -> None:
        if window.is_full:
            window.close()
        window.drop_direction()  # as displaced() does
        give_gradients()

    def move_and_step() -> None:
        with window.displaced():
            pass
        give_gradients()
        window.step()

    return Contender(name, prepare, move_and_step if moves else window.step, floor)


def _restart(
    module: nn.Module, give_gradients: Callable[[], None], inner_loop: InnerLoop
) -> Contender:
    """Closing a window, and the outer optimizer's step."""
    window = new_window(module, inner_loop)
    outer = torch.optim.Adam(module.parameters(), lr=1e-9, fused=True)

    def fill() -> None:
        while not window.is_full:
            give_gradients()
            window.step()

    def close_and_step() -> None:
        window.close()
        outer.step()

    return Contender("l2 restart, Adam, fused", fill, close_and_step)


def naive_step(parameters: Sequence[nn.Parameter], give_gradients: Callable[[], None]) -> Contender:
    """An l2 inner step as a loop over tensors with a host read each, as published code does it."""
    displacements = [torch.zeros_like(p) for p in parameters]
    steps = cycle(range(1, 6))

    @torch.no_grad()
    def step() -> None:
        k = next(steps)
        for p, displacement in zip(parameters, displacements, strict=True):
            assert p.grad is not None
            norm = p.grad.norm().item()
            atom = -1e-2 * p.grad / norm
            displacement.copy_(displacement + (atom - displacement) / k)

    return Contender("l2 step, one by one", give_gradients, step)


def bare_step(parameters: Sequence[nn.Parameter], give_gradients: Callable[[], None]) -> Contender:
    """The norms and sums of an l2 inner step on the host: the rest of one is Python."""
    displacements = [torch.zeros_like(p) for p in parameters]
    ones = [torch.ones(())] * len(parameters)

    @torch.no_grad()
    def step() -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        scales = [-1e-2 / norm.item() for norm in tensor_norms(gradients)]
        torch._foreach_addcmul_(displacements, gradients, ones, scales)

    return Contender("l2 step, norms and sums alone", give_gradients, step, 16)
