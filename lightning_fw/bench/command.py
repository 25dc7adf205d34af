"""The command ``lightning-fw bench``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn

from lightning_fw.bench.contenders import BALLS, list_contenders
from lightning_fw.bench.growth import measure_growth
from lightning_fw.bench.growth_figure import draw_growth
from lightning_fw.bench.memory import bytes_kept
from lightning_fw.bench.tables import batches_table, growth_table, memory_table, steps_table
from lightning_fw.bench.timing import RUNS_A_TURN, measure, summarize
from lightning_fw.bench.whole_batch import measure_batches
from lightning_fw.command_line.arguments import Parser, one_of, picture_to_write, positive
from lightning_fw.command_line.json_result import add_json, console_beside, write_json

# argparse takes beginnings of an option, too, where no other has them.
_COMM = {"--comm", "--com", "--co"}
_CELLS: dict[str, Callable[[int, int], nn.Module]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``bench``.

    Returns:
        The exit status.
    """
    if not _COMM.isdisjoint(argv):
        from lightning_fw.communication.command import main as communication

        return communication([argument for argument in argv if argument not in _COMM])
    arguments = parser()
    options = arguments.parse_args(argv)
    _require_growths_own(arguments, options)
    torch.set_num_threads(options.threads)
    report = _measure_growth(options) if options.growth else _measure(options)
    console = console_beside(options.json)
    for table in _tables(report):
        console.print(table)
    write_json(options.json, report)
    if options.growth:
        _draw_growth(report, options.growth)
    return 0


def _require_growths_own(arguments: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """``--growth`` has networks and balls of its own."""
    if not options.growth:
        return
    if options.json and Path(options.json).resolve() == options.growth.resolve():
        arguments.error(f"--json must be another file than --growth, got {options.json} for both")
    for name in ("cell", "hidden", "balls", "trainer"):
        if getattr(options, name) != arguments.get_default(name):
            arguments.error(f"--{name} has no part in --growth: leave out one of them")


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    if "axes" in report:
        yield from map(growth_table, report["axes"])
        return
    yield steps_table(report)
    yield memory_table(report)
    if "batches" in report:
        yield batches_table(report)


def _where(options: argparse.Namespace) -> dict[str, Any]:
    device = options.device
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": options.threads,
        "rounds": options.rounds,
        "runs_a_round": RUNS_A_TURN,
    }


def _measure_growth(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "format": "lightning_fw growth 1",
        **_where(options),
        "axes": measure_growth(options.rounds, options.device),
    }


def _draw_growth(report: dict[str, Any], path: Path) -> None:
    threads = "one torch thread" if report["threads"] == 1 else f"{report['threads']} torch threads"
    runs = report["rounds"] * report["runs_a_round"]
    title = (
        f"Cost of a step as it grows: medians of {runs} runs, quartiles shaded\n"
        f"{report['device']}, {threads}, torch {report['torch']}; exponents of the last two sizes"
    )
    draw_growth(report["axes"], title, path)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    device = options.device
    module = _CELLS[options.cell](2, options.hidden).to(device)
    contenders = list_contenders(module, dict.fromkeys(options.balls))
    report = {
        "format": "lightning_fw bench 2",
        **_where(options),
        "cell": options.cell,
        "hidden": options.hidden,
        "parameters": sum(p.numel() for p in module.parameters()),
        "tensors": len(list(module.parameters())),
        "results": summarize(contenders, measure(contenders, options.rounds, device)),
        "memory": bytes_kept(module),
    }
    if options.trainer:
        report["fits"] = options.trainer
        report["batches"] = measure_batches(options.cell, options.hidden, options.trainer, device)
    return report


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw bench",
        description="Time inner steps and optimizer steps in turns, on the same parameters.",
        epilog="example: lightning-fw bench --hidden 256 --balls l2 spectral --json bench.json",
    )
    add = arguments.add_argument
    add("--cell", type=one_of(_CELLS), default="lstm", help="(default: lstm)")
    add("--hidden", type=positive, default=128, help="units (default: 128)")
    add("--rounds", type=positive, default=100, help="turns (default: 100)")
    add(
        "--balls",
        nargs="+",
        type=one_of(BALLS),
        default=list(BALLS),
        metavar="BALL",
        help=f"those to time: {', '.join(BALLS)} (default: all)",
    )
    add(
        "--trainer",
        type=positive,
        metavar="FITS",
        help="time a whole batch in the Trainer, too, in so many fits of each",
    )
    add(
        "--growth",
        type=picture_to_write,
        metavar="FIGURE",
        help="time instead how steps grow with parameters, tensors, K and T, and draw it",
    )
    add("--threads", type=positive, default=1, help="torch threads (default: 1)")
    add("--device", type=_device, default=torch.device("cpu"), help="torch device (default: cpu)")
    add(
        "--comm",
        action="store_true",
        help="count instead what ranks tell each other; see bench --comm --help",
    )
    add_json(arguments)
    return arguments


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for missing
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"must be a device of this machine, got {text}: {reason}"
        ) from error
    return device
