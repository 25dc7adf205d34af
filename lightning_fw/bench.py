"""``lightning-fw bench``: what an inner step costs beside an optimizer's step."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_fw.arguments import file_to_write, positive
from lightning_fw.balls import L2Ball
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import trainable
from lightning_fw.window import Window

_REFERENCE = "Adam(fused=True).step()"
_WARM_UP = 5
_RUNS_A_TURN = 10
_CELLS: dict[str, Callable[[int, int], nn.Module]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Contender(NamedTuple):
    """Something to time: ``prepare`` runs before every ``run``, outside the clock."""

    name: str
    prepare: Callable[[], None]
    run: Callable[[], object]


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``bench``.

    Returns:
        The exit status.
    """
    if "--comm" in argv:
        from lightning_fw.communication.command import main as communication

        return communication([argument for argument in argv if argument != "--comm"])
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    device = options.device
    module = _CELLS[options.cell](2, options.hidden).to(device)
    contenders = list_contenders(module)
    report = {
        "format": "lightning_fw bench 1",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": options.threads,
        "cell": options.cell,
        "hidden": options.hidden,
        "parameters": sum(p.numel() for p in module.parameters()),
        "tensors": len(list(module.parameters())),
        "rounds": options.rounds,
        "runs_a_round": _RUNS_A_TURN,
        "results": summarize(measure(contenders, options.rounds, device)),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    Console().print(_table(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-fw bench",
        description="Time inner steps and optimizer steps in turns, on the same parameters.",
    )
    parser.add_argument("--cell", choices=sorted(_CELLS), default="lstm")
    parser.add_argument("--hidden", type=positive, default=128, help="units (default: 128)")
    parser.add_argument("--rounds", type=positive, default=100, help="turns (default: 100)")
    parser.add_argument("--threads", type=positive, default=1, help="torch threads (default: 1)")
    parser.add_argument(
        "--device", type=_device, default=torch.device("cpu"), help="torch device (default: cpu)"
    )
    parser.add_argument(
        "--comm",
        action="store_true",
        help="count instead what ranks tell each other; see bench --comm --help",
    )
    parser.add_argument("--json", type=file_to_write, help="write the report here, too")
    return parser


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for unknown and for missing
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"must be a device of this machine, got {text}: {reason}"
        ) from error
    return device


def list_contenders(module: nn.Module) -> list[Contender]:
    """Optimizer steps and inner steps on one module's parameters."""
    parameters = list(module.parameters())
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]

    def give_gradients() -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient

    adam = torch.optim.Adam
    optimizers: dict[str, torch.optim.Optimizer] = {
        _REFERENCE: adam(parameters, lr=1e-9, fused=True),
        "Adam(foreach=True).step()": adam(parameters, lr=1e-9, foreach=True),
        "Adam(foreach=False).step()": adam(parameters, lr=1e-9, foreach=False),
        "SGD(foreach=True).step()": torch.optim.SGD(parameters, lr=1e-9, foreach=True),
    }
    found = [Contender(name, give_gradients, o.step) for name, o in optimizers.items()]
    l2 = InnerLoop(ball=L2Ball())
    found += [
        _inner_step(module, give_gradients, "l2 inner step", l2),
        _inner_step(module, give_gradients, "… weights moved", l2, moves=True),
        _inner_step(module, give_gradients, "… and monitored", l2, moves=True, statistics=True),
    ]
    spectral = InnerLoop.spectral()
    found.append(_inner_step(module, give_gradients, "spectral inner step", spectral))
    naive = NaiveLoop(parameters, 1e-2)
    found.append(Contender("l2, a loop over tensors", give_gradients, naive))
    return found


def _inner_step(
    module: nn.Module,
    give_gradients: Callable[[], None],
    name: str,
    inner_loop: InnerLoop,
    *,
    moves: bool = False,
    statistics: bool = False,
) -> Contender:
    """A step of a window; ``moves`` adds moving the weights away and back around it."""
    groups: list[dict[str, Any]] = [{"params": list(module.parameters())}]
    window = Window(inner_loop, *trainable(groups, module), statistics=statistics)

    def prepare() -> None:
        if window.is_full:
            window.close()
        give_gradients()

    def move_and_step() -> None:
        with window.displaced():
            pass
        give_gradients()
        window.step()

    return Contender(name, prepare, move_and_step if moves else window.step)


class NaiveLoop:
    """An l2 inner step as a loop over tensors with a host read each, as published code does it."""

    def __init__(self, parameters: Sequence[Tensor], radius: float) -> None:
        self._parameters = list(parameters)
        self._displacements = [torch.zeros_like(p) for p in parameters]
        self._radius = radius
        self._steps = 0

    @torch.no_grad()
    def __call__(self) -> None:
        """Take a step."""
        self._steps = self._steps % 5 + 1
        for p, displacement in zip(self._parameters, self._displacements, strict=True):
            assert p.grad is not None
            norm = p.grad.norm().item()
            atom = -self._radius * p.grad / norm
            displacement.copy_(displacement + (atom - displacement) / self._steps)


def measure(
    contenders: Sequence[Contender], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every run; the contenders take turns, so that noise meets all of them.

    A turn is some runs in a row, so that each finds its own tensors in the cache, as the
    gradients are in training.

    Args:
        contenders: What to time.
        rounds: Turns of each, after a warm-up.
        device: Where they compute; an accelerator is waited for around every run.
    """
    wait: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(_WARM_UP + rounds):
        for contender in contenders:
            for _ in range(_RUNS_A_TURN):
                contender.prepare()
                wait()
                start = time.perf_counter()
                contender.run()
                wait()
                elapsed = time.perf_counter() - start
                if turn >= _WARM_UP:
                    seconds[contender.name].append(elapsed)
    return seconds


def summarize(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Median and quartiles in microseconds, and the median over fused Adam's."""
    reference = statistics.median(seconds[_REFERENCE])
    rows = []
    for name, times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        rows.append(
            {
                "name": name,
                "median_us": median * 1e6,
                "quartiles_us": [low * 1e6, high * 1e6],
                "ratio": median / reference,
            }
        )
    return rows


def _table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"{report['cell']}-{report['hidden']}: {report['parameters']:,} parameters in "
        f"{report['tensors']} tensors, {report['device']}, "
        f"{report['rounds']} turns of {report['runs_a_round']} runs"
    )
    table.add_column("")
    for heading in ("median µs", "quartiles µs", "× fused Adam"):
        table.add_column(heading, justify="right")
    for row in report["results"]:
        low, high = row["quartiles_us"]
        table.add_row(
            row["name"], f"{row['median_us']:.1f}", f"{low:.1f}–{high:.1f}", f"{row['ratio']:.2f}"
        )
    return table
