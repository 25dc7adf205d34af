"""The picture of how costs grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fw.bench.growth import exponent

# Okabe and Ito's, one of each name whichever panel it is in.
_COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")


def draw_growth(axes: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw microseconds against size, a panel of each axis, both scales logarithmic.

    Args:
        axes: What :func:`~lightning_fw.bench.growth.measure_growth` returns.
        title: What was measured, and where.
        path: The file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, -(-len(axes) // 2), squeeze=False).flat
    names = list(dict.fromkeys(name for axis in axes for name in axis["series"]))
    colors = {name: _COLORS[at % len(_COLORS)] for at, name in enumerate(names)}
    for panel, axis in zip(panels, axes, strict=False):
        _draw_panel(panel, axis, colors)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def _draw_panel(panel: Any, axis: dict[str, Any], colors: dict[str, str]) -> None:
    for name, points in axis["series"].items():
        x, median, low, high = zip(*points, strict=True)
        label = f"{name}, grows as size^{exponent(points):.2f}" if len(x) > 1 else name
        panel.plot(x, median, "o-", color=colors[name], label=label, markersize=4)
        panel.fill_between(x, low, high, color=colors[name], alpha=0.15, linewidth=0)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlabel(axis["name"])
    panel.set_ylabel("microseconds")
    panel.grid(alpha=0.2)
    panel.spines[["top", "right"]].set_visible(False)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.35)
    panel.legend(loc="upper left", fontsize=8, frameon=False)
