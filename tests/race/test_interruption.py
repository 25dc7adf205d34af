"""Ctrl-C keeps what there is, and the same command goes on."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from lightning_fw import cli
from lightning_fw.race.command import main
from lightning_fw.race.points import read_points
from tests.forked import end_forked, start_forked

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


@pytest.fixture
def arguments(tmp_path):
    start = ["--task", "digits", "--methods", "adam", "paper", "--seeds", "1"]
    return [*start, "--budget", "150", "--every", "10", "--out", str(tmp_path)]


def interrupt_at_the_first_point_of(method, arguments, directory, by=signal.SIGINT):
    """Start the race, interrupt it, and return its exit status and what it said."""

    def program():
        # What runs in the background of a shell ignores the signal, and its children with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(cli.main(["race", *arguments]))

    process, said = start_forked(program, directory)
    deadline = time.monotonic() + 60
    while not any(point.method == method for point in read_points(directory / "race.csv")):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, by)
    end_forked(process, timeout=60)
    return process.exitcode, " ".join(said.read_text().split())


def test_an_interrupted_race_keeps_what_it_has_and_goes_on(arguments, tmp_path):
    csv = tmp_path / "race.csv"
    status, told = interrupt_at_the_first_point_of("paper", arguments, tmp_path)
    assert status == 130
    assert "Run the same command again to go on" in told
    assert "Traceback" not in told
    kept = [p for p in read_points(csv) if p.method == "adam"]
    assert kept[-1].evaluations == 150
    assert not any(p.evaluations == 150 for p in read_points(csv) if p.method == "paper")
    assert "| Adam (" in (tmp_path / "summary.md").read_text()
    assert "paper" not in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "race.png").exists()
    assert main(arguments) == 0
    points = read_points(csv)
    assert [p for p in points if p.method == "adam"] == kept
    assert [p.evaluations for p in points if p.method == "paper"] == list(range(10, 151, 10))


def test_a_terminated_race_ends_as_an_interrupted_one(arguments, tmp_path):
    status, told = interrupt_at_the_first_point_of("paper", arguments, tmp_path, signal.SIGTERM)
    assert status == 130
    assert "Run the same command again to go on" in told
    assert "| Adam (" in (tmp_path / "summary.md").read_text()


def test_without_a_finished_run_there_is_no_picture_yet(arguments, tmp_path):
    status, told = interrupt_at_the_first_point_of("adam", arguments, tmp_path)
    assert status == 130
    assert "No run is finished: there is no picture yet." in told
    assert not (tmp_path / "race.png").exists()
