"""Pictures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from lightning_fw.monitoring.loss_curve import HORIZON, LossCurve
from lightning_fw.monitoring.metrics import batch_costs, moments
from lightning_fw.record import RestartRecord, radii_by_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVALUATIONS = "gradient evaluations"
_PARTS = ("gradient", "inner loop", "outer step")
# More names than a legend can tell apart, or that fit beside the lines.
_MOST_NAMES = 8
_OURS, _FAINT, _BASELINE = "tab:blue", "tab:gray", "tab:orange"


def plot_run(
    records: Sequence[RestartRecord], curve: LossCurve, baseline: LossCurve | None
) -> Figure:
    """Draw loss, gap, ball usage and radii against gradient evaluations, and what a batch costs.

    Args:
        records: Restarts; without any the loss alone is drawn.
        curve: The run's loss.
        baseline: The loss to show beside it.

    Returns:
        A figure that belongs to no window: ``figure.savefig("run.png")`` writes it.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
        RuntimeError: If there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plot() needs matplotlib. Install it: pip install 'lightning-fw[plot]'"
        ) from error
    if not records and not len(curve):
        raise RuntimeError(
            "plot() needs a run, and nothing was recorded with a finite loss. Fit a module first, "
            "in this process: what forked or spawned ones record stays there."
        )
    if not records:
        figure = Figure(figsize=(6, 4), layout="constrained")
        _draw_loss(figure.subplots(), curve, baseline)
        return figure
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(3, 3, 1.6))
    loss = figure.add_subplot(grid[0, 0])
    gap, usage, radius = (
        figure.add_subplot(grid[row, column], sharex=loss)
        for row, column in ((0, 1), (1, 0), (1, 1))
    )
    _draw_loss(loss, curve, baseline)
    _draw_gap(gap, records)
    _draw_usage(usage, records)
    _draw_radius(radius, records)
    _draw_cost(figure.add_subplot(grid[:, 2]), records)
    for axes in (usage, radius):
        axes.set_xlabel(_EVALUATIONS)
    for axes in (loss, gap):
        axes.set_xlabel("")
        axes.tick_params(labelbottom=False)
    return figure


def draw_line(axes: Any, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """Draw a line, and a dot at a value without a neighbour, of which a line would show nothing."""
    known = [False, *map(isfinite, y), False]
    alone = [
        here and not (before or after)
        for before, here, after in zip(known, known[1:-1], known[2:], strict=False)
    ]
    # A marker also stands in the legend: where there is none to see, it must not.
    dots: dict[str, Any] = {"marker": ".", "markevery": alone} if any(alone) else {}
    axes.plot(x, y, **dots, **style)


def _draw_loss(axes: Any, curve: LossCurve, baseline: LossCurve | None) -> None:
    smoothed = curve.smoothed()
    draw_line(axes, curve.evaluations, curve.losses, color=_FAINT, alpha=0.4, label="one batch")
    draw_line(
        axes, smoothed.evaluations, smoothed.losses, color=_OURS, label=f"average over {HORIZON:g}"
    )
    if baseline is not None:
        theirs = baseline.smoothed()
        label = f"BPTT, average over {HORIZON:g}"
        draw_line(axes, theirs.evaluations, theirs.losses, color=_BASELINE, label=label)
    axes.set(title="Training loss", xlabel=_EVALUATIONS, ylabel="loss")
    _finish(axes)


def _draw_gap(axes: Any, records: Sequence[RestartRecord]) -> None:
    evaluations = _evaluations(records)
    first, last = ([r.gap_first for r in records], [r.gap_last for r in records])
    draw_line(axes, evaluations, first, color=_FAINT, label="first step")
    draw_line(axes, evaluations, last, color=_OURS, label="last step")
    axes.set(title="Frank-Wolfe gap, on one batch", ylabel="gap (units of the loss)")
    if any(gap > 0 for gap in (*first, *last)):
        # An oracle that only comes near the minimum can make a small gap negative.
        axes.set_yscale("log", nonpositive="mask")
    _finish(axes)


def _draw_usage(axes: Any, records: Sequence[RestartRecord]) -> None:
    evaluations = _evaluations(records)
    draw_line(
        axes, evaluations, [r.ball_usage for r in records], color=_OURS, label="ball usage ‖d‖/δ"
    )
    draw_line(axes, evaluations, [r.cosine for r in records], color=_BASELINE, label="cosine")
    noise = [max(r.steps, 1) ** -0.5 for r in records]
    draw_line(
        axes, evaluations, noise, color=_FAINT, ls="--", label="1/√K: noise in an l2 ball, γ = 1/k"
    )
    axes.set(title="How far the atoms agree", ylabel="ratio (no unit)")
    # Room for the legend: the curves fill the rest.
    axes.set_ylim(top=1.5)
    _finish(axes)


def _draw_radius(axes: Any, records: Sequence[RestartRecord]) -> None:
    """The radius of the windows, and below it in a paler line that of each parameter."""
    evaluations = _evaluations(records)
    own = radii_by_name(records)
    for index, (name, radii) in enumerate(own.items()):
        # A legend leaves out what begins with an underscore, as a private part of a module does.
        shown = f" {name}" if name.startswith("_") else name
        color, label = (_FAINT, None) if len(own) > _MOST_NAMES else (f"C{index + 1}", shown)
        draw_line(axes, evaluations, radii, color=color, lw=1, alpha=0.6, label=label)
    draw_line(axes, evaluations, [r.radius for r in records], color=_OURS, label="the window's, δ")
    axes.set(title="Radius", ylabel="δ (units of the weights)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(fontsize="x-small")


def _draw_cost(axes: Any, records: Sequence[RestartRecord]) -> None:
    """A bar of ours and, where it is known, of BPTT's, each of its parts."""
    ours, bptt = batch_costs(moments(records))
    bars = {"Frank-Wolfe": ours} if isnan(sum(bptt)) else {"Frank-Wolfe": ours, "BPTT": bptt}
    bottom = [0.0] * len(bars)
    for name, color, seconds in zip(
        _PARTS, (_FAINT, _OURS, _BASELINE), zip(*bars.values(), strict=True), strict=True
    ):
        part = [1e3 * of_one for of_one in seconds]
        axes.bar(list(bars), part, 0.6, bottom=bottom, color=color, label=name)
        bottom = [low + high for low, high in zip(bottom, part, strict=True)]
    axes.set(title="Cost of a batch", ylabel="milliseconds")
    # Room for the legend.
    axes.set_ylim(top=1.25 * max([1e-6, *filter(isfinite, bottom)]))
    axes.legend(fontsize="small", loc="upper center")


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _evaluations(records: Sequence[RestartRecord]) -> list[float]:
    """Evaluations spent when each window closed."""
    return list(accumulate(record.gradient_evaluations for record in records))
