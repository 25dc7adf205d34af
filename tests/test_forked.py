"""A program that fails in a copy of the process is told of."""

from __future__ import annotations

import os
import signal

import pytest

from .forked import run_forked


def raises():
    raise ValueError("wrong")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("program", "told"),
    [(raises, "ValueError: wrong"), (dies, "exit code -9")],
    ids=["raises", "dies"],
)
def test_a_failure_is_told(program, told, tmp_path):
    assert told in run_forked(program, tmp_path)


def test_success_says_nothing(tmp_path):
    assert run_forked(lambda: print("words"), tmp_path) == ""


def test_a_program_without_end_is_told(tmp_path):
    assert "exit code -9" in run_forked(signal.pause, tmp_path, timeout=1)
