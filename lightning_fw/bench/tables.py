"""The bench's report as tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from lightning_fw.bench.growth import exponent
from lightning_fw.bench.whole_batch import BATCH_SIZE, LENGTH, PLAIN


def steps_table(report: dict[str, Any]) -> Table:
    """Inner steps and optimizers' steps."""
    table = _table(
        f"{_network(report)} in {report['tensors']} tensors, {report['device']}, "
        f"{report['rounds']} turns of {report['runs_a_round']} runs. Bytes: what a copy of the "
        "weights moves in that time, and the least there is",
        ("median\nµs", "quartiles\nµs", "× fused\nAdam", "bytes a\nparameter", "least"),
    )
    for row in report["results"]:
        low, high = row["quartiles_us"]
        table.add_row(
            row["name"],
            f"{row['median_us']:.1f}",
            f"{low:.1f}–{high:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['bytes_a_parameter']:.0f}",
            "" if row["floor"] is None else str(row["floor"]),
        )
    return table


def memory_table(report: dict[str, Any]) -> Table:
    """What is kept beside the parameters."""
    table = _table("memory", ("MB", "bytes a parameter"))
    for name, size in report["memory"].items():
        table.add_row(name, f"{size / 1e6:.2f}", f"{size / report['parameters']:.1f}")
    return table


def batches_table(report: dict[str, Any]) -> Table:
    """Whole batches in the Trainer."""
    table = _table(
        f"a batch of {BATCH_SIZE} sequences of {LENGTH} steps in the Trainer, {_network(report)}, "
        f"{report['fits']} fits of each",
        ("median ms", "least to most ms", f"× {PLAIN}"),
    )
    for row in report["batches"]:
        low, high = row["range_ms"]
        table.add_row(
            row["name"], f"{row['median_ms']:.2f}", f"{low:.2f}–{high:.2f}", f"{row['ratio']:.3f}"
        )
    return table


def growth_table(axis: dict[str, Any]) -> Table:
    """Microseconds of a step at the sizes of an axis, and the power of the last two sizes."""
    table = _table(f"grows with {axis['name']}, µs", ("size^",))
    sizes = sorted({x for points in axis["series"].values() for x, *_ in points})
    for size in sizes:
        table.add_column(_short(size), justify="right", no_wrap=True)
    for name, points in axis["series"].items():
        medians = {x: median for x, median, *_ in points}
        cells = (f"{medians[size]:.0f}" if size in medians else "" for size in sizes)
        table.add_row(name, f"{exponent(points):.2f}", *cells)
    return table


def _short(size: int) -> str:
    """Three figures: 266,240 is 266k."""
    if size < 10_000:
        return str(size)
    return f"{size / 1e3:.3g}k" if size < 1e6 else f"{size / 1e6:.3g}M"


def _network(report: dict[str, Any]) -> str:
    return f"{report['cell']}-{report['hidden']}, {report['parameters']:,} parameters"


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
