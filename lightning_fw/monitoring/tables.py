"""The tables that the monitor shows at the end of a fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from rich.table import Table

from lightning_fw.monitoring.loss_curve import HORIZON, Reached

_LABELS = {
    "fw/restarts": "restarts",
    "fw/early_restarts": "… of these early",
    "fw/steps": "inner steps per window",
    "fw/skipped": "skipped inner steps",
    "fw/radius": "radius δ",
    "fw/gap": "gap at the last step",
    "fw/gap_ratio": "last gap / first gap",
    "fw/ball_usage": "ball usage ‖d‖/δ",
    "fw/cosine": "cosine, first gradient to direction",
    "fw/loss_drop": "loss drop inside the window",
    "loss": f"loss (average over {HORIZON:g} evaluations)",
    "fw/slope_ratio": "slope ratio",
    "fw/agreement": "agreement of the ranks' windows",
    "fw/gradient_evaluations": "gradient evaluations",
    "fw/seconds_per_batch": "seconds per batch",
    "fw/bptt_seconds_per_batch": "… of BPTT",
    "fw/cost_ratio": "cost against BPTT",
    "bptt/gradient_evaluations": "gradient evaluations",
    "bptt/seconds_per_batch": "seconds per batch",
    "bptt/loss": f"loss (average over {HORIZON:g} evaluations)",
}


def tables(
    summary: dict[str, float], title: str, loss: Sequence[float], reached: Sequence[Reached]
) -> Iterator[Table]:
    """What a monitor shows; nothing where nothing was recorded.

    Args:
        summary: Values by logged name.
        title: What trained.
        loss: This rank's at the end, which is no part of the summary; empty: there already.
        reached: Losses of the baseline that were reached.
    """
    if not summary:
        return
    last = {"loss": loss[-1]} if loss else {}
    yield summary_table(summary | last, title)
    if reached:
        yield comparison_table(reached)


def summary_table(summary: dict[str, float], title: str) -> Table:
    """One row for each known value of a summary.

    Args:
        summary: Values by logged name.
        title: What stands above the table.

    Returns:
        A rich table with the columns value, name it is logged under, and meaning.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("name", style="dim", no_wrap=True)
    for name, label in _LABELS.items():
        value = summary.get(name, float("nan"))
        if not isnan(value):
            table.add_row(label, _number(value), name if "/" in name else "")
    return table


def comparison_table(reached: Sequence[Reached]) -> Table:
    """Evaluations and seconds that this run and its baseline needed for each loss.

    Args:
        reached: The losses, from high to low.

    Returns:
        A rich table; "never" where this run did not reach a loss.
    """
    table = Table(
        title="Cost to reach the baseline's losses",
        title_justify="left",
        caption=f"Losses are averages over {HORIZON:g} evaluations.",
        caption_justify="left",
    )
    table.add_column("loss", justify="right", no_wrap=True)
    for unit in ("evaluations", "seconds"):
        for name in (f"{unit}\nthis run", "\nBPTT", "\nratio"):
            table.add_column(name, justify="right", no_wrap=True)
    for row in reached:
        table.add_row(
            _number(row.loss),
            *_pair(row.evaluations, row.baseline_evaluations),
            *_pair(row.seconds, row.baseline_seconds),
        )
    return table


def _pair(ours: float, baseline: float) -> tuple[str, str, str]:
    if isnan(ours):
        return "never", _number(baseline), "–"
    return _number(ours), _number(baseline), f"{ours / baseline:.2f}" if baseline else "–"


def _number(value: float) -> str:
    """Whole numbers and long ones in full, others to four digits."""
    is_whole = value == round(value, 0) or abs(value) >= 1e3
    return f"{value:,.0f}" if is_whole else f"{value:.4g}"
