"""What importing costs: nobody waits for what was not asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lightning_fw


def loaded_by(statement: str) -> set[str]:
    """The modules that a new interpreter has after it."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=110
    )
    return set(done.stdout.split())


def test_the_command_explains_itself_without_torch():
    assert "torch" not in loaded_by("import lightning_fw.cli")


def test_a_window_needs_no_lightning():
    plain = loaded_by("from lightning_fw import InnerLoop\nfrom lightning_fw.window import Window")
    assert "torch" in plain
    assert not {"lightning", "torchmetrics"} & plain


def test_every_public_name_is_there():
    for name in lightning_fw.__all__:
        assert getattr(lightning_fw, name).__name__ == name
    assert lightning_fw.window.Window.__name__ == "Window"
    assert set(lightning_fw.__all__) <= set(dir(lightning_fw))


def test_an_unknown_name_is_told():
    assert not hasattr(lightning_fw, "function.<locals>")
    with pytest.raises(AttributeError, match="`lightning_fw` has no attribute 'L2Bal'. Use one of"):
        lightning_fw.L2Bal  # noqa: B018
