"""The command ``lightning-fw bench --comm``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.live import Live
from rich.table import Table

from lightning_fw.command_line.arguments import Parser, one_of, positive, whole
from lightning_fw.command_line.exit_status import CANNOT_START
from lightning_fw.command_line.json_result import add_json, console_beside, write_json
from lightning_fw.command_line.quiet import quiet_lightning
from lightning_fw.communication.measure import (
    CommunicationSettings,
    Row,
    list_contenders,
    measure,
    report,
)
from lightning_fw.nn.cells import CELLS, cell_title
from lightning_fw.race.tasks import TASKS

_HEADINGS = (
    "all-\nreduces\na batch",
    "bytes\na batch",
    "ms\na batch",
    "test\nmetric",
    "batches\nto target",
    "all-\nreduces\nto target",
)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw bench --comm",
        description="Count what ranks tell each other a batch, and how far each way to train\n"
        "comes with as many samples, on gloo processes of this machine.",
        epilog="example: lightning-fw bench --comm --devices 4 --steps 1 2 5 10 --json comm.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("--task", type=one_of(("adding", "digits")), default="adding", help="(default: adding)")
    add("--cell", type=one_of(CELLS), default="lstm", help="(default: lstm)")
    add("--devices", type=_several, default=2, help="ranks (default: 2)")
    add(
        "--steps",
        type=positive,
        nargs="+",
        default=[1, 2, 5, 10],
        metavar="K",
        help="inner steps of a window (default: 1 2 5 10)",
    )
    add(
        "--batches",
        type=positive,
        default=150,
        help="of each rank, after which test metrics are compared (default: 150)",
    )
    add(
        "--budget",
        type=positive,
        default=600,
        metavar="BATCHES",
        help="of each rank, to go on to the target with (default: 600)",
    )
    add("--every", type=positive, default=10, help="batches between two tests (default: 10)")
    add("--seeds", type=positive, default=1, help="runs of each (default: 1)")
    add("--first-seed", type=whole, default=0, help="seed of the first run (default: 0)")
    add("--threads", type=positive, default=1, help="torch threads of a rank (default: 1)")
    add_json(arguments)
    return arguments


def _several(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 2, got {text}")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``bench --comm``.

    Returns:
        The exit status.
    """
    arguments = parser()
    options = vars(arguments.parse_args(argv))
    if options["batches"] % options["every"]:
        arguments.error(
            f"--batches must be a multiple of --every, got {options['batches']} and "
            f"{options['every']}: tests come that often"
        )
    path = options.pop("json")
    options["steps"] = list(dict.fromkeys(options["steps"]))
    settings = CommunicationSettings(**options)
    torch.set_num_threads(settings.threads)
    try:
        TASKS[settings.task].data(settings.first_seed, Path()).test_dataloader()
    except ModuleNotFoundError as error:
        print(f"lightning-fw bench --comm: {error}", file=sys.stderr)
        return CANNOT_START
    rows: list[Row] = []
    # Processes are not to be forked beside a thread that draws.
    shown = Live(table(rows, settings), console=console_beside(path), auto_refresh=False)
    with quiet_lightning(), shown as live:
        for contender in list_contenders(settings):
            rows.append(measure(contender, settings))
            live.update(table(rows, settings), refresh=True)
    write_json(path, report(settings, rows))
    return 0


def table(rows: Sequence[Row], settings: CommunicationSettings) -> Table:
    """The rows that are measured so far."""
    task = TASKS[settings.task]
    samples = settings.batches * settings.devices * task.batch_size
    others = max((row.other_calls_a_batch for row in rows), default=0)
    found = Table(
        title=f"{task.title}, {cell_title(settings.cell)}: {settings.devices} gloo processes of "
        f"one machine, batches of {task.batch_size}; {task.metric} after {settings.batches} of "
        f"each, {samples:,} samples",
        caption="bytes: handed to collectives by each rank. Besides all-reduces up to "
        f"{others:.2f} calls a batch: Lightning asks whether a rank is to end.",
    )
    found.add_column("ranks talk at")
    for heading in _HEADINGS:
        found.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found.add_row(row.name, *row.cells())
    return found
