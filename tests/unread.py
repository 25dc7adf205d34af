"""The command line where nobody reads what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_unread(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run ``lightning-fw`` into a closed pipe.

    Returns:
        Its exit status, and what it wrote to standard error.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "lightning_fw.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    return process.returncode, told
