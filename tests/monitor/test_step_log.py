"""What Lightning reads of logged restarts is what ``self.log`` alone would give."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.step_log import StepLog

from .cases import Restarting, loader, trainer


class Spiking(Restarting):
    """A whole window without a finite gradient: most of what it would log does not exist."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * torch.nan if batch_idx in (6, 7, 8) else loss


class Rows(Logger):
    """Every row that Lightning writes."""

    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, known(metrics)))

    def log_hyperparams(self, *arguments, **others):
        pass


class Seen(Callback):
    """What other callbacks and the progress bar find after every batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.look(trainer)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.look(trainer)

    def on_train_epoch_end(self, trainer, module):
        self.look(trainer)

    def look(self, trainer):
        everywhere = (
            trainer.callback_metrics,
            trainer.progress_bar_metrics,
            trainer.logged_metrics,
        )
        self.seen.append([known(metrics) for metrics in everywhere])


def known(metrics):
    """All but what the clock says."""
    return {name: float(value) for name, value in metrics.items() if not clocked(name)}


def clocked(name):
    return "seconds" in name or name == "fw/cost_ratio"


def fit(every, restarts):
    rows, seen = Rows(), Seen()
    monitor = FWRestartMonitor(log_every_n_restarts=restarts, table=False)
    by = trainer(monitor, seen, max_epochs=3, logger=rows, log_every_n_steps=every)
    by.fit(Spiking(), loader(14))
    return rows.rows, seen.seen


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_what_is_read_is_what_lightning_would_read_by_itself(every, restarts, monkeypatch):
    ours = fit(every, restarts)
    monkeypatch.setattr(StepLog, "end_batch", lambda self, trainer: None)
    assert ours == fit(every, restarts)
    assert any("fw/gap" in row for _, row in ours[0])


def test_values_that_did_not_change_are_not_read():
    read = []

    class Read(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            # What Lightning read after the batch before.
            read.append("fw/gap" in trainer._results.metrics(on_step=True)["log"])

    trainer(FWRestartMonitor(table=False), Read()).fit(Restarting(), loader(8))
    assert read == [False, False, False, True, False, False, True, False]


def test_totals_are_logged_in_float32_under_half_precision():
    fit = trainer(FWRestartMonitor(table=False), precision="bf16-true")
    fit.fit(Restarting(), loader(9))
    assert fit.callback_metrics["fw/restarts"].dtype == torch.float32
    assert fit.callback_metrics["fw/radius"].item() == pytest.approx(0.01, rel=1e-6)
