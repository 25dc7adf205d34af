"""What ``docs/communication.md`` shows, from what ``lightning-fw bench --comm --json`` measured.

``python -m lightning_fw.communication.page runs/comm-2.json runs/comm-4.json --image FILE`` prints
the page's tables in Markdown and draws its picture. The model takes its batches to the target from
the last file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from lightning_fw.command_line.arguments import picture_to_write
from lightning_fw.communication.figure import (
    CASES,
    GIGABIT,
    INTERCONNECTS,
    LEAST,
    MOST,
    RANKS,
    Case,
    best,
    cluster,
    draw,
)
from lightning_fw.communication.measure import FORMAT, Row, Way
from lightning_fw.communication.wall_clock import LocalWindows, Network, break_even_bandwidth
from lightning_fw.nn.cells import cell_title
from lightning_fw.race.tasks import TASKS

Report = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Print the tables and draw the picture.

    Args:
        argv: Arguments.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_fw.communication.page")
    parser.add_argument("reports", type=_report, nargs="+", metavar="JSON")
    parser.add_argument("--image", type=picture_to_write, required=True, help="the picture to draw")
    options = parser.parse_args(argv)
    last: Report = options.reports[-1]
    windows = beside(last, "ddp")
    if not windows:
        parser.error("the last JSON must have DDP and local windows that reached the target")
    lines: list[str] = []
    for report in options.reports:
        lines += [*measured(report), ""]
    lines += [*speed_ups(windows), "", *break_evens(windows, beside(last, "step"))]
    print("\n".join(lines))
    draw(windows, options.image, last["devices"])
    return 0


def _report(text: str) -> Report:
    try:
        report: Report = json.loads(Path(text).read_text())
        if report["format"] != FORMAT:
            raise ValueError(f"format {report['format']!r}")
        report["results"] = [Row(**row) for row in report["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"must be what bench --comm --json wrote, got {text} ({error})"
        ) from error
    return report


def _batches_to_target(report: Report, way: Way, steps: int) -> float | None:
    """Those of a way and K; None where it did not reach the target, or was not measured."""
    rows: list[Row] = report["results"]
    found = (row.batches_to_target for row in rows if (row.way, row.steps) == (way, steps))
    return next(found, None)


def beside(report: Report, way: Way) -> list[LocalWindows]:
    """The local windows that reached the target beside DDP, or beside a message at every step."""
    found = []
    for steps in report["steps"]:
        local = _batches_to_target(report, "restart", steps)
        other = _batches_to_target(report, way, 1 if way == "ddp" else steps)
        if local is not None and other is not None:
            found.append(LocalWindows(steps=steps, batches=local / other))
    return found


def measured(report: Report) -> Iterator[str]:
    """The table of one report."""
    task = TASKS[report["task"]]
    first, count = report["first_seed"], report["seeds"]
    seeds = f"seed {first}" if count == 1 else f"medians of {count} seeds"
    yield (
        f"{task.title}, {cell_title(report['cell'])}, {report['devices']} ranks on one machine "
        f"(gloo), batches of {task.batch_size}; {task.metric} after {report['batches']} of each "
        f"rank; target: {task.goal}; {seeds}."
    )
    yield ""
    yield (
        "| ranks talk at | all-reduces a batch | bytes a batch | ms a batch | "
        f"{task.metric} | batches to target | all-reduces to target |"
    )
    yield "| --- |" + " ---: |" * 6
    for row in report["results"]:
        yield f"| {' | '.join((row.name, *row.cells()))} |"


def speed_ups(windows: Sequence[LocalWindows]) -> Iterator[str]:
    """How many times sooner than DDP the best of the windows arrives, from least to most."""
    yield f"| network | interconnect | {' | '.join(f'{ranks} ranks' for ranks in RANKS)} |"
    yield "| --- | --- |" + " ---: |" * len(RANKS)
    for case in CASES:
        for name, gigabits in INTERCONNECTS.items():
            cells = []
            for ranks in RANKS:
                (least, _), (most, steps) = (
                    best(case, ranks, gigabits, windows, bound) for bound in (LEAST, MOST)
                )
                cells.append(f"{least:.1f} to {most:.1f} (K = {steps})")
            yield f"| {case.title} | {name} | {' | '.join(cells)} |"


def break_evens(
    beside_ddp: Sequence[LocalWindows], beside_step: Sequence[LocalWindows]
) -> Iterator[str]:
    """Below which bandwidth local windows arrive first, in Gbit/s of each rank.

    Where nothing overlaps, by recursive halving.

    Args:
        beside_ddp: Beside DDP without the oracle.
        beside_step: Beside windows that talk at every step, which have the oracle, too.
    """
    columns = [f"{size}, {ranks} ranks" for size in ("68,000", "32 million") for ranks in RANKS]
    yield f"| beside | K | batches | {' | '.join(columns)} |"
    yield "| --- | --- | ---: |" + " ---: |" * len(columns)
    for w in beside_ddp:
        cells = [_break_even(c.network, n, replace(w, overhead=c.overhead)) for c, n in _corners()]
        yield f"| DDP, Adam | {w.steps} | × {w.batches:.2f} | {' | '.join(cells)} |"
    for w in beside_step:
        slowed = [
            (replace(c.network, seconds=c.overhead * c.network.seconds), n) for c, n in _corners()
        ]
        cells = [_break_even(network, n, w) for network, n in slowed]
        yield f"| every step | {w.steps} | × {w.batches:.2f} | {' | '.join(cells)} |"


def _corners() -> list[tuple[Case, int]]:
    return list(product(CASES, RANKS))


def _break_even(network: Network, ranks: int, windows: LocalWindows) -> str:
    bandwidth = break_even_bandwidth(network, cluster(ranks, 1.0, "halving"), windows)
    if math.isinf(bandwidth):
        return "always"
    return f"{bandwidth / GIGABIT:.3g}" if bandwidth else "never"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
