"""The file that a monitor saves: what it says, how it is written, and when it is refused."""

from __future__ import annotations

import json
from math import inf, nan

import pytest

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.monitor_file import write

from .cases import Plain, Restarting, fitted


def test_the_file_says_what_it_is_in_strict_json(tmp_path, saved):
    def strict(constant):
        raise AssertionError(constant)

    frank_wolfe = fitted(Restarting())
    frank_wolfe.save(tmp_path / "new folder" / "run.json")
    for path, method in ((saved[1], "bptt"), (tmp_path / "new folder/run.json", "frank_wolfe")):
        content = json.loads(path.read_text(), parse_constant=strict)
        assert content["format"] == "lightning_fw.monitor"
        assert content["version"] == 1
        assert content["method"] == method
        assert content["summary"]
    losses = [window.loss_first for window in frank_wolfe.records]
    assert content["records"]["loss_first"] == losses
    assert content["records"]["slope_ratio"] == [None] * 4


def test_a_save_that_fails_leaves_nothing_behind(saved, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        saved[0].save(tmp_path / "taken")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["baseline.json", "taken"]


def test_a_save_replaces_the_file(saved):
    other = fitted(Plain(), batches=3)
    other.save(saved[1])
    assert json.loads(saved[1].read_text())["gradient_evaluations"] == 3


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
@pytest.mark.parametrize("module", [Plain, Restarting])
def test_a_fit_without_a_finite_loss_is_saved(module, tmp_path):
    class Diverged(module):
        def training_step(self, batch, batch_idx):
            return nan * super().training_step(batch, batch_idx)

    monitor = fitted(Diverged(), batches=6)
    monitor.save(tmp_path / "run.json")
    summary = json.loads((tmp_path / "run.json").read_text())["summary"]
    assert 6 in summary.values() and summary.keys() == monitor.summary().keys()


def test_infinities_are_told_from_what_is_not_known(tmp_path):
    write(tmp_path / "run.json", {"a": [inf, -inf, nan, 1.0]}, {})
    assert json.loads((tmp_path / "run.json").read_text())["a"] == ["inf", "-inf", None, 1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", r"`baseline` must be JSON, got '.*run\.json': "),
        ("[1, 2]", r"`baseline` must be a monitor's file, got '.*' of format None"),
        ('{"format": "other"}', r"`baseline` must be a monitor's file, got '.*' of format 'other'"),
        (
            '{"format": "lightning_fw.monitor", "version": 99}',
            r"`baseline` must be of version 1, got '.*' of version 99\. Save it again",
        ),
        (
            '{"format": "lightning_fw.monitor", "version": 1, "method": "bptt"}',
            r"`baseline` is damaged, got '.*run\.json'\. Pass a file that FWRestartMonitor\.save",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_at_once(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        FWRestartMonitor(baseline=path)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0], r"`baseline` is damaged"),
        ([1.0, "x"], r"`baseline` is damaged"),
        ([1.0, None], r"`baseline` is damaged"),
        (3, r"`baseline` is damaged"),
        ([], r"`baseline` must hold finite losses, got '.*' with none"),
    ],
)
def test_a_damaged_curve_is_refused_at_once(saved, losses, message):
    content = json.loads(saved[1].read_text())
    points = [0.0] * (0 if losses == [] else 2)
    content["curve"] = {"evaluations": points, "seconds": points, "losses": losses}
    saved[1].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        FWRestartMonitor(baseline=saved[1])


@pytest.mark.parametrize("column", ["evaluations", "seconds"])
@pytest.mark.parametrize("points", [[-1.0, 0.0], [1.0, 0.0]], ids=["below zero", "falling"])
def test_costs_that_begin_below_zero_or_fall_are_refused_at_once(saved, column, points):
    content = json.loads(saved[1].read_text())
    content["curve"] = {"evaluations": [0.0, 1.0], "seconds": [0.0, 1.0], "losses": [2.0, 1.0]}
    content["curve"][column] = points
    saved[1].write_text(json.dumps(content))
    with pytest.raises(ValueError, match="`baseline` is damaged"):
        FWRestartMonitor(baseline=saved[1])


def test_a_missing_file_is_refused_at_once(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`baseline` must be a file, got '.*none\.json'\. Pass a file"
    ):
        FWRestartMonitor(baseline=tmp_path / "none.json")
