"""``--json``: what a command found, for machines."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import IO, NoReturn

from rich.console import Console
from typing_extensions import override

from lightning_fw.command_line.arguments import file_to_write
from lightning_fw.command_line.exit_status import PIPE_CLOSED
from lightning_fw.strict_json import strict

STDOUT = "-"


def add_json(arguments: argparse.ArgumentParser) -> argparse.Action:
    """Let a command take ``--json [FILE]``."""
    return arguments.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=json_file,
        metavar="FILE",
        help="write the result here, for machines; without FILE, or with -, to stdout, and all "
        "else to stderr",
    )


def json_file(text: str) -> str:
    """A file that can be written, or ``-`` for stdout.

    Raises:
        ArgumentTypeError: If it is none.
    """
    return text if text == STDOUT else str(file_to_write(text))


def write_json(path: str | None, found: object) -> None:
    """Write what was found, in JSON's own numbers; None: nowhere."""
    if path is None:
        return
    text = json.dumps(strict(found), indent=2, allow_nan=False) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def console_beside(path: str | None) -> Console:
    """Where tables go: to stdout, unless the JSON goes there."""
    return _Console(stderr=path == STDOUT)


class _Console(Console):
    """Ends as other programs do where whoever reads has read enough; rich's ends with 1."""

    @override
    def on_broken_pipe(self) -> NoReturn:
        close_pipe(self.file)
        raise SystemExit(PIPE_CLOSED)


def close_pipe(stream: IO[str]) -> None:
    """Let the stream write nowhere from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
