"""What a row says: medians over the seeds, after as many batches, and up to the target."""

from __future__ import annotations

import statistics
from dataclasses import replace
from multiprocessing import active_children

import pytest

from lightning_fw.communication import measure
from lightning_fw.communication.command import table
from lightning_fw.communication.measure import CommunicationSettings, Row, list_contenders
from lightning_fw.race.tasks import TASKS

# With the digits: a rank forked from here need not import them.
pytest.importorskip("sklearn.datasets", reason="needs the extra `data`")

SETTINGS = CommunicationSettings(
    task="digits",
    cell="rnn",
    devices=2,
    steps=[2],
    batches=4,
    budget=8,
    every=2,
    seeds=3,
    first_seed=5,
    threads=1,
)


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert active_children() == []


def test_a_row_has_the_medians_of_its_seeds(monkeypatch):
    runs, train = {}, measure._train

    def noted(contender, settings, seed):
        runs[seed] = train(contender, settings, seed)
        return runs[seed]

    monkeypatch.setattr(measure, "_train", noted)
    contender = list_contenders(SETTINGS)[-1]
    row = measure.measure(contender, SETTINGS)
    assert list(runs) == [5, 6, 7]
    # The target is far: each goes on to its budget, with a look every two batches.
    assert [[p.evaluations for p in run] for run in runs.values()] == 3 * [[2, 4, 6, 8]]
    assert row.test_metric == statistics.median(run[1].test_metric for run in runs.values())
    seconds = [(run[-1].seconds - run[0].seconds) / 6 for run in runs.values()]
    assert row.seconds_a_batch == statistics.median(seconds)
    assert (row.name, row.way, row.steps) == ("local windows, K=2", "restart", 2)
    assert row.batches_to_target is None


def test_a_run_at_its_target_goes_on_to_the_batches_that_are_compared(monkeypatch):
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], target=0.0))
    contender = list_contenders(SETTINGS)[0]
    points = measure._train(contender, SETTINGS, 0)
    assert [point.evaluations for point in points] == [2, 4]


def test_a_row_stands_under_the_words_for_it():
    row = Row("DDP", "ddp", 1, 1.5, 1.25, 1234567.0, 0.0625, 0.875, 4.0)
    shown = table([row, row._replace(other_calls_a_batch=1.0)], SETTINGS)
    assert {c.header.replace("\n", " "): next(iter(c.cells)) for c in shown.columns} == {
        "ranks talk at": "DDP",
        "all- reduces a batch": "1.50",
        "bytes a batch": "1,234,567",
        "ms a batch": "62",
        "test metric": "0.8750",
        "batches to target": "4",
        "all- reduces to target": "6",
    }
    # Four batches of 32 of each rank.
    assert "test accuracy after 4 of each, 256 samples" in shown.title
    assert "up to 1.25 calls a batch" in shown.caption


@pytest.mark.parametrize(
    ("batches", "a_batch", "all_reduces"),
    [(None, 0.5, None), (180.0, 1 / 3, 60), (131.0, 0.5, 65), (7.0, 1.0, 7)],
)
def test_a_window_in_progress_at_the_target_has_told_nothing(batches, a_batch, all_reduces):
    row = Row("", "restart", 3, a_batch, 1.0, 1.0, 1.0, 1.0, batches)
    assert row.all_reduces_to_target == all_reduces
