"""Times contenders in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lightning_fw.bench.contenders import COPIED_BYTES, COPY, REFERENCE, Contender
from lightning_fw.bench.progress import tracked

_WARM_UP = 5
RUNS_A_TURN = 10


def measure(
    contenders: Sequence[Contender], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every run; the contenders take turns, so that noise meets all of them.

    A turn is some runs in a row, so that each finds its own tensors in the cache, as the
    gradients are in training.

    Args:
        contenders: What to time.
        rounds: Turns of each, after a warm-up.
        device: Where they compute; on CUDA its own events tell the time.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    timed = _on_cuda if device.type == "cuda" else _on_host
    for turn in tracked(range(min(_WARM_UP, rounds) + rounds), "timing steps"):
        for contender in contenders:
            for _ in range(RUNS_A_TURN):
                contender.prepare()
                elapsed = timed(contender.run)
                if turn >= min(_WARM_UP, rounds):
                    seconds[contender.name].append(elapsed)
    return seconds


def _on_host(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _on_cuda(run: Callable[[], object]) -> float:
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3


def summarize(
    contenders: Sequence[Contender], seconds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """Of each contender median and quartiles in microseconds, and what the median compares with.

    ``ratio`` is the median over fused Adam's; ``bytes_a_parameter`` what a copy of the weights
    would have moved in its time, beside the ``floor``.
    """
    reference = statistics.median(seconds[REFERENCE])
    copy = statistics.median(seconds[COPY])
    rows = []
    for contender in contenders:
        low, median, high = statistics.quantiles(seconds[contender.name], n=4, method="inclusive")
        rows.append(
            {
                "name": contender.name,
                "median_us": median * 1e6,
                "quartiles_us": [low * 1e6, high * 1e6],
                "ratio": median / reference,
                "bytes_a_parameter": COPIED_BYTES * median / copy,
                "floor": contender.floor,
            }
        )
    return rows
