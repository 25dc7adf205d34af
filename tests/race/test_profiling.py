"""--profile: a trace that a browser opens, and a race that does not feel it."""

from __future__ import annotations

import json

import pytest

from lightning_fw.race.command import main, parse
from lightning_fw.race.points import read_points

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


# torch 2.11 tells each profiler that keeps nothing beyond its trace.
@pytest.mark.filterwarnings("ignore:.*Profiler clears events at the end of each cycle")
def test_each_method_leaves_a_trace_of_ten_batches(tmp_path):
    arguments = ["--task", "digits", "--methods", "spectral", "adam", "--seeds", "1"]
    arguments += ["--hidden-size", "4", "--budget", "2", "--every", "2", "--out", str(tmp_path)]
    assert main([*arguments, "--profile"]) == 0
    assert [p.evaluations for p in read_points(tmp_path / "race.csv")] == [2, 2]
    for name in ("spectral", "adam"):
        trace = json.loads((tmp_path / "profile" / f"{name}.json").read_text())
        events = [event.get("name", "") for event in trace["traceEvents"]]
        batches = [n for n in events if n.startswith("[pl]") and n.endswith("run_training_batch")]
        assert len(batches) == 10
        inner_steps = [n for n in events if n.endswith("[FrankWolfeMixin]inner_step")]
        assert len(inner_steps) == (10 if name == "spectral" else 0)
        table = (tmp_path / "profile" / f"fit-{name}.txt").read_text()
        assert "aten::" in table


def test_several_processes_are_not_traced(capsys):
    with pytest.raises(SystemExit):
        parse(["--profile", "--strategy", "ddp", "--devices", "2"])
    assert "--profile traces one process: leave out --strategy" in capsys.readouterr().err
