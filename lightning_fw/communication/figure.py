"""The picture of the model: what local windows gain, against bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning_fw.communication.wall_clock import (
    Algorithm,
    Cluster,
    LocalWindows,
    Network,
    speed_up,
)

GIGABIT = 1e9 / 8
RANKS = (8, 64, 512)
# Of an interconnect through TCP; links with a protocol of their own have a tenth of it.
LATENCY = 2e-5


class Case(NamedTuple):
    """A network to show, with f, what the spectral oracle adds to a batch of it."""

    title: str
    network: Network
    overhead: float


# Operations a parameter: of a batch of 50 sequences of 100 steps, forward and backward; and of the
# spectral oracle, a unit: 17 products of two square gates.
_BATCH_OPERATIONS = 6 * 50 * 100
_ORACLE_OPERATIONS = 17 * 2


def _case(title: str, units: int, parameters: int, seconds: float) -> Case:
    overhead = 1 + _ORACLE_OPERATIONS * units / _BATCH_OPERATIONS
    return Case(
        f"{title}, f = {overhead:.2f}", Network(parameters=parameters, seconds=seconds), overhead
    )


# Seconds on an accelerator: a small layer waits for its steps one after the other, about 50 µs
# each; a large one computes at 20 TFLOP/s.
CASES = (
    _case("68,000 parameters, 5 ms a batch", 128, 68_000, 5e-3),
    _case("32 million, 48 ms a batch", 2_000, 32_000_000, 48e-3),
)
# Gbit/s of each rank: Ethernet, and NVLink of an H100 in one direction.
INTERCONNECTS = {"1 GbE": 1.0, "10 GbE": 10.0, "100 GbE": 100.0, "NVLink": 3_600.0}


class Bound(NamedTuple):
    """How much an all-reduce costs DDP, as an end of what there is."""

    algorithm: Algorithm
    overlap: float
    line: Literal["solid", "dashed"]
    words: str


MOST = Bound("ring", 0.0, "solid", "ring, overlaps nothing")
LEAST = Bound("halving", 1.0, "dashed", "recursive halving, beside all of the backward pass")

_COLORS = {8: "#0072B2", 64: "#E69F00", 512: "#D55E00"}
_RANGE = (0.1, 10_000.0)
_X_TICKS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_Y_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_POINTS = 300
_HEADROOM = 1.8


def cluster(ranks: int, gigabits: float, algorithm: Algorithm) -> Cluster:
    """So many ranks, joined by so many Gbit/s each."""
    return Cluster(ranks=ranks, bandwidth=gigabits * GIGABIT, latency=LATENCY, algorithm=algorithm)


def best(
    case: Case, ranks: int, gigabits: float, windows: Sequence[LocalWindows], bound: Bound
) -> tuple[float, int]:
    """The largest speed-up of the windows, with the case's oracle, and the K that has it."""
    on = cluster(ranks, gigabits, bound.algorithm)
    ours = [replace(w, overhead=case.overhead) for w in windows]
    return max((speed_up(case.network, on, w, bound.overlap), w.steps) for w in ours)


def draw(windows: Sequence[LocalWindows], path: Path, ranks_measured: int) -> None:
    """Draw the speed-up over DDP of the best of the windows at each bandwidth.

    Args:
        windows: Those that were measured, beside DDP.
        path: The file to write.
        ranks_measured: On how many ranks that was, for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, case in zip(panels, CASES, strict=True):
        _draw_curves(panel, case, windows)
        _draw_frame(panel)
        panel.set_title(case.title, fontsize=10)
    # From DDP's own time, with room for the names of interconnects.
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(1.0, low), _HEADROOM * high)
    panels[0].set_ylabel("times sooner at the target than DDP")
    steps = ", ".join(str(w.steps) for w in windows)
    figure.suptitle(
        "Local windows beside DDP with Adam and clipping: a model\n"
        f"batches as measured on {ranks_measured} ranks, best K of {steps}, "
        f"latency {LATENCY * 1e6:.0f} µs",
        fontsize=11,
    )
    figure.legend(handles=_legend(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def _draw_curves(panel: Any, case: Case, windows: Sequence[LocalWindows]) -> None:
    low, high = _RANGE
    x = [low * (high / low) ** (i / (_POINTS - 1)) for i in range(_POINTS)]
    for ranks in RANKS:
        for bound in (MOST, LEAST):
            y = [best(case, ranks, at, windows, bound)[0] for at in x]
            panel.plot(x, y, color=_COLORS[ranks], linestyle=bound.line, linewidth=1.7)
    panel.axhline(1, color="black", linewidth=0.8)
    batches_alone = max(1 / (w.batches * case.overhead) for w in windows)
    panel.axhline(batches_alone, color="gray", linewidth=1.2, linestyle=":")


def _draw_frame(panel: Any) -> None:
    from matplotlib.ticker import FixedLocator

    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(*_RANGE)
    for axis, ticks in ((panel.xaxis, _X_TICKS), (panel.yaxis, _Y_TICKS)):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:,g}")
    panel.minorticks_off()
    panel.set_xlabel("bandwidth of each rank, Gbit/s")
    panel.grid(alpha=0.2)
    panel.spines[["top", "right"]].set_visible(False)
    for name, at in INTERCONNECTS.items():
        panel.axvline(at, color="0.8", linewidth=1, zorder=0)
        panel.annotate(
            name,
            (at, 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=8,
            color="0.4",
        )


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    ranks = [Line2D([], [], color=_COLORS[n], label=f"{n} ranks") for n in RANKS]
    bounds = [
        Line2D([], [], color="black", linestyle=bound.line, label=f"DDP: {bound.words}")
        for bound in (MOST, LEAST)
    ]
    nothing = Line2D([], [], color="gray", linestyle=":", label="messages cost nothing")
    return [*ranks, *bounds, nothing]
