"""A trace of a few batches, for a browser."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.profilers import PyTorchProfiler
from torch.profiler import profile, schedule

_SKIPPED, _WARM_UP, _TRACED = 10, 5, 10

# What a run must spend to be traced whole, in batches.
BATCHES = _SKIPPED + _WARM_UP + _TRACED + 1


def tracer(directory: Path, name: str) -> PyTorchProfiler:
    """A profiler that writes ten batches as a Chrome trace, and a table of their operators.

    Args:
        directory: Where to; it is made.
        name: Of the files ``NAME.json``, for https://ui.perfetto.dev or chrome://tracing, and
            ``fit-NAME.txt``.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def write(trace: profile) -> None:
        trace.export_chrome_trace(str(directory / f"{name}.json"))

    return PyTorchProfiler(
        dirpath=directory,
        filename=name,
        schedule=schedule(wait=_SKIPPED, warmup=_WARM_UP, active=_TRACED, repeat=1),
        on_trace_ready=write,
    )
