"""Processes that train together: heard live, and never left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import active_children

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from lightning_fw.processes import on_ranks


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert active_children() == []


def test_rank_zero_is_heard_in_order_and_each_rank_knows_itself(tmp_path):
    def work(tell):
        rank = int(os.environ["LOCAL_RANK"])
        (tmp_path / f"{rank}").write_text(os.environ["WORLD_SIZE"])
        tell(("first", rank))
        tell(("second", torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]))

    heard = []
    on_ranks(work, 3, heard.append)
    assert heard == [("first", 0), ("second", 1, "1")]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("012", "3")
    assert "LOCAL_RANK" not in os.environ


def test_it_hears_while_the_work_goes_on(tmp_path):
    def work(tell):
        tell("started")
        deadline = time.monotonic() + 30
        while not (tmp_path / "heard").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    on_ranks(work, 2, lambda told: (tmp_path / "heard").touch())


def test_the_error_of_a_rank_is_told_and_ends_the_others():
    def work(tell):
        if os.environ["LOCAL_RANK"] == "1":
            raise ValueError("a defect")
        time.sleep(0.2)
        tell("going on")

    with pytest.raises(ProcessRaisedException, match="ValueError: a defect"):
        on_ranks(work, 2, lambda told: None)


def test_a_rank_that_dies_is_told():
    with pytest.raises(ProcessExitedException, match="terminated with exit code 3"):
        on_ranks(lambda tell: os._exit(3), 2, lambda told: None)


def test_an_interruption_here_ends_all():
    def work(tell):
        tell("started")
        time.sleep(60)

    def interrupted(told):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        on_ranks(work, 2, interrupted)
    assert time.monotonic() - start < 30


def test_all_that_is_told_up_to_the_end_is_heard(monkeypatch):
    # Long enough that the work is over at the second look.
    monkeypatch.setattr("lightning_fw.processes._PATIENCE_SECONDS", 60)
    heard = []
    on_ranks(lambda tell: [tell(number) for number in range(20)], 1, heard.append)
    assert heard == [*range(20)]


def test_a_rank_has_the_usual_signals_streams_and_threads(monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(2)

    def work(tell):
        signals = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        streams = (sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
        tell((signals, streams, os.environ["OMP_NUM_THREADS"], os.environ["NODE_RANK"]))

    heard = []
    try:
        on_ranks(work, 1, heard.append)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [([signal.SIG_DFL, signal.SIG_DFL], (True, True), "2", "0")]
