"""What is timed, in which units, and what it is compared with."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.bench.contenders import COPY, REFERENCE, Contender
from lightning_fw.bench.tables import batches_table, growth_table, memory_table, steps_table
from lightning_fw.bench.timing import RUNS_A_TURN, measure, summarize


def nothing():
    pass


def rows_of(table):
    return list(zip(*(column.cells for column in table.columns), strict=True))


@pytest.mark.parametrize(("rounds", "warm_up"), [(1, 1), (7, 5)])
def test_contenders_take_turns_and_the_first_turns_do_not_count(rounds, warm_up):
    done = []

    def contender(name):
        return Contender(name, lambda: done.append("prepare"), lambda: done.append(name))

    seconds = measure([contender("a"), contender("b")], rounds, torch.device("cpu"))
    turn = [*RUNS_A_TURN * ["prepare", "a"], *RUNS_A_TURN * ["prepare", "b"]]
    assert done == (warm_up + rounds) * turn
    assert {name: len(each) for name, each in seconds.items()} == {
        "a": rounds * RUNS_A_TURN,
        "b": rounds * RUNS_A_TURN,
    }


def test_medians_and_quartiles_are_in_microseconds_beside_adams_and_a_copys():
    contenders = [
        Contender("a step", nothing, nothing),
        Contender(REFERENCE, nothing, nothing, 28),
        Contender(COPY, nothing, nothing, 8),
    ]
    seconds = {
        "a step": [9e-6, 1e-6, 2e-6, 3e-6, 4e-6],
        REFERENCE: [6e-6, 5e-6, 60e-6],
        COPY: [2e-6, 1e-6, 20e-6],
    }
    step, adam, copy = summarize(contenders, seconds)
    assert (step["name"], step["floor"], adam["floor"]) == ("a step", None, 28)
    assert step["median_us"] == pytest.approx(3)
    assert step["quartiles_us"] == pytest.approx([2, 4])
    assert (step["ratio"], adam["ratio"]) == pytest.approx((0.5, 1))
    # In 3 µs a copy moves half as much again as the 8 bytes of its 2 µs.
    assert [row["bytes_a_parameter"] for row in (step, copy)] == pytest.approx([12, 8])


REPORT = {
    "cell": "lstm",
    "hidden": 4,
    "parameters": 128,
    "tensors": 4,
    "device": "cpu",
    "rounds": 7,
    "runs_a_round": 10,
    "fits": 3,
}


def test_the_tables_of_steps_and_of_memory_have_the_units_of_their_headings():
    step = {
        "name": "a step",
        "median_us": 3.04,
        "quartiles_us": [2.0, 4.06],
        "ratio": 0.504,
        "bytes_a_parameter": 12.4,
        "floor": 16,
    }
    unknown = {**step, "floor": None}
    table = steps_table({**REPORT, "results": [step, unknown]})
    headings = ["median µs", "quartiles µs", "× fused Adam", "bytes a parameter", "least"]
    assert [column.header.replace("\n", " ") for column in table.columns] == ["", *headings]
    assert table.title.startswith("lstm-4, 128 parameters in 4 tensors, cpu, 7 turns of 10 runs. ")
    assert rows_of(table) == [
        ("a step", "3.0", "2.0–4.1", "0.50", "12", "16"),
        ("a step", "3.0", "2.0–4.1", "0.50", "12", ""),
    ]
    memory = {"parameters": 512, "a window": 5_120_000}
    table = memory_table({**REPORT, "memory": memory})
    assert [column.header for column in table.columns] == ["", "MB", "bytes a parameter"]
    assert rows_of(table) == [("parameters", "0.00", "4.0"), ("a window", "5.12", "40000.0")]


def test_the_table_of_whole_batches_has_a_row_for_each_way():
    row = {"name": "a way", "median_ms": 5.006, "range_ms": [4.0, 7.25], "ratio": 1.0304}
    table = batches_table({**REPORT, "batches": [row]})
    headings = ["", "median ms", "least to most ms", "× plain Lightning, Adam"]
    assert [column.header for column in table.columns] == headings
    assert rows_of(table) == [("a way", "5.01", "4.00–7.25", "1.030")]
    assert table.title.endswith("lstm-4, 128 parameters, 3 fits of each")


def test_sizes_of_a_growth_have_three_figures():
    sizes = (9_999, 10_000, 266_240, 1_000_000, 67_129_344)
    axis = {"name": "parameters", "series": {"a step": [(size, 1.0, 1.0, 1.0) for size in sizes]}}
    headings = [column.header for column in growth_table(axis).columns]
    assert headings == ["", "size^", "9999", "10k", "266k", "1M", "67.1M"]
