"""The monitor where fits resume, end early or leave batches out."""

from __future__ import annotations

import contextlib
import itertools

import lightning as L
import pytest
import torch

from lightning_fw import FWRestartMonitor

from .cases import Plain, Restarting, fitted, loader, trainer

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD")


def test_batches_without_a_loss_do_not_make_the_others_cheaper():
    class Picky(Restarting):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) if batch_idx % 2 else None

    monitor = fitted(Picky(), batches=12)
    assert sum(window.batches for window in monitor.records) == 6
    assert sum(window.gradient_evaluations for window in monitor.records) == 6


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_a_checkpoint_of_the_modules_own_hook_holds_the_window(tmp_path):
    class Saving(Restarting):
        def on_restart(self, record):
            if record.restart == 1:
                self.trainer.save_checkpoint(tmp_path / "at.ckpt")

    monitor = fitted(Saving(), batches=12)
    resumed = FWRestartMonitor(table=False)
    trainer(resumed).fit(Restarting(), loader(12), ckpt_path=tmp_path / "at.ckpt")
    # The batch that the checkpoint was made in comes again.
    assert [window.restart for window in resumed.records][:3] == [0, 1, 2]
    # As text: a NaN that was saved does not equal itself.
    assert repr(resumed.records[:2]) == repr(monitor.records[:2])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_seconds_of_a_window_in_progress_are_resumed(tmp_path):
    class SaveAt(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 1:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    monitor = FWRestartMonitor(table=False)
    trainer(monitor, SaveAt()).fit(Restarting(), loader(6))
    saved = torch.load(tmp_path / "mid.ckpt", weights_only=True)["callbacks"]["FWRestartMonitor"]
    resumed = FWRestartMonitor(table=False)
    trainer(resumed).fit(Restarting(), loader(6), ckpt_path=tmp_path / "mid.ckpt")
    # The second window begins where the first one ended, the batches before the save included.
    assert resumed.curve().seconds[1] > saved["watch"] > 0


@pytest.mark.parametrize("module", [Plain, Restarting])
def test_time_after_an_error_or_an_epoch_that_ends_early_does_not_count(module):
    class Failing(module):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise RuntimeError("in mid-batch")
            return super().training_step(batch, batch_idx)

    class Ending(module):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    for kind in (Failing, Ending):
        monitor = FWRestartMonitor(table=False)
        with contextlib.suppress(RuntimeError):
            trainer(monitor).fit(kind(), loader())
        watch = monitor._run.watch
        assert watch.read() == watch.read()


def test_what_it_takes_to_log_is_no_part_of_the_runs_seconds(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("lightning_fw.cost.perf_counter", lambda: next(clock))

    class SlowToLog(Restarting):
        def log(self, *args, **kwargs):
            super().log(*args, **kwargs)
            for _ in range(10_000 if args[0].startswith("fw/") else 0):
                next(clock)

    assert fitted(SlowToLog()).curve().seconds[-1] < 10_000


def test_it_is_made_from_a_file_by_lightning_cli(saved, monkeypatch):
    # Lightning 2.6.6 uses what jsonargparse 4.53 has deprecated, and so does its parser here.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    jsonargparse = pytest.importorskip("jsonargparse", reason="needs the extra `cli`")
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--monitor", type=L.Callback)
    options = ["--monitor=lightning_fw.FWRestartMonitor", f"--monitor.baseline={saved[1]}"]
    made = parser.instantiate_classes(parser.parse_args(options)).monitor
    assert made._saved_baseline == saved[0].curve()
