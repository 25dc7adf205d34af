"""Programs in a copy of this process, which has imported torch and Lightning already."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil


def run_forked(program: Callable[[], object], directory: Path, timeout: float = 110) -> str:
    """Run a program in a directory; how it failed and what it said, or nothing."""
    child, said = start_forked(program, directory)
    end_forked(child, timeout)
    told = said.read_text() if said.exists() else ""
    return "" if child.exitcode == 0 else f"exit code {child.exitcode}\n{told}"


def run_script_forked(path: Path, directory: Path) -> str:
    """The same of a script, which may start itself again."""

    def program() -> None:
        sys.argv = [str(path)]
        runpy.run_path(str(path), run_name="__main__")
        # Rank 0 may be done before the ranks that it started.
        psutil.wait_procs(psutil.Process().children())

    return run_forked(program, directory)


def start_forked(program: Callable[[], object], directory: Path) -> tuple[BaseProcess, Path]:
    """The process of a program, in a group of its own, and the file of what it says."""
    said = directory / "said.txt"
    child = multiprocessing.get_context("fork").Process(
        target=_run, args=(program, directory, said), daemon=True
    )
    child.start()
    return child, said


def end_forked(child: BaseProcess, timeout: float) -> None:
    """Wait for it, and kill what it started with it where the time is up."""
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _run(program: Callable[[], object], directory: Path, said: Path) -> None:
    os.setsid()
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
