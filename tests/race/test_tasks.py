"""What is raced on: each task has the data of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_fw.race import tasks
from lightning_fw.race.tasks import TASKS

TEXTS = ("TextData", "PennTreebank", "WikiText2")
SEQUENCES = ("AddingProblem", "CopyMemory", "SequentialDigits", "SequentialMNIST", "HAR2", "DSA19")
SHAKESPEARE = (Path("root/shakespeare.txt"),)


@pytest.fixture
def asked(monkeypatch):
    """What the data of a task is asked for with: its class, and all of its arguments."""
    for name in SEQUENCES + TEXTS:
        monkeypatch.setattr(tasks, name, lambda *a, _name=name, **s: (_name, a, s))
    return lambda name: TASKS[name].data(7, Path("root"))


@pytest.mark.parametrize("name", TASKS)
def test_data_are_of_the_seed_and_of_the_tasks_batches(name, asked):
    made_of, _, settings = asked(name)
    assert settings["batch_size"] == TASKS[name].batch_size
    assert settings.get("seed") == (None if made_of in TEXTS else 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adding", ("AddingProblem", (100,), {})),
        ("adding-30", ("AddingProblem", (30,), {})),
        ("copy", ("CopyMemory", (120,), {})),
        ("digits", ("SequentialDigits", ("row",), {})),
        ("digits-pixel", ("SequentialDigits", ("pixel",), {})),
        ("mnist", ("SequentialMNIST", (Path("root"), "row"), {"noise": 0.0})),
        ("mnist-noisy", ("SequentialMNIST", (Path("root"), "row"), {"noise": 0.62})),
        ("mnist-padded", ("SequentialMNIST", (Path("root"), "padded"), {"noise": 0.0})),
        ("har", ("HAR2", (Path("root"),), {"noise": 0.0})),
        ("har-noisy", ("HAR2", (Path("root"),), {"noise": 2.0})),
        ("shakespeare", ("TextData", SHAKESPEARE, {"level": "character", "chunk_length": 64})),
        ("shakespeare-words", ("TextData", SHAKESPEARE, {"min_count": 3})),
    ],
)
def test_data_are_those_of_the_tasks_name(name, expected, asked):
    made_of, arguments, settings = asked(name)
    more = {key: value for key, value in settings.items() if key not in ("seed", "batch_size")}
    assert (made_of, arguments, more) == expected


LENGTHS = {
    **{"adding-30": 30, "adding": 100, "adding-200": 200, "copy": 140},
    **{"digits": 8, "digits-pixel": 64, "mnist": 28, "mnist-noisy": 28},
    **{"mnist-pixel": 784, "mnist-permuted": 784, "mnist-padded": 1000},
    **{"har": 128, "har-noisy": 128, "dsa": 125},
}


@pytest.mark.parametrize(("name", "length"), LENGTHS.items())
def test_sequences_are_cut_into_whole_chunks(name, length):
    chunks, rest = divmod(length, TASKS[name].chunk_length)
    assert chunks > 1
    assert rest == 0


def test_fewer_nats_are_better():
    assert TASKS["ptb"].goal == "≤ 5.2"
    assert TASKS["ptb"].reached(5.1)
    assert not TASKS["ptb"].reached(5.3)
