"""The page's tables and picture, from a report made by hand."""

from __future__ import annotations

import json

import pytest

from lightning_fw.communication import figure
from lightning_fw.communication.measure import FORMAT, Row
from lightning_fw.communication.page import beside, break_evens, main, measured, speed_ups
from lightning_fw.communication.wall_clock import LocalWindows

pytest.importorskip("matplotlib", reason="needs the extra `plot`")

ROWS = [
    Row("DDP", "ddp", 1, 1.0, 1.0, 1000.0, 0.10, 0.015, 400.0),
    Row("every step, K=2", "step", 2, 1.5, 1.0, 1004.0, 0.11, 0.01, 100.0),
    Row("every step, K=5", "step", 5, 1.2, 1.0, 1002.0, 0.11, 0.03, None),
    Row("local windows, K=2", "restart", 2, 0.5, 1.0, 500.0, 0.12, 0.01, 131.0),
    Row("local windows, K=5", "restart", 5, 0.2, 1.0, 200.0, 0.09, 0.01, 200.0),
]
REPORT = {
    "format": FORMAT,
    "task": "adding",
    "cell": "lstm",
    "devices": 4,
    "steps": [2, 5],
    "batches": 500,
    "budget": 500,
    "every": 10,
    "seeds": 3,
    "first_seed": 0,
    "threads": 1,
}


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "comm.json"
    path.write_text(json.dumps({**REPORT, "results": [row._asdict() for row in ROWS]}))
    return path


def test_it_prints_the_tables_and_draws_the_picture(report, tmp_path, capsys):
    assert main([str(report), "--image", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("adding problem, T = 100, LSTM, 4 ranks on one machine (gloo)")
    assert "| DDP | 1.00 | 1,000 | 100 | 0.0150 | 400 | 400 |" in lines
    assert "| every step, K=5 | 1.20 | 1,002 | 110 | 0.0300 | – | – |" in lines
    assert "| local windows, K=2 | 0.50 | 500 | 120 | 0.0100 | 131 | 65 |" in lines
    assert sum(line.startswith("| 68,000") for line in lines) == len(figure.INTERCONNECTS)


@pytest.mark.parametrize(("count", "words"), [(1, "seed 5"), (3, "medians of 3 seeds")])
def test_a_table_tells_what_it_is_of_and_is_apart_from_it(count, words):
    report = {**REPORT, "results": ROWS, "seeds": count, "first_seed": 5}
    heading, blank, columns, *_ = measured(report)
    assert heading.endswith(f"test MSE after 500 of each rank; target: ≤ 0.02; {words}.")
    assert blank == ""
    assert dict(zip(columns.split(" | ")[1:-1], ROWS[0].cells()[:-1], strict=True)) == {
        "all-reduces a batch": "1.00",
        "bytes a batch": "1,000",
        "ms a batch": "100",
        "test MSE": "0.0150",
        "batches to target": "400",
    }
    assert columns.endswith(" | all-reduces to target |")


def test_windows_are_compared_in_batches():
    report = {**REPORT, "results": ROWS}
    assert beside(report, "ddp") == [
        LocalWindows(steps=2, batches=131 / 400),
        LocalWindows(steps=5, batches=200 / 400),
    ]
    assert beside(report, "step") == [
        LocalWindows(steps=2, batches=1.31),
    ]


def test_the_tables_say_where_it_pays_always_and_never():
    fewer, as_many = LocalWindows(steps=2, batches=0.2), LocalWindows(steps=2, batches=2.0)
    _, _, *rows = break_evens([fewer, as_many], [fewer, as_many])
    always, never = " always |" * 6, " never |" * 6
    assert rows == [
        f"| {title} | 2 | × {batches} |{cells}"
        for title in ("DDP, Adam", "every step")
        for batches, cells in (("0.20", always), ("2.00", never))
    ]


def test_an_oracle_that_both_have_decides_nothing():
    half = [LocalWindows(steps=4, batches=0.5)]
    _, _, ddp, step = break_evens(half, half)
    assert ddp.startswith("| DDP, Adam | 4 | × 0.50 | always | always | always |")
    # The larger network's oracle takes longer than half of the batches save: on 8 ranks a message
    # of 224 MB must take more than 34.6 ms, with f = 3.27 of 48 ms.
    assert ddp.split("|")[7] == " 51.8 "
    assert step.endswith(" always |" * 6)


def test_the_table_of_speed_ups_takes_the_better_windows():
    windows = [LocalWindows(steps=1, batches=0.5), LocalWindows(steps=10)]
    lines = list(speed_ups(windows))
    assert len(lines) == 2 + len(figure.CASES) * len(figure.INTERCONNECTS)
    slow = next(line for line in lines if line.startswith("| 32 million") and "1 GbE" in line)
    assert "(K = 10)" in slow
    fast = next(line for line in lines if line.startswith("| 32 million") and "NVLink" in line)
    assert "(K = 1)" in fast


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "else"}, "must be what bench --comm --json wrote, got"),
        ({"results": [{"speed": 1}]}, "must be what bench --comm --json wrote, got"),
        ({"results": [row._asdict() for row in ROWS[1:]]}, "the last JSON must have DDP and local"),
    ],
)
def test_a_file_of_something_else_is_named(report, tmp_path, capsys, change, message):
    report.write_text(json.dumps({**json.loads(report.read_text()), **change}))
    with pytest.raises(SystemExit, match="2"):
        main([str(report), "--image", str(tmp_path / "figure.png")])
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_file_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "none.json"), "--image", str(tmp_path / "figure.png")])
    assert "none.json" in capsys.readouterr().err


def test_a_picture_of_another_format_is_named_before_the_tables(report, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(report), "--image", str(tmp_path / "figure.txt")])
    told = capsys.readouterr()
    assert "argument --image: must end in a format that matplotlib writes" in told.err
    assert told.out == ""
