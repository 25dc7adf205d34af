"""On a plain module the monitor records back-propagation, for a later run to be judged by."""

from __future__ import annotations

import json
from math import inf, nan

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.bptt_run import BPTTRun
from lightning_fw.monitoring.loss_curve import compare
from lightning_fw.monitoring.monitor_file import write

from .cases import Plain, Restarting, loader, trainer


def fitted(module, *, batches=12, **settings):
    monitor = FWRestartMonitor(table=False)
    trainer(monitor, **settings).fit(module, loader(batches))
    return monitor


@pytest.fixture
def saved(tmp_path):
    """A baseline's monitor and the file that it saved."""
    monitor = fitted(Plain(), batches=40)
    monitor.save(tmp_path / "baseline.json")
    return monitor, tmp_path / "baseline.json"


# More batches than are read at once, and a rest.
@pytest.mark.parametrize("batches", [7, 120])
def test_every_batch_is_one_evaluation_with_its_loss(batches):
    module = Plain()
    monitor = fitted(module, batches=batches)
    curve = monitor.curve()
    assert curve.evaluations == list(range(batches))
    assert curve.losses == pytest.approx(module.losses)
    assert curve.seconds[0] == 0.0
    assert curve.seconds == sorted(set(curve.seconds))


def test_the_summary_counts_evaluations_and_seconds():
    monitor = fitted(Plain(), batches=120, max_epochs=2)
    summary = monitor.summary()
    assert summary["bptt/gradient_evaluations"] == 240
    # The last batch began before all seconds were spent.
    assert summary["bptt/seconds_per_batch"] > monitor.curve().seconds[-1] / 240 > 0
    assert summary["bptt/loss"] == monitor.curve().smoothed().losses[-1]


def test_time_after_the_fit_does_not_count():
    monitor = fitted(Plain())
    assert monitor.summary() == monitor.summary()


def test_saved_seconds_go_on_from_where_they_were():
    run = BPTTRun()
    for _ in range(2):
        run.add(1, torch.tensor(1.0))
    run.load_state_dict(run.state_dict() | {"seconds": 1000.0})
    for _ in range(2):
        run.add(1, torch.tensor(1.0))
    assert run.curve().seconds[2:] == [1000.0, 1000.0]


def test_accumulated_batches_keep_their_own_loss():
    module = Plain()
    monitor = fitted(module, accumulate_grad_batches=3)
    assert monitor.curve().losses == pytest.approx(module.losses)
    assert monitor.summary()["bptt/gradient_evaluations"] == 12


def test_an_optimizer_that_evaluates_again_pays_for_it():
    class Searching(Plain):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), max_iter=3, tolerance_grad=0)

    module = Searching()
    monitor = fitted(module, batches=4)
    assert monitor.summary()["bptt/gradient_evaluations"] == len(module.losses) > 4


def test_a_loop_of_the_users_own_is_counted_by_its_backward_passes():
    class Manual(Plain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for _ in range(2):
                loss = super().training_step(batch, batch_idx)
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            return {"loss": loss}

    module = Manual()
    monitor = fitted(module, batches=4)
    assert monitor.curve().evaluations == [0, 2, 4, 6]
    assert monitor.curve().losses == pytest.approx(module.losses[1::2])


def test_a_batch_without_a_loss_costs_evaluations_but_has_no_point():
    class Silent(Plain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(super().training_step(batch, batch_idx))

    monitor = fitted(Silent(), batches=4)
    assert len(monitor.curve()) == 0
    assert monitor.summary()["bptt/gradient_evaluations"] == 4


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_skipped_batch_is_no_evaluation():
    class Skipping(Plain):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) if batch_idx % 2 else None

    monitor = fitted(Skipping(), batches=6)
    assert monitor.curve().evaluations == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
def test_a_resumed_baseline_goes_on(tmp_path):
    def fit(max_epochs, **settings):
        monitor = FWRestartMonitor(table=False)
        saving = L.pytorch.callbacks.ModelCheckpoint(tmp_path, save_last=True)
        trainer(monitor, saving, enable_checkpointing=True, max_epochs=max_epochs).fit(
            Plain(), loader(), **settings
        )
        return monitor.curve()

    first = fit(1)
    resumed = fit(2, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert resumed.evaluations == list(range(24))
    assert resumed.losses[:12] == first.losses
    assert resumed.seconds == sorted(resumed.seconds)


def test_the_file_and_the_monitor_make_the_same_baseline(saved):
    monitor, path = saved
    module, runs = Restarting(), []
    for baseline in (monitor, path, str(path)):
        runs.append(FWRestartMonitor(baseline=baseline, table=False))
        trainer(runs[-1]).fit(module, loader(40))
        assert runs[-1].comparison() == compare(runs[-1].curve(), monitor.curve())
        assert len(runs[-1].comparison()) == 5


def test_the_comparison_enters_summary_and_table(saved, capsys):
    run = FWRestartMonitor(baseline=saved[1])
    trainer(run).fit(Restarting(), loader(40))
    best = run.comparison()[-1]
    summary = run.summary()
    assert summary["to_baseline/loss"] == best.loss
    assert summary["to_baseline/evaluations"] == pytest.approx(best.evaluations, nan_ok=True)
    assert summary["to_baseline/baseline_seconds"] == best.baseline_seconds
    shown = capsys.readouterr().out
    assert "Cost to reach the baseline's losses" in shown
    assert f"{best.loss:.4g}" in shown
    assert ("never" in shown) == any(row.evaluations != row.evaluations for row in run.comparison())


def test_a_baselines_own_table_is_shown(capsys):
    trainer(FWRestartMonitor()).fit(Plain(), loader())
    assert "bptt/seconds_per_batch" in capsys.readouterr().out


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
        ([], r"`baseline` must hold losses, got '.*' without any"),
    ],
)
def test_a_damaged_curve_is_refused_at_once(saved, losses, message):
    content = json.loads(saved[1].read_text())
    points = [0.0] * (0 if losses == [] else 2)
    content["curve"] = {"evaluations": points, "seconds": points, "losses": losses}
    saved[1].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        FWRestartMonitor(baseline=saved[1])


def test_a_missing_file_is_refused_at_once(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`baseline` must be a file, got '.*none\.json'\. Pass a file"
    ):
        FWRestartMonitor(baseline=tmp_path / "none.json")


def test_something_else_is_refused_at_once():
    with pytest.raises(TypeError, match=r"`baseline` must be a path or a FWRestartMonitor, got 3"):
        FWRestartMonitor(baseline=3)


def test_a_frank_wolfe_run_is_no_baseline(tmp_path):
    run = fitted(Restarting())
    run.save(tmp_path / "run.json")
    message = r"`baseline` must be a BPTT run, got one of method 'frank_wolfe'\. Fit the module"
    with pytest.raises(ValueError, match=message):
        FWRestartMonitor(baseline=tmp_path / "run.json")
    with pytest.raises(ValueError, match=message):
        trainer(FWRestartMonitor(baseline=run)).fit(Restarting(), loader())


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_monitor_without_losses_is_no_baseline():
    class Silent(Plain):
        def training_step(self, batch, batch_idx):
            return None

    empty = fitted(Silent())
    with pytest.raises(ValueError, match=r"`baseline` must hold losses, got a monitor without any"):
        trainer(FWRestartMonitor(baseline=empty)).fit(Restarting(), loader())


def test_baselines_of_back_propagation_compare_too(saved):
    class Slow(Plain):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.03)

    slow = FWRestartMonitor(baseline=saved[1], table=False)
    trainer(slow).fit(Slow(), loader(40))
    rows = slow.comparison()
    assert rows[1].evaluations > rows[1].baseline_evaluations


def test_a_loss_of_one_entry_and_lower_precision_is_read():
    class Odd(Plain):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1).bfloat16()

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0].bfloat16()).square().mean()[None]

    assert len(fitted(Odd()).curve()) == 12
