"""The command ``lightning-fw tasks``: what there is to race, by name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import get_args

from lightning_fw.bench.contenders import BALLS
from lightning_fw.command_line.arguments import Parser
from lightning_fw.command_line.json_result import add_json, write_json
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.nn.cells import CELLS
from lightning_fw.nn.frank_wolfe import Preset
from lightning_fw.race.methods import METHODS
from lightning_fw.race.tasks import TASKS


def catalogue() -> dict[str, dict[str, str]]:
    """Names with a line each: tasks, cells, methods, presets and balls."""
    return {
        "tasks": {task.name: f"{task.title}: {task.metric} {task.goal}" for task in TASKS.values()},
        "cells": {str(name): line for name, line in CELLS.items()},
        "methods": {method.name: method.title for method in METHODS.values()},
        "presets": {name: _first_line(getattr(InnerLoop, name)) for name in get_args(Preset)},
        "balls": {name: _first_line(type(balls[0])) for name, balls in BALLS.items()},
    }


def _first_line(documented: object) -> str:
    # None under python -OO.
    return (documented.__doc__ or "").strip().partition("\n")[0]


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``tasks``.

    Returns:
        The exit status.
    """
    asked = parser().parse_args(argv)
    found = catalogue()
    write_json(asked.json, found)
    if asked.json is None:
        print("\n\n".join(_listed(kind, lines) for kind, lines in found.items()))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw tasks",
        description="List tasks, cells, methods, presets of the inner loop, and balls.",
        epilog="example: lightning-fw tasks --json",
    )
    add_json(arguments)
    return arguments


def _listed(kind: str, lines: dict[str, str]) -> str:
    return "\n".join([f"{kind}:", *(f"  {name:<26} {line}" for name, line in lines.items())])
