"""Timers count what they enclose, once, and under its own name."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
import torch

from lightning_fw import RestartRecord, cost
from lightning_fw.cost import CostMeter, Stopwatch
from lightning_fw.tally import Tally


def work():
    time.sleep(0.002)


def test_a_part_counts_under_its_own_name_alone():
    meter = CostMeter("cpu")
    with meter.measure("outer"):
        pass
    meter.take()
    with meter.measure("gradient"):
        work()
    seconds = meter.take()
    assert seconds["gradient"] >= 0.002
    assert seconds["outer"] == 0.0


def test_on_a_device_without_events_the_hosts_clock_counts():
    meter = CostMeter("mps")
    with meter.measure("gradient"):
        work()
    assert meter.take()["gradient"] >= 0.002


def test_taking_starts_anew():
    meter = CostMeter("cpu")
    with meter.measure("gradient"):
        work()
    meter.take()
    assert meter.take() == {"gradient": 0.0}


def test_repeated_parts_add_up():
    meter = CostMeter("cpu")
    for _ in range(3):
        with meter.measure("gradient"):
            work()
    assert meter.take()["gradient"] >= 0.006


def test_a_part_inside_another_counts_in_both():
    meter = CostMeter("cpu")
    with meter.measure("inner"), meter.measure("gradient"):
        work()
    seconds = meter.take()
    assert seconds["inner"] >= seconds["gradient"] >= 0.002


def test_a_part_that_fails_counts_and_lets_the_error_through():
    meter = CostMeter("cpu")

    def failing():
        with meter.measure("gradient"):
            work()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert meter.take()["gradient"] >= 0.002


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_holds_the_time_and_goes_its_own_way(duplicate):
    meter = CostMeter("cpu")
    with meter.measure("gradient"):
        work()
    twin = duplicate(meter)
    with twin.measure("gradient"):
        work()
    own, twins = meter.take()["gradient"], twin.take()["gradient"]
    assert twins >= own + 0.002


def test_a_stopwatch_counts_between_start_and_stop_alone():
    watch = Stopwatch("cpu")
    watch.start()
    work()
    watch.stop()
    held = watch.read()
    work()
    watch.stop()
    assert watch.read() == held >= 0.002


def test_a_stopwatch_tells_the_time_that_it_ran(monkeypatch):
    # It looks at the clock where it starts and stops, and twice where it is read and runs.
    clock = iter([10.0, 30.0, 30.0, 40.0, 80.0, 160.0, 160.0])
    monkeypatch.setattr(cost, "perf_counter", clock.__next__)
    watch = Stopwatch("cpu")
    watch.start()
    watch.start()
    assert watch.read() == 20
    watch.stop()
    watch.stop()
    assert watch.read() == 30
    watch.start()
    assert watch.read() == 110


def test_a_stopwatch_is_read_while_it_runs():
    watch = Stopwatch("cpu")
    watch.start()
    work()
    watch.start()
    first = watch.read()
    work()
    assert watch.read() >= first + 0.002 >= 0.004


def test_a_stopwatch_goes_on_from_what_it_is_set_to():
    watch = Stopwatch("cpu")
    watch.start()
    watch.reset(100.0)
    work()
    assert watch.read() >= 100.002


def test_a_copy_of_a_running_stopwatch_stands_still():
    watch = Stopwatch("cpu")
    watch.start()
    twin = copy.deepcopy(watch)
    work()
    assert twin.read() == 0.0
    assert watch.read() >= 0.002


def test_what_was_not_read_is_gone_after_a_reset():
    watch = Stopwatch("cpu")
    watch.start()
    work()
    watch.stop()
    watch.reset(100.0)
    assert watch.read() == 100.0


@pytest.mark.gpu
def test_on_cuda_the_device_is_timed_not_the_launch():
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    meter, matrix = CostMeter("cuda"), torch.randn(4096, 4096, device="cuda")
    _ = matrix @ matrix
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(2):
        with meter.measure("gradient"):
            for _ in range(10):
                _ = matrix @ matrix
    launched = time.perf_counter() - start
    seconds = copy.deepcopy(meter).take(), meter.take()
    assert seconds[0] == {"gradient": 0.0}
    assert launched < seconds[1]["gradient"] <= time.perf_counter() - start
    assert meter.take() == {"gradient": 0.0}


def test_a_record_splits_the_seconds_of_a_window_that_was_saved_and_goes_on():
    saved = {"gradient": 2.0, "inner": 5.0, "outer": 1.0}
    tally = Tally(torch.device("cpu"))
    tally.load_state_dict({"batches": 3, "evaluations": 2.5, "seconds": saved})
    for name in ("inner", "gradient", "outer"):
        with tally.measure(name):
            work()
    again = Tally(torch.device("cpu"))
    again.load_state_dict(tally.state_dict())
    empty = RestartRecord(restart=0, steps=1, skipped=0, early=False)
    record = again.close(empty)
    assert (record.batches, record.gradient_evaluations) == (3, 2.5)
    assert 2 < record.gradient_seconds < 2.5
    assert record.oracle_seconds == pytest.approx(3.0, abs=0.5)
    assert 1 < record.outer_seconds < 1.5
    assert again.close(empty) == empty


def test_a_saved_state_stays_what_it_was():
    saved = {"batches": 3, "evaluations": 2.5, "seconds": {"inner": 5.0}}
    tally = Tally(torch.device("cpu"))
    tally.load_state_dict(saved)
    state = tally.state_dict()
    with tally.measure("inner"):
        work()
    assert tally.state_dict()["seconds"]["inner"] > 5
    assert state == saved == {"batches": 3, "evaluations": 2.5, "seconds": {"inner": 5.0}}
