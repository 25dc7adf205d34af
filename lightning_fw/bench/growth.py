"""How costs grow: with parameters, with tensors, with inner steps, with the sequence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_fw.balls import L2Ball
from lightning_fw.bench.contenders import (
    REFERENCE,
    Contender,
    gradients_for,
    inner_step,
    naive_step,
    new_window,
)
from lightning_fw.bench.timing import measure
from lightning_fw.bench.whole_batch import BATCH_SIZE
from lightning_fw.inner_loop import InnerLoop

_L2, _SPECTRAL = "l2 step", "spectral() step"
# Newton-Schulz takes operations in the cube of the units: seconds a step beyond.
_SPECTRAL_UNITS = 512
_TENSORS_PARAMETERS = 2**20


class Axis(NamedTuple):
    """Something that grows, and what is timed at each of its sizes."""

    name: str
    sizes: Sequence[int]
    contenders: Callable[[int, torch.device], Iterator[Contender]]
    per_size: bool = False
    """Whether a run does ``size`` batches, whose mean is told."""


def measure_growth(
    rounds: int, device: torch.device, axes: Sequence[Axis] | None = None
) -> list[dict[str, Any]]:
    """Microseconds of everything at every size of every axis.

    Args:
        rounds: Turns of each, after a warm-up.
        device: Where they compute.
        axes: What grows; None: parameters, tensors, K and the length of the sequence.

    Returns:
        Of each axis ``name`` and ``series``: name → (size, median, first and third quartile).
    """
    return [_measure(axis, rounds, device) for axis in (AXES if axes is None else axes)]


def _measure(axis: Axis, rounds: int, device: torch.device) -> dict[str, Any]:
    series: dict[str, list[tuple[float, ...]]] = {}
    for size in axis.sizes:
        contenders = list(axis.contenders(size, device))
        batches = size if axis.per_size else 1
        x = _parameters_of_lstm(size) if axis.name == PARAMETERS else size
        for name, seconds in measure(contenders, rounds, device).items():
            low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
            series.setdefault(name, []).append(
                (x, *(each * 1e6 / batches for each in (median, low, high)))
            )
    return {"name": axis.name, "series": series}


def exponent(points: Sequence[tuple[float, ...]]) -> float:
    """p of microseconds ~ size^p between the last two sizes: 1 is linear; NaN of one size."""
    if len(points) < 2:
        return math.nan
    (x, y, *_), (x_last, y_last, *_) = points[-2:]
    return math.log(y_last / y) / math.log(x_last / x)


def _parameters_of_lstm(units: int) -> int:
    return sum(p.numel() for p in nn.LSTM(2, units, device="meta").parameters())


def _steps(module: nn.Module, *, naive: bool) -> Iterator[Contender]:
    parameters = list(module.parameters())
    give = gradients_for(parameters)
    adam = torch.optim.Adam(parameters, lr=1e-9, fused=True)
    yield Contender(REFERENCE, give, adam.step)
    yield inner_step(module, give, _L2, InnerLoop(ball=L2Ball()), moves=True)
    if naive:
        yield naive_step(parameters, give)


def _by_parameters(units: int, device: torch.device) -> Iterator[Contender]:
    module = nn.LSTM(2, units, device=device)
    yield from _steps(module, naive=False)
    if units <= _SPECTRAL_UNITS:
        give = gradients_for(list(module.parameters()))
        yield inner_step(module, give, _SPECTRAL, InnerLoop.spectral(), moves=True)


def _by_tensors(count: int, device: torch.device) -> Iterator[Contender]:
    size = _TENSORS_PARAMETERS // count
    module = nn.ParameterList(torch.randn(size, device=device) for _ in range(count))
    yield from _steps(module, naive=True)


def _by_inner_steps(steps: int, device: torch.device) -> Iterator[Contender]:
    module = nn.LSTM(2, 128, device=device)
    give = gradients_for(list(module.parameters()))
    window = new_window(module, InnerLoop(steps=steps))
    outer = torch.optim.Adam(module.parameters(), lr=1e-9, fused=True)

    def whole_window() -> None:
        for _ in range(steps):
            with window.displaced():
                pass
            give()
            window.step()
        window.close()
        outer.step()

    yield Contender("l2 window and outer step, a batch of it", lambda: None, whole_window)


def _by_length(length: int, device: torch.device) -> Iterator[Contender]:
    lstm = nn.LSTM(2, 128, batch_first=True, device=device)
    batch = torch.randn(BATCH_SIZE, length, 2, device=device)

    def forward_and_backward() -> None:
        output: Tensor = lstm(batch)[0]
        output[:, -1].square().sum().backward()  # type: ignore[no-untyped-call]

    yield Contender("forward and backward", lambda: None, forward_and_backward)
    module = nn.LSTM(2, 128, device=device)
    give = gradients_for(list(module.parameters()))
    yield inner_step(module, give, _L2, InnerLoop(ball=L2Ball()), moves=True)
    yield inner_step(module, give, _SPECTRAL, InnerLoop.spectral(), moves=True)


PARAMETERS = "parameters of an LSTM"
AXES = (
    Axis(PARAMETERS, (32, 64, 128, 256, 512, 1024, 2048), _by_parameters),
    Axis("tensors, of a million parameters", (1, 4, 16, 64, 256, 1024), _by_tensors),
    Axis("inner steps K, LSTM-128", (1, 2, 4, 8, 16, 32), _by_inner_steps, per_size=True),
    Axis("length T, LSTM-128, batches of 50", (25, 50, 100, 200, 400), _by_length),
)
