"""What is wrong with the arguments of a command, in a line in the place of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from zipfile import is_zipfile

from lightning.fabric.utilities.exceptions import MisconfigurationException

_KNOWN = {"lightning", "lightning_fw", "jsonargparse", "torch", "fsspec"}
_OF_FILES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_MISTAKES = (ValueError, TypeError, *_OF_FILES, MisconfigurationException)
_OF_ANOTHER_NETWORK = "Error(s) in loading state_dict"


class WrongArgument(Exception):
    """An argument that no run can start with."""


def require_checkpoint(path: str | None) -> None:
    """Refuse another file, or a part of one, which torch tells in words of its own.

    Args:
        path: What ``--ckpt_path`` says: a file, or a word of Lightning's such as ``last``.

    Raises:
        WrongArgument: If it is a file, but not as torch writes one.
    """
    if path is not None and Path(path).is_file() and not is_zipfile(path):
        raise WrongArgument(
            f"`--ckpt_path` must be a whole checkpoint, got {path}, which is none. Pass a file "
            "that ModelCheckpoint or `trainer.save_checkpoint` wrote."
        )


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Where Lightning or this package names what is wrong, its message is enough.

    Not where it comes of a class of the user's own, whose author needs the way there.

    Raises:
        WrongArgument: With the message.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(_OF_ANOTHER_NETWORK):
            raise
        raise WrongArgument(
            "`--ckpt_path` must be a checkpoint of the network that the other options make, got "
            "one of another. Pass the config.yaml of its run as --config: it lies above its "
            "directory."
        ) from None
    except _MISTAKES as error:
        chain: list[BaseException] = [error]
        while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(deeper)
        told = [each for each in chain if isinstance(each, _MISTAKES) and _is_told_of_us(each)]
        if not told:
            raise
        raise WrongArgument(told[-1]) from None


def _is_told_of_us(error: BaseException) -> bool:
    """Whether the way to an error leads through known packages alone, and to one that explains."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    modules: list[str] = [frame.f_globals.get("__name__", "") for frame in frames]
    packages = [module.partition(".")[0] for module in modules]
    is_known = _KNOWN.union(sys.stdlib_module_names).issuperset(packages)
    names_its_file = isinstance(error, _OF_FILES) and error.filename is not None
    return is_known and (names_its_file or packages[-1:] in (["lightning"], ["lightning_fw"]))
