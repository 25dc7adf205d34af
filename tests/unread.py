"""The command line where nobody reads what it prints."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from lightning_fw.cli import main

from .forked import run_forked


def run_unread(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Run ``lightning-fw`` into a closed pipe.

    Returns:
        Its exit status, and what it wrote to standard error.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "lightning_fw.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    return process.returncode, told


def run_unread_forked(*arguments: str, buffered: bool, cwd: Path) -> str:
    """The same in a copy of this process: its exit code and standard error."""

    def program() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
        pipe = io.FileIO(1, "w", closefd=False)
        stream = io.BufferedWriter(pipe) if buffered else pipe
        sys.stdout = io.TextIOWrapper(stream, write_through=not buffered)
        sys.argv = ["lightning-fw", *arguments]
        sys.exit(main())

    return run_forked(program, cwd)
