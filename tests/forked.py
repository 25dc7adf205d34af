"""Programs in a copy of this process, which has imported torch and Lightning already."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path


def run_forked(program: Callable[[], object], directory: Path, timeout: float = 110) -> str:
    """Run a program in a directory; how it failed and what it said, or nothing."""
    said = directory / "said.txt"
    child = multiprocessing.get_context("fork").Process(
        target=_run, args=(program, directory, said), daemon=True
    )
    child.start()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
    told = said.read_text() if said.exists() else ""
    return "" if child.exitcode == 0 else f"exit code {child.exitcode}\n{told}"


def _run(program: Callable[[], object], directory: Path, said: Path) -> None:
    os.chdir(directory)
    file = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2)
    )
    # pytest makes errors of warnings; a user's programs warn.
    warnings.resetwarnings()
    program()
