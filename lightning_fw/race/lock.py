"""One process at a time in a race's directory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TextIO

LOCK = "race.lock"


def lock(directory: Path) -> TextIO:
    """Hold the directory until the file is closed, or the process is gone.

    Two races that write the same points would each take the other's run in progress for one that
    was killed. Where the system or the file system knows no locks, nothing is held.

    Returns:
        The file to close.

    Raises:
        OSError: If another process holds it.
    """
    file = (directory / LOCK).open("a", encoding="utf-8")
    with suppress(ModuleNotFoundError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OSError(
                f"`--out` must have no race in progress, got {directory}, where another process "
                "runs one. Wait for it, or pass another directory."
            ) from error
        except OSError:
            # A file system without locks.
            return file
    return file
