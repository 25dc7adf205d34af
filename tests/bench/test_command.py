"""The command ``lightning-fw bench``."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from lightning_fw.bench import whole_batch
from lightning_fw.cli import main
from lightning_fw.nn import SequenceRegressor


def test_bench_writes_its_table_and_json(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main(["bench", "--hidden", "4", "--rounds", "2", "--json", str(path)]) == 0
    assert "l2 step, tensor" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert (report["parameters"], report["tensors"]) == (128, 4)
    rows = {row["name"]: row for row in report["results"]}
    assert rows["Adam, fused"]["ratio"] == 1.0
    assert rows["copy of the weights"]["bytes_a_parameter"] == 8
    assert all(row["median_us"] > 0 for row in rows.values())
    assert rows["l2 step, norms and sums alone"]["floor"] == 16
    assert "batches" not in report


def test_bench_times_the_balls_asked_for_alone(tmp_path):
    path = tmp_path / "bench.json"
    arguments = ("--hidden", "4", "--rounds", "1", "--balls", *["nuclear"] * 2)
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    names = [row["name"] for row in json.loads(path.read_text())["results"]]
    assert [name for name in names if " step" in name] == [
        "l2 step, one by one",
        "nuclear step",
    ]


def test_bench_computes_on_the_threads_that_it_tells(tmp_path):
    path = tmp_path / "bench.json"
    arguments = ("--hidden", "4", "--rounds", "1", "--balls", "nuclear", "--threads", "2")
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    assert json.loads(path.read_text())["threads"] == torch.get_num_threads() == 2


def test_bench_counts_what_windows_and_adam_keep(tmp_path):
    path = tmp_path / "bench.json"
    assert main(["bench", "--hidden", "4", "--rounds", "1", "--json", str(path)]) == 0
    memory = json.loads(path.read_text())["memory"]
    weights = 4 * 128
    assert memory["parameters"] == weights
    whitening = 4 * 4 * 4 * (8 + 4)
    # Two averages and a count of steps a tensor; anchor and displacement; momentum and atom, too,
    # covariances of four gates in float64 and their rotations, and what the radii need.
    assert memory["Adam"] == 2 * weights + 4 * 4
    assert memory["window of InnerLoop.paper()"] == 2 * weights
    assert 0 <= memory["window of InnerLoop.spectral()"] - 4 * weights - whitening < 200


def test_bench_times_a_batch_in_the_trainer(tmp_path, capsys):
    path = tmp_path / "bench.json"
    arguments = ("--hidden", "4", "--rounds", "1", "--balls", "l2", "--trainer", "1")
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    assert "in the Trainer" in " ".join(capsys.readouterr().out.split())
    rows = json.loads(path.read_text())["batches"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["median_ms"] > 0 for row in rows)
    assert [row["name"] for row in rows] == [
        "plain Lightning, Adam",
        "InnerLoop.paper()",
        "… and monitored",
        "InnerLoop.spectral()",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "none/bench.json"), "--json: must be a file in a directory that exists, got"),
        (("--json", "."), "--json: must be a file in a directory that exists, got ."),
        (("--device", "abacus"), "--device: must be a device of this machine, got abacus"),
        (("--device", "meta"), "--device: must be a device of this machine, got meta"),
    ],
)
def test_bench_names_a_mistake_before_it_measures(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_beginning_of_comm_counts_messages_too(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--com", "--batches", "0"])
    assert "--batches: must be a whole number >= 1, got 0" in capsys.readouterr().err


def test_bench_refuses_no_rounds(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--rounds", "0"])
    assert "must be a whole number >= 1, got 0" in capsys.readouterr().err


def test_an_interruption_of_a_fit_ends_as_any_other(monkeypatch, capsys):
    class Interrupted(SequenceRegressor):
        def training_step(self, batch, batch_idx):
            # As Ctrl-C does.
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(whole_batch, "SequenceRegressor", Interrupted)
    arguments = ("--hidden", "4", "--rounds", "1", "--balls", "l2", "--trainer", "1")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["bench", *arguments]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "Interrupted." in capsys.readouterr().err
