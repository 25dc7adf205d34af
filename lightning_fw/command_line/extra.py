"""The packages of the extra ``cli``, without which some commands cannot run."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def is_installed(*packages: str, command: str) -> bool:
    """Whether packages can be imported; the first that cannot is told on stderr.

    Args:
        packages: Their names.
        command: Of ``lightning-fw``, which needs them.
    """
    for package in packages:
        if find_spec(package) is None:
            print(
                f"lightning-fw {command} needs {package}. Run pip install 'lightning-fw[cli]'.",
                file=sys.stderr,
            )
            return False
    return True
