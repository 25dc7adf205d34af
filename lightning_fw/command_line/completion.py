"""The command ``lightning-fw completion``: what a shell completes."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from lightning_fw.cli import OWN_COMMANDS
from lightning_fw.command_line.arguments import Parser, file_to_write, one_of, picture_to_write
from lightning_fw.command_line.exit_status import CANNOT_START
from lightning_fw.command_line.extra import is_installed
from lightning_fw.command_line.json_result import json_file

_SHELLS = ("bash", "zsh", "tcsh", "fish")
_TAKE_FILES = {"--config", "--ckpt_path", "--json"}
_FILES = (Path, file_to_write, picture_to_write, json_file)


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``completion``.

    Returns:
        0, or 2 where a package is missing.
    """
    shell = parser().parse_args(argv).shell
    if not is_installed("shtab", "jsonargparse", command="completion"):
        return CANNOT_START
    print(script(shell))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw completion",
        description="Print a script by which a shell completes commands, options and names.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: lightning-fw completion bash > "
        "~/.local/share/bash-completion/completions/lightning-fw",
    )
    arguments.add_argument("shell", type=one_of(_SHELLS), metavar="shell", help=", ".join(_SHELLS))
    return arguments


def script(shell: str) -> str:
    """The script for a shell."""
    import shtab

    tree = argparse.ArgumentParser(prog="lightning-fw")
    tree.add_argument("--version", action="version", version="")
    subcommands = tree.add_subparsers()
    for name, command in commands():
        command.prog = f"lightning-fw {name}"
        subcommands.add_parser(name, parents=[command], add_help=False, help=command.description)
        for action in command._actions:
            # Readers of names tell a wrong one the nearest, which `choices` would not.
            action.choices = action.choices or getattr(action.type, "names", None)
            if action.type in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    found: str = shtab.complete(tree, shell)
    # Files where no option of ours is meant: --data.train, @FILE.
    return found.replace(" -F _shtab", " -o default -F _shtab")


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command's name and arguments."""
    for name, module in OWN_COMMANDS.items():
        yield name, import_module(module).parser()
    yield from _lightning()


def _lightning() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    from jsonargparse import capture_parser

    from lightning_fw.command_line.lightning_cli import (
        lightning_cli,
        names_of_values,
        subcommand_parsers,
    )

    names = names_of_values()

    with warnings.catch_warnings():
        # LightningCLI 2.6.6 thinks that these arguments and the process's own are a mistake.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        whole = capture_parser(lambda: lightning_cli(["fit"]))
    for name, theirs in subcommand_parsers(whole).items():
        # Their actions are jsonargparse's own, which shtab cannot read.
        ours = argparse.ArgumentParser(description=theirs.description)
        for action in theirs._actions:
            options = [option for option in action.option_strings if option not in ("-h", "--help")]
            if not options:
                continue
            mine = ours.add_argument(*options, nargs="?" if action.nargs == 0 else None)
            mine.choices = names.get(options[-1])
            if _TAKE_FILES & {*options}:
                mine.type = Path
        # Of the classes that are chosen by name, whose options the command alone does not know.
        for option in names.keys() - theirs._option_string_actions.keys():
            ours.add_argument(option).choices = names[option]
        yield name, ours
