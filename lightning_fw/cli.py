"""The command ``lightning-fw``."""

from __future__ import annotations

import argparse
import errno
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from lightning_fw.command_line.arguments import Parser, one_of
from lightning_fw.command_line.exit_status import (
    CANNOT_START,
    CANNOT_WRITE,
    INTERRUPTED,
    PIPE_CLOSED,
)
from lightning_fw.command_line.extra import is_installed
from lightning_fw.command_line.json_result import close_pipe

_LIGHTNING_COMMANDS = ("fit", "validate", "test")
# The module of each, imported when it is asked for: torch alone takes seconds.
OWN_COMMANDS = {
    "race": "lightning_fw.race.command",
    "standings": "lightning_fw.race.standings",
    "bench": "lightning_fw.bench.command",
    "report": "lightning_fw.race.report",
    "tasks": "lightning_fw.command_line.catalogue",
    "completion": "lightning_fw.command_line.completion",
}
_COMMANDS = (*OWN_COMMANDS, *_LIGHTNING_COMMANDS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _write_what_the_terminal_can()
    try:
        try:
            command = _parser().parse_args(arguments[:1]).command
            return _run(command, arguments[1:], None if argv is None else arguments)
        finally:
            # The rest of the buffer; the interpreter would write it where nobody catches the error.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has read enough, as `head` does.
        close_pipe(sys.stdout)
        return PIPE_CLOSED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        print(f"lightning-fw: cannot write: {error.strerror}. Make room.", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            close_pipe(sys.stdout)
        return CANNOT_WRITE


def _write_what_the_terminal_can() -> None:
    """A "?" for what its encoding lacks, such as ≤ in cp1252, in place of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _run(command: str, rest: list[str], arguments: list[str] | None) -> int:
    if command in OWN_COMMANDS:
        with _terminated_as_interrupted():
            status: int = import_module(OWN_COMMANDS[command]).main(rest)
            return status
    if not is_installed("jsonargparse", command=command):
        return CANNOT_START
    from lightning_fw.command_line.lightning_cli import lightning_cli

    # LightningCLI reads the process's arguments itself, and warns when it gets them, too.
    lightning_cli(arguments)
    return 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is heard as Ctrl-C is, of which the main thread alone may decide."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="lightning-fw",
        description="Train recurrent networks by Frank-Wolfe.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "race       Frank-Wolfe against back-propagation at equal gradient evaluations\n"
            "standings  races in one table: what Frank-Wolfe needs for one of the others\n"
            "bench      an inner step beside an optimizer's step; --comm: messages between ranks\n"
            "report     races as one page for a browser\n"
            "tasks      what there is to race: tasks, cells, methods, presets, balls\n"
            "completion what a shell completes\n"
            "fit, validate, test\n"
            "           LightningCLI on the networks and data of lightning_fw; a network's\n"
            "           input_size, output_size and per_step are always those of the data\n\n"
            "lightning-fw COMMAND --help tells the options of a command.\n\n"
            "example: lightning-fw race --task digits --out runs/digits"
        ),
    )
    parser.add_argument("command", type=one_of(_COMMANDS), metavar="command")
    parser.add_argument("--version", action="version", version=f"lightning-fw {_version()}")
    return parser


def _version() -> str:
    try:
        return version("lightning-fw")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
