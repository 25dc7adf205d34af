"""Charts that belong together on TensorBoard's page "Custom scalars"."""

from __future__ import annotations

from typing import Any

# Title of a chart: the names that it shows.
CHARTS = {
    "do the atoms agree": ("fw/ball_usage", "fw/cosine"),
    "what the ball has left to give": ("fw/gap",),
    "what a window changes": ("fw/gap_ratio", "fw/loss_drop"),
    "radius": ("fw/radius",),
    "slope ratio": ("fw/slope_ratio",),
    "seconds a batch": ("fw/seconds_per_batch", "fw/bptt_seconds_per_batch"),
    "cost beside BPTT": ("fw/cost_ratio",),
}


def add_layout(trainer: Any) -> None:
    """Write the layout where a fit is logged to TensorBoard; nothing elsewhere."""
    layout = {"Frank-Wolfe": {title: ["Multiline", list(names)] for title, names in CHARTS.items()}}
    for logger in trainer.loggers:
        # Either namespace's: neither is imported for the other's sake.
        if any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__):
            logger.experiment.add_custom_scalars(layout)
