"""Timers that do not slow down what they time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

import torch


class Phase(Protocol):
    """One named part of the work: a context manager that may be entered any number of times."""

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...

    def take(self) -> float:
        """Seconds since the last call."""
        ...


class CostMeter:
    """Adds up the seconds spent in named parts of a training step.

    On CUDA a part is timed by a pair of events on the current stream, which are read in
    :meth:`take` alone, so that measuring makes no host-device synchronization. Elsewhere it is
    timed by the host's clock, which is exact on a CPU. Parts with different names may nest; each
    then counts its own time in full.

    A copy, and what a pickle gives back, holds no time that was still on its way on the device.

    Args:
        device: Where the timed work runs.

    Example:
        >>> meter = CostMeter("cpu")
        >>> with meter.measure("gradient"):
        ...     total = sum(range(1000))
        >>> meter.take()["gradient"] > 0
        True
        >>> meter.take()
        {'gradient': 0.0}
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._phases: dict[str, Phase] = {}

    def measure(self, name: str) -> Phase:
        """A context manager whose body counts towards ``name``; it must not nest in itself."""
        phase = self._phases.get(name)
        if phase is None:
            on_cuda = self.device.type == "cuda"
            phase = self._phases[name] = _CudaPhase(self.device) if on_cuda else _HostPhase()
        return phase

    def take(self) -> dict[str, float]:
        """Seconds by name since the last call; on CUDA it waits for the end of the timed work.

        Returns:
            A value for every name measured so far, 0.0 where nothing was added.
        """
        return {name: phase.take() for name, phase in self._phases.items()}


class Stopwatch:
    """Seconds from each start to the following stop, added up over a fit; a copy stands still.

    Args:
        device: Where the timed work runs.

    Example:
        >>> watch = Stopwatch("cpu")
        >>> watch.reset(10.0)
        >>> watch.start()
        >>> watch.stop()
        >>> watch.read() > 10
        True
    """

    def __init__(self, device: torch.device | str) -> None:
        self._phase = CostMeter(device).measure("running")
        self._seconds = 0.0
        self._running = False

    def reset(self, seconds: float) -> None:
        """Set what is on the watch, for a fit that resumes."""
        self.read()
        self._seconds = seconds

    def start(self) -> None:
        """Let the time run; no effect while it runs."""
        if not self._running:
            self._phase.__enter__()
            self._running = True

    def stop(self) -> None:
        """Hold the time; no effect while it stands."""
        if self._running:
            self._phase.__exit__()
            self._running = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the time for the body of a ``with``, and let it run again if it ran."""
        was_running = self._running
        self.stop()
        yield
        if was_running:
            self.start()

    def read(self) -> float:
        """Seconds up to now; on CUDA it waits for the device."""
        with self.held():
            self._seconds += self._phase.take()
        return self._seconds

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_running": False}


class _HostPhase:
    __slots__ = ("_seconds", "_start")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._seconds += perf_counter() - self._start

    def take(self) -> float:
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _CudaPhase:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._recorded = 0

    def __enter__(self) -> None:
        self._record()

    def __exit__(self, *exception: object) -> None:
        self._record()

    def _record(self) -> None:
        # Events are kept and recorded again: to create one costs more than to record it.
        if self._recorded == len(self._events):
            self._events.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self._events[self._recorded].record(torch.cuda.current_stream(self._device))
        self._recorded += 1

    def take(self) -> float:
        pairs = self._recorded // 2
        if pairs == 0:
            return 0.0
        events = self._events[: 2 * pairs]
        events[-1].synchronize()
        milliseconds = sum(
            start.elapsed_time(end) for start, end in zip(events[::2], events[1::2], strict=True)
        )
        # A part still in progress keeps the event that it began with.
        self._events = self._events[2 * pairs :] + events
        self._recorded -= 2 * pairs
        return float(milliseconds / 1000)

    def __getstate__(self) -> dict[str, Any]:
        return {"_device": self._device, "_events": [], "_recorded": 0}
