"""The command ``lightning-fw race``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from rich.console import Console

from lightning_fw.arguments import above_zero, positive, seed
from lightning_fw.nn.sequence_model import Cell
from lightning_fw.race.contest import Contest
from lightning_fw.race.methods import MethodName, takes
from lightning_fw.race.settings import RaceSettings, Strategy
from lightning_fw.race.tasks import TASKS

_CANNOT_START = 2
_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="lightning-fw race",
        description="Train the same network by Frank-Wolfe and by back-propagation, at equal "
        "numbers of gradient evaluations, and compare. Interrupted, it goes on where it is run "
        "again with the same arguments.",
        epilog="example: lightning-fw race --task adding --seeds 3 --out runs/adding",
    )
    add = arguments.add_argument
    add("--task", choices=sorted(TASKS), default="adding", help="(default: adding)")
    add("--cell", choices=get_args(Cell), default="lstm", help="(default: lstm)")
    add(
        "--methods",
        nargs="+",
        choices=get_args(MethodName),
        default=["spectral", "paper", "adam-clip"],
        help="(default: spectral paper adam-clip)",
    )
    add("--seeds", type=positive, default=3, help="runs of each method (default: 3)")
    add("--first-seed", type=seed, default=0, help="seed of the first run (default: 0)")
    add(
        "--budget",
        type=positive,
        default=500,
        metavar="EVALUATIONS",
        help="gradient evaluations of a run (default: 500)",
    )
    add("--every", type=positive, default=25, help="evaluations between points (default: 25)")
    add("--out", type=Path, help="directory of the results (default: runs/TASK-CELL)")
    add("--data", type=Path, default=Path("data"), help="directory of MNIST (default: data)")
    add("--threads", type=positive, default=1, help="torch threads (default: 1)")
    add("--strategy", choices=get_args(Strategy), help="train on several processes of this machine")
    add("--devices", type=positive, default=1, help="processes of --strategy (default: 1)")
    add("--lr", type=above_zero, help="learning rate instead of the tuned ones")
    add("--clip", type=above_zero, help="largest gradient norm instead of the tuned one")
    return arguments


def parse(argv: Sequence[str]) -> RaceSettings:
    """The settings that the arguments ask for; ends the program where they are wrong."""
    arguments = parser()
    options = arguments.parse_args(argv)
    for name in ("lr", "clip"):
        if getattr(options, name) is not None and not any(
            name in takes(m) for m in options.methods
        ):
            taking = ", ".join(m for m in get_args(MethodName) if name in takes(m))
            arguments.error(
                f"--{name} is for {taking}; none of them is in --methods "
                f"{' '.join(options.methods)}"
            )
    _check_ranks(arguments, options)
    if options.out is None:
        ranks = [f"{options.devices}-ranks"] if options.devices > 1 else []
        options.out = Path("runs") / "-".join((options.task, options.cell, *ranks))
    return RaceSettings(**{**vars(options), "methods": tuple(options.methods)})


def _check_ranks(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if (options.strategy is None) != (options.devices == 1):
        arguments.error(
            f"--strategy ddp goes with --devices of at least 2, got --devices {options.devices} "
            f"{'without' if options.strategy is None else 'with'} --strategy"
        )
    if options.strategy is None and "local" in options.methods:
        arguments.error("local in --methods is for several ranks: pass --strategy ddp --devices 2")


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``race``.

    Returns:
        0, 130 after an interruption, 2 where something is in the way of starting.
    """
    settings = parse(argv)
    torch.set_num_threads(settings.threads)
    try:
        try:
            contest = Contest(settings, Console())
        except (OSError, ValueError, ModuleNotFoundError) as error:
            print(f"lightning-fw race: {error}", file=sys.stderr)
            return _CANNOT_START
        return contest.run()
    except KeyboardInterrupt:
        # Before the first run or after the last; Contest.run answers for those between.
        print("Interrupted. Run the same command again to go on.", file=sys.stderr)
        return _INTERRUPTED
