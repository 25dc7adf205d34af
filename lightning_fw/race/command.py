"""The command ``lightning-fw race``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, get_args

import torch
from typing_extensions import override

from lightning_fw.checks import perhaps
from lightning_fw.command_line.arguments import Parser, above_zero, one_of, positive, whole
from lightning_fw.command_line.exit_status import CANNOT_START, INTERRUPTED
from lightning_fw.command_line.json_result import add_json, console_beside
from lightning_fw.nn.cells import CELLS, usual_layers
from lightning_fw.race.contest import Contest
from lightning_fw.race.lock import lock
from lightning_fw.race.methods import METHODS
from lightning_fw.race.search_space import Setting, read
from lightning_fw.race.settings import FILES, Accelerator, RaceSettings, Strategy, require_writable
from lightning_fw.race.tasks import TASKS
from lightning_fw.race.tuning import SEEDS as TUNING_SEEDS

_USUAL_SIZE = 128
_NETWORK = ("hidden_size", "num_layers", "bidirectional", "dropout", "layer_norm", "chrono")


class _Parser(Parser):
    """Reads arguments from @FILE too, as a shell would: several a line, ``#`` before comments."""

    @override
    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return shlex.split(arg_line, comments=True)

    @override
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        try:
            return super().parse_args(args, namespace)
        except (ValueError, RecursionError) as error:
            # argparse itself tells of a file that is missing, not of what one holds.
            self.error(
                "@FILE must hold arguments in UTF-8, quoted as for a shell, and not itself, got "
                f"one that cannot be read ({error}): mend the file"
            )


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = _Parser(
        prog="lightning-fw race",
        description="Train the same network by Frank-Wolfe and by back-propagation, at equal "
        "numbers of gradient evaluations, and compare. Interrupted, it goes on where it is run "
        "again with the same arguments. @FILE reads arguments from a file.",
        epilog=_listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    add = arguments.add_argument
    add("--task", type=one_of(TASKS), default="adding", help="(default: adding)")
    add("--cell", type=one_of(CELLS), default="lstm", help="(default: lstm)")
    add(
        "--methods",
        nargs="+",
        type=one_of(METHODS),
        default=["spectral", "paper", "adam-clip"],
        metavar="METHOD",
        help="(default: spectral paper adam-clip)",
    )
    _add_runs(arguments)
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="instead of tuned values")
    add("--out", type=Path, help="directory of the results (default: runs/TASK-CELL)")
    add("--data", type=Path, default=Path("data"), help="directory of the task's files")
    add_json(arguments)
    _add_processes(arguments)
    _add_network(arguments)
    return arguments


def _add_runs(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument
    add(
        "--seeds",
        type=whole,
        default=3,
        help="runs of each method (default: 3); 0 with --tune: tune alone",
    )
    add("--first-seed", type=whole, default=0, help="seed of the first run (default: 0)")
    add(
        "--budget",
        type=positive,
        default=500,
        metavar="EVALUATIONS",
        help="gradient evaluations of a run (default: 500)",
    )
    add("--every", type=positive, default=25, help="evaluations between points (default: 25)")
    add(
        "--tune",
        type=positive,
        default=0,
        metavar="TRIALS",
        help="random trials of each method, on seeds of their own, before the race (default: none)",
    )


def _add_processes(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument
    add("--threads", type=positive, default=1, help="torch threads (default: 1)")
    add(
        "--accelerator",
        type=one_of(get_args(Accelerator)),
        default="cpu",
        help="cpu or gpu (default: cpu)",
    )
    add(
        "--strategy",
        type=one_of(get_args(Strategy)),
        help="train on several processes of this machine",
    )
    add("--devices", type=positive, default=1, help="processes of --strategy (default: 1)")
    add(
        "--profile",
        action="store_true",
        help="trace ten batches of each method before the race: OUT/profile/METHOD.json, for "
        "ui.perfetto.dev",
    )


def _add_network(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument_group("the network and its batches").add_argument
    add("--batch-size", type=positive, help="sequences a gradient evaluation (default: the task's)")
    add("--hidden-size", type=positive, help="units of a layer (default: 128)")
    add("--num-layers", type=positive, help="layers (default: 1, of indrnn-stack 6)")
    add("--bidirectional", action="store_true", default=None, help="read in both directions")
    add("--dropout", type=above_zero, help="between layers and before the head (default: none)")
    add("--layer-norm", action="store_true", default=None, help="before the head")
    add("--chrono", type=positive, metavar="STEPS", help="gates remember so long at first, >= 3")


def _listed() -> str:
    tasks = (f"  {task.name:<22} {task.title}" for task in TASKS.values())
    methods = (f"  {method.name:<22} {method.title}" for method in METHODS.values())
    return "\n".join(
        (
            "tasks:",
            *tasks,
            "",
            "methods:",
            *methods,
            "",
            f"cells: {', '.join(CELLS)}",
            "",
            "example: lightning-fw race --task adding --seeds 3 --out runs/adding",
        )
    )


def parse(argv: Sequence[str]) -> RaceSettings:
    """The settings that the arguments ask for; ends the program where they are wrong."""
    arguments = parser()
    options = arguments.parse_args(argv)
    _check_accelerator(arguments, options)
    _check_ranks(arguments, options)
    _check_seeds(arguments, options)
    _check_chunks(arguments, options)
    tunes = options.tune and any(METHODS[name].space for name in options.methods)
    if not (options.seeds or tunes):
        arguments.error(
            "--seeds 0 trains nothing: pass --seeds 1, or --tune and methods with values to tune"
        )
    given = _given(arguments, options)
    if options.out is None:
        ranks = [f"{options.devices}-ranks"] if options.devices > 1 else []
        options.out = Path("runs") / "-".join((options.task, options.cell, *ranks))
    own = {(options.out / name).resolve() for name in FILES}
    if options.json and Path(options.json).resolve() in own:
        arguments.error(f"--json must be none of the race's own files, got {options.json}")
    usual = {"hidden_size": _USUAL_SIZE, "num_layers": usual_layers(options.cell)}
    network = {name: vars(options).pop(name) for name in _NETWORK}
    if options.batch_size == TASKS[options.task].batch_size:
        options.batch_size = None
    del options.set
    return RaceSettings(
        **{
            **vars(options),
            "methods": tuple(options.methods),
            "network": {k: v for k, v in network.items() if v not in (None, usual.get(k))},
            "given": given,
        }
    )


def _given(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> Setting:
    try:
        given = read(" ".join(options.set))
    except ValueError as error:
        arguments.error(f"--set {error}")
    if given and options.tune:
        arguments.error("--tune chooses the values itself: leave out --set or --tune")
    for name, value in given.items():
        spaces = [METHODS[method].space.get(name) for method in options.methods]
        if value % 1 and any(space and space.whole for space in spaces):
            arguments.error(f"--set {name} must be a whole number, got {value:g}")
        if not any(name in METHODS[method].space for method in options.methods):
            _refuse_value(arguments, options, name)
    return given


def _refuse_value(
    arguments: argparse.ArgumentParser, options: argparse.Namespace, name: str
) -> NoReturn:
    methods = " ".join(options.methods)
    taking = ", ".join(method.name for method in METHODS.values() if name in method.space)
    if taking:
        arguments.error(f"--set {name} is for {taking}, got --methods {methods}: pass one of them")
    known = {value for method in options.methods for value in METHODS[method].space}
    arguments.error(
        f"--set must name a value of --methods {methods}: "
        f"{', '.join(sorted(known)) or 'they have none'}; got {name}{perhaps(name, known)}"
    )


def _check_seeds(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    raced = range(options.first_seed, options.first_seed + options.seeds)
    if any(seed in raced for seed in TUNING_SEEDS):
        arguments.error(
            f"seeds {' and '.join(map(str, TUNING_SEEDS))} are for tuning, got --first-seed "
            f"{options.first_seed} --seeds {options.seeds}: pass others"
        )


def _check_chunks(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in options.methods:
        if not METHODS[name].in_chunks:
            continue
        if TASKS[options.task].chunk_length is None:
            arguments.error(
                f"{name} in --methods cuts sequences, got --task {options.task}, a text, which "
                "comes in chunks: leave out the method"
            )
        if options.bidirectional or options.strategy:
            arguments.error(
                f"{name} in --methods carries a state along time, in one process: leave out "
                "--bidirectional and --strategy"
            )


def _check_accelerator(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.accelerator == "cpu":
        return
    if not torch.cuda.is_available():
        arguments.error("--accelerator gpu needs a CUDA device, got none: pass cpu")
    if options.strategy:
        arguments.error("--strategy trains on processes of the CPU: leave out --accelerator gpu")


def _check_ranks(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if (options.strategy is None) != (options.devices == 1):
        arguments.error(
            f"--strategy ddp goes with --devices of at least 2, got --devices {options.devices} "
            f"{'without' if options.strategy is None else 'with'} --strategy: pass both or neither"
        )
    if options.profile and options.strategy:
        arguments.error("--profile traces one process: leave out --strategy")
    for name in options.methods:
        if options.strategy is None and METHODS[name].ranks_only:
            arguments.error(
                f"{name} in --methods is for several ranks: pass --strategy ddp --devices 2"
            )


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
        with ExitStack() as held:
            try:
                require_writable(settings.out)
                held.enter_context(lock(settings.out))
                contest = Contest(settings, console_beside(settings.json))
            except (OSError, ValueError, ModuleNotFoundError) as error:
                print(f"lightning-fw race: {error}", file=sys.stderr)
                return CANNOT_START
            return contest.run()
    except KeyboardInterrupt:
        # Before the first run or after the last; Contest.run answers for those between.
        print("Interrupted. Run the same command again to go on.", file=sys.stderr)
        return INTERRUPTED
