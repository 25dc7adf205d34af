"""Options, numbers and files on the command line."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from typing_extensions import override

from lightning_fw.checks import perhaps


class Parser(argparse.ArgumentParser):
    """Tells the nearest option where one is unknown."""

    @override
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            near = nearest_option(unknown[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return options


def nearest_option(argument: str, options: Collection[str]) -> str:
    """``, perhaps X`` for an argument such as ``--option=value``, or nothing."""
    return perhaps(argument.partition("=")[0], options)


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """The reader of a name that must be one of these; a wrong one is told the nearest."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"must be one of {', '.join(names)}; got {text}{perhaps(text, names)}"
            )
        return text

    name.names = tuple(names)  # type: ignore[attr-defined]
    return name


def positive(text: str) -> int:
    """A whole number of at least 1, small enough for torch.

    Raises:
        ArgumentTypeError: If it is none.
    """
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value < 2**31:
        end = "" if value < 1 else " and < 2**31"
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1{end}, got {text}")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0, small enough for a seed.

    Raises:
        ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0 and < 2**32, got {text}")
    return int(text)


def above_zero(text: str) -> float:
    """A finite number above 0.

    Raises:
        ArgumentTypeError: If it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text}")
    return value


def file_to_write(text: str) -> Path:
    """A file that can be written, in a directory that exists.

    Raises:
        ArgumentTypeError: If it is none.
    """
    path = Path(text)
    try:
        is_file_of_a_directory = not path.is_dir() and path.parent.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"must be a file that can be written, got {text} ({error.strerror})"
        ) from None
    if not is_file_of_a_directory:
        raise argparse.ArgumentTypeError(f"must be a file in a directory that exists, got {text}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that can be written, got {text}")
    return path


def picture_to_write(text: str) -> Path:
    """A file in a directory that exists, of a format that matplotlib writes.

    Raises:
        ArgumentTypeError: If it is none, or matplotlib is missing.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError as error:
        raise argparse.ArgumentTypeError(
            "needs matplotlib; run pip install 'lightning-fw[plot]'"
        ) from error
    path, formats = file_to_write(text), FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise argparse.ArgumentTypeError(
            f"must end in a format that matplotlib writes, such as .png or .svg, got {text}"
        )
    return path
