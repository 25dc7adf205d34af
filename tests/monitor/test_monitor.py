"""The monitor in a fit with the mixin."""

from __future__ import annotations

import copy
import csv
import pickle

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_fw import FWRestartMonitor, InnerLoop
from lightning_fw.monitoring.metrics import moments, summarize

from .cases import Plain, Restarting, loader, record, trainer

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD")

# What every window knows; the slope ratio comes with a SlopeRatio alone.
LOGGED = {
    "fw/restarts",
    "fw/early_restarts",
    "fw/steps",
    "fw/gap",
    "fw/gap_ratio",
    "fw/ball_usage",
    "fw/cosine",
    "fw/loss_drop",
    "fw/skipped",
    "fw/gradient_evaluations",
    "fw/seconds_per_batch",
    "fw/bptt_seconds_per_batch",
    "fw/cost_ratio",
    "fw/radius",
}


class Adaptive(Restarting):
    def configure_frank_wolfe(self):
        return InnerLoop.spectral()


class Seen(Restarting):
    """Notes every record that the mixin hands out."""

    def __init__(self):
        super().__init__()
        self.handed = []

    def on_restart(self, record):
        self.handed.append(record)


def fitted(module, *, batches=12, table=False, log_every_n_restarts=1, **settings):
    monitor = FWRestartMonitor(log_every_n_restarts=log_every_n_restarts, table=table)
    fit = trainer(monitor, **settings)
    fit.fit(module, loader(batches))
    return monitor, fit


def test_it_keeps_what_the_mixin_hands_out():
    module = Seen()
    monitor, _ = fitted(module, batches=8)
    assert monitor.records == module.handed
    assert [window.steps for window in monitor.records] == [3, 3, 2]


def test_the_loss_of_a_window_is_that_of_its_first_batch():
    module = Restarting()
    monitor, _ = fitted(module, batches=8)
    curve = monitor.curve()
    assert curve.evaluations == [0, 3, 6]
    assert curve.losses == pytest.approx(module.losses[::3])
    assert curve.seconds[0] == 0.0 < curve.seconds[1] < curve.seconds[2]


def test_every_name_can_be_watched_by_callbacks():
    _, fit = fitted(Restarting())
    assert {name for name in fit.callback_metrics if name.startswith("fw/")} == LOGGED


def test_the_slope_ratio_is_logged_where_a_rule_has_one():
    _, fit = fitted(Adaptive())
    assert {name for name in fit.callback_metrics if "fw/" in name} == LOGGED | {"fw/slope_ratio"}


@pytest.mark.parametrize("every", [1, 2, 3])
def test_what_is_logged_are_means_since_the_last_time_and_totals(every):
    monitor, fit = fitted(Restarting(), batches=15, log_every_n_restarts=every)
    logged = {name: value.item() for name, value in fit.callback_metrics.items()}
    upto = 5 - 5 % every
    recent = summarize(moments(monitor.records[upto - every : upto]))
    whole = summarize(moments(monitor.records[:upto]))
    assert logged["fw/gap"] == pytest.approx(recent["fw/gap"])
    assert logged["fw/loss_drop"] == pytest.approx(recent["fw/loss_drop"])
    assert logged["fw/restarts"] == upto
    assert logged["fw/gradient_evaluations"] == 3 * upto
    assert logged["fw/cost_ratio"] == pytest.approx(whole["fw/cost_ratio"])


@pytest.mark.parametrize("every", [1, 2, 100])
def test_the_summary_is_over_all_restarts(every):
    monitor, _ = fitted(Restarting(), batches=15, log_every_n_restarts=every)
    expected = summarize(moments(monitor.records))
    assert monitor.summary() == pytest.approx(expected, nan_ok=True)


def test_the_summary_is_there_before_the_fit_ends():
    summaries = []

    class Curious(Restarting):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            summaries.append(self.trainer.callbacks[0].summary().get("fw/restarts"))

    fitted(Curious(), batches=7, log_every_n_restarts=2)
    assert summaries == [None, None, 1, 1, 1, 2, 3]


def test_a_logger_gets_the_values_at_its_own_pace_in_every_epoch(tmp_path):
    monitor, _ = fitted(Restarting(), logger=CSVLogger(tmp_path), max_epochs=2, log_every_n_steps=4)
    with (tmp_path / "lightning_logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) > LOGGED
    assert [row["step"] for row in rows] == ["3", "7", "11", "15", "19", "23"]
    assert [float(row["fw/restarts"]) for row in rows] == [1, 2, 4, 5, 6, 8]
    gaps = [monitor.records[index].gap_last for index in (0, 1, 3, 4, 5, 7)]
    assert [float(row["fw/gap"]) for row in rows] == pytest.approx(gaps)


def test_cost_and_ball_usage_stand_in_the_progress_bar():
    _, fit = fitted(Restarting())
    shown = {name for name in fit.progress_bar_metrics if name.startswith("fw/")}
    assert shown == {"fw/cost_ratio", "fw/ball_usage"}


@pytest.mark.parametrize("settings", [{"fast_dev_run": True}, {"barebones": True}])
def test_it_bears_with_the_trainer(settings):
    settings = {"enable_checkpointing": None, "logger": None, **settings}
    monitor, _ = fitted(Restarting(), **settings)
    assert monitor.records


def test_it_does_not_change_the_training():
    weights = []
    for callbacks in ([], [FWRestartMonitor(table=False)]):
        module = Restarting()
        trainer(*callbacks).fit(module, loader())
        weights.append(module.layer.weight)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_the_table_is_shown_at_the_end(capsys):
    monitor, _ = fitted(Restarting(), batches=8, table=True)
    shown = capsys.readouterr().out
    assert "Frank-Wolfe" in shown
    assert "fw/cost_ratio" in shown
    assert "fw/slope_ratio" not in shown
    restarts = next(line for line in shown.splitlines() if "fw/restarts" in line)
    assert restarts.split("│")[2].strip() == "3"
    loss = next(line for line in shown.splitlines() if "loss (average" in line)
    first, *_, last = monitor.curve().smoothed().losses
    assert float(loss.split("│")[2]) == pytest.approx(last, rel=1e-3)
    assert first != pytest.approx(last, rel=0.01)


def test_the_table_can_be_left_out(capsys):
    fitted(Restarting())
    assert "fw/" not in capsys.readouterr().out


def test_a_second_fit_starts_anew():
    monitor, _ = fitted(Restarting(), batches=12)
    trainer(monitor).fit(Restarting(), loader(batches=3))
    assert len(monitor.records) == 1
    assert monitor.summary()["fw/restarts"] == 1


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
def test_a_resumed_fit_goes_on(tmp_path):
    def fit(max_epochs, **settings):
        # Four restarts an epoch: the checkpoint falls between two loggings.
        monitor = FWRestartMonitor(3, table=False)
        saving = ModelCheckpoint(tmp_path, save_last=True)
        resumable = trainer(monitor, saving, enable_checkpointing=True, max_epochs=max_epochs)
        resumable.fit(Restarting(), loader(), **settings)
        return monitor, resumable.callback_metrics

    first, _ = fit(1)
    resumed, logged = fit(2, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    straight, expected = fit(2)
    # As text: a NaN that was saved does not equal itself.
    assert repr(resumed.records[:4]) == repr(first.records)
    losses = [[window.loss_first for window in run.records] for run in (resumed, straight)]
    assert losses[0] == pytest.approx(losses[1])
    assert resumed.summary() == pytest.approx(summarize(moments(resumed.records)), nan_ok=True)
    assert logged["fw/restarts"] == 6
    assert logged["fw/gap"] == pytest.approx(expected["fw/gap"])
    seconds = resumed.curve().seconds
    assert seconds == sorted(seconds)
    assert seconds[:4] == first.curve().seconds


def test_a_test_of_an_old_checkpoint_keeps_the_records(tmp_path):
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1, filename="{epoch}")
    monitor, module = FWRestartMonitor(table=False), Restarting()
    fit = trainer(monitor, saving, enable_checkpointing=True, max_epochs=2)
    fit.fit(module, loader(3))
    fit.test(
        module, loader(3), ckpt_path=tmp_path / "epoch=0.ckpt", verbose=False, weights_only=True
    )
    assert len(monitor.records) == 2


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_holds_the_records_and_goes_its_own_way(duplicate):
    monitor, _ = fitted(Restarting())
    twin = duplicate(monitor)
    assert twin.summary() == pytest.approx(monitor.summary(), nan_ok=True)
    trainer(twin).fit(Restarting(), loader(3))
    assert len(monitor.records) == 4


def test_restarts_do_not_enter_a_fit_by_back_propagation():
    class Loading(Plain):
        def on_fit_start(self):
            plain.load_state_dict(monitor.state_dict())

    monitor, _ = fitted(Restarting())
    plain = FWRestartMonitor(table=False)
    trainer(plain).fit(Loading(), loader(5))
    assert plain.summary()["bptt/gradient_evaluations"] == 5
    assert plain.records == []


def test_outside_of_a_trainer_a_state_replaces_what_a_monitor_held():
    restarts, _ = fitted(Restarting())
    plain, other = FWRestartMonitor(table=False), FWRestartMonitor(table=False)
    trainer(plain).fit(Plain(), loader(5))
    trainer(other).fit(Plain(), loader(3))
    for source in (restarts, plain):
        other.load_state_dict(source.state_dict())
        assert other.summary() == source.summary()
        assert other.records == source.records


def test_a_module_that_calls_the_hook_itself_is_not_taken_for_frank_wolfe():
    class Calling(Plain):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            monitor.on_restart(self.trainer, self, record())

    monitor = FWRestartMonitor(table=False)
    trainer(monitor).fit(Calling(), loader(4))
    assert monitor.records == []


def test_before_a_fit_there_is_nothing():
    monitor = FWRestartMonitor()
    assert (monitor.records, monitor.summary(), monitor.comparison()) == ([], {}, [])


@pytest.mark.parametrize("every", [0, -3])
def test_logging_less_than_every_restart_is_refused(every):
    with pytest.raises(
        ValueError, match=rf"`log_every_n_restarts` must be at least 1, got {every}\. Pass log_"
    ):
        FWRestartMonitor(log_every_n_restarts=every)


def test_a_table_is_shown_or_not():
    with pytest.raises(TypeError, match=r"`table` must be a bool, got 'no'\. Pass True or False"):
        FWRestartMonitor(table="no")


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
def test_it_bears_with_a_step_that_draws_its_own_batch():
    class Iterating(Restarting):
        def training_step(self, dataloader_iter):
            batch, batch_idx, _ = next(dataloader_iter)
            return super().training_step(batch, batch_idx)

    monitor, _ = fitted(Iterating())
    assert len(monitor.records) == 4


def test_it_is_a_callback():
    assert isinstance(FWRestartMonitor(), L.Callback)
    assert FWRestartMonitor(2).state_key == FWRestartMonitor(table=False).state_key
