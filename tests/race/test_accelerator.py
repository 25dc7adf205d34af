"""A race on an accelerator."""

from __future__ import annotations

import pytest

from lightning_fw.race.command import main
from lightning_fw.race.points import read_points
from tests.accelerator import NEEDS_CUDA

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("schedulefree", reason="needs the extra `race`")

pytestmark = NEEDS_CUDA


@pytest.mark.parametrize("task", ["adding", "digits"])
def test_a_race_on_a_gpu_goes_as_on_the_cpu(task, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    found = {}
    for accelerator in ("cpu", "gpu"):
        out = tmp_path / accelerator
        methods = ("--methods", "spectral", "adam-clip", "schedule-free", "muon", "scion-averaged")
        size = ("--hidden-size", "8", "--budget", "20", "--every", "10", "--seeds", "1")
        where = ("--task", task, "--accelerator", accelerator, "--out", str(out))
        assert main([*methods, *size, *where]) == 0
        found[accelerator] = read_points(out / "race.csv")
    for point, other in zip(found["gpu"], found["cpu"], strict=True):
        assert (point.method, point.evaluations) == (other.method, other.evaluations)
        assert point.seconds > 0
        assert point.train_loss == pytest.approx(other.train_loss, rel=0.02)
    assert ", on a GPU" in (tmp_path / "gpu" / "summary.md").read_text()


@pytest.mark.filterwarnings("ignore:.*Profiler clears events at the end of each cycle")
def test_a_race_can_be_tuned_and_traced_on_a_gpu(tmp_path):
    arguments = ("--task", "adding", "--cell", "gru", "--methods", "spectral", "adam-clip")
    size = ("--hidden-size", "8", "--budget", "4", "--every", "2", "--seeds", "1", "--tune", "1")
    where = ("--accelerator", "gpu", "--profile", "--out", str(tmp_path))
    assert main([*arguments, *size, *where]) == 0
    assert (tmp_path / "profile" / "spectral.json").exists()
    assert "adam-clip" in (tmp_path / "trials.csv").read_text()
