"""race.png: the test metric against evaluations and against seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from lightning_fw.monitoring.plot import draw_line
from lightning_fw.race.entrants import Entrant
from lightning_fw.race.method import Family
from lightning_fw.race.points import Point, Unit
from lightning_fw.race.settings import RaceSettings
from lightning_fw.race.summary import by_point, runs_of
from lightning_fw.race.tasks import Task

# Okabe and Ito's colours, told apart by colour-blind readers too, dark ones first.
_COLORS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
# Bands of more methods hide each other: then the first has one alone.
BANDS = 3
_Line = str | tuple[int, tuple[int, ...]]
# A method after the eighth has a colour again, and must not look like one of another family.
_LINES: dict[Family, tuple[_Line, _Line]] = {
    "Frank-Wolfe": ("solid", (0, (9, 2))),
    "one LMO a step": ("dashdot", (0, (4, 1, 1, 1, 1, 1))),
    "back-propagation": ("dashed", "dotted"),
}


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
    points: Sequence[Point],
    entrants: Sequence[Entrant],
    task: Task,
    settings: RaceSettings,
    path: Path,
) -> None:
    """Draw the median over the seeds, and as a band the range from the best to the worst of them.

    Of more than three methods the first has a band.

    A point against seconds stands at the median of the seconds that the seeds took to it.

    Args:
        points: Those of the finished runs.
        entrants: In the order of the legend.
        task: What was raced on.
        settings: Those of the race, for the title and the labels.
        path: The file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2 + 0.12 * len(entrants)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    goal = f"target: {task.metric} {task.goal}"
    racing = [(each, runs) for each in entrants if (runs := runs_of(points, each.name))]
    for panel, unit in zip(panels, get_args(Unit), strict=True):
        for number, (entrant, runs) in enumerate(racing):
            band = number == 0 or len(racing) <= BANDS
            _draw_runs(panel, runs, unit, entrant, number, band=band)
        panel.axhline(task.target, color="gray", linewidth=1.2, linestyle=":", label=goal)
        panel.grid(alpha=0.25)
        panel.set_xlim(left=0)
        panel.spines[["top", "right"]].set_visible(False)
    a_rank = "" if settings.devices == 1 else " a rank"
    panels[0].set_xlabel(
        f"gradient evaluations{a_rank} (one forward and backward, batch {task.batch_size})"
    )
    panels[1].set_xlabel("seconds of training")
    panels[0].set_ylabel(task.metric)
    if task.spans_decades:
        panels[0].set_yscale("log")
    counts = {len(runs) for _, runs in racing}
    seeds = "–".join(map(str, sorted({min(counts), max(counts)})))
    over = "one seed" if seeds == "1" else f"median of {seeds} seeds, range as a band"
    figure.suptitle(f"{task.title}, {settings.title}{settings.where}: {over}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def _draw_runs(
    panel: Any,
    runs: Sequence[Sequence[Point]],
    unit: Unit,
    entrant: Entrant,
    number: int,
    *,
    band: bool,
) -> None:
    color = _COLORS[number % len(_COLORS)]
    line = _LINES[entrant.method.family][number // len(_COLORS) % 2]
    x, metrics = by_point(runs, unit)
    median = list(map(statistics.median, metrics))
    label = f"{entrant.method.title} ({entrant.origin})"
    draw_line(panel, x, median, color=color, linestyle=line, linewidth=1.8, label=label)
    if band:
        best, worst = list(map(min, metrics)), list(map(max, metrics))
        panel.fill_between(x, best, worst, color=color, alpha=0.15, linewidth=0)
