"""race.png: the test metric against evaluations and against seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fw.race.methods import Method
from lightning_fw.race.points import Point
from lightning_fw.race.summary import runs_of
from lightning_fw.race.tasks import Task

# Okabe and Ito's colours, told apart by colour-blind readers too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def require_matplotlib() -> None:
    """Raise if the picture could not be drawn.

    Raises:
        ModuleNotFoundError: With the line that installs matplotlib.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The race draws its picture with matplotlib. Run pip install 'lightning-fw[plot]'."
        ) from error


def draw(
    points: Sequence[Point], methods: Sequence[Method], task: Task, cell: str, path: Path
) -> None:
    """Draw the median over the seeds, and the range from the best to the worst of them.

    Args:
        points: All points of the race.
        methods: In the order of the legend.
        task: What was raced on.
        cell: The recurrent cell, for the title.
        path: The file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, unit in zip(panels, ("evaluations", "seconds"), strict=True):
        for method, color in zip(methods, _COLORS * len(methods), strict=False):
            runs = list(runs_of(points, method.name).values())
            if runs:
                _draw_method(panel, runs, unit, method.label, color)
        panel.axhline(task.target, color="black", linewidth=1, linestyle=":", label="target")
        panel.grid(alpha=0.25)
        panel.set_xlim(left=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_xlabel(
        f"gradient evaluations (one forward and backward, batch {task.batch_size})"
    )
    panels[1].set_xlabel("seconds of training")
    panels[0].set_ylabel(task.metric)
    if not task.higher_is_better:
        panels[0].set_yscale("log")
    seeds = len({point.seed for point in points})
    over = "one seed" if seeds == 1 else f"median and range of {seeds} seeds"
    figure.suptitle(f"{task.title}, {cell.upper()}-128: {over}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def _draw_method(
    panel: Any, runs: Sequence[Sequence[Point]], unit: str, label: str, color: str
) -> None:
    columns = list(zip(*runs, strict=False))
    x = [statistics.median(getattr(point, unit) for point in column) for column in columns]
    metrics = [[point.test_metric for point in column] for column in columns]
    panel.plot(x, list(map(statistics.median, metrics)), color=color, label=label, linewidth=1.8)
    panel.fill_between(
        x, list(map(min, metrics)), list(map(max, metrics)), color=color, alpha=0.18, linewidth=0
    )
