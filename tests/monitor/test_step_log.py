"""What Lightning reads of logged restarts is what ``self.log`` alone would give."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, FWRestartMonitor, InnerLoop, L2Ball
from lightning_fw.monitoring.step_log import StepLog


class Line(FrankWolfeMixin, L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def configure_frank_wolfe(self):
        return InnerLoop(ball=L2Ball(radius=0.01), steps=3)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()


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


def fit(tmp_path, every):
    torch.manual_seed(0)
    rows, seen = Rows(), Seen()
    torch.manual_seed(0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=[FWRestartMonitor(log_every_n_restarts=2, table=False), seen],
        logger=rows,
        log_every_n_steps=every,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), DataLoader(torch.randn(70, 2), batch_size=5))
    return rows.rows, seen.seen


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.parametrize("every", [1, 2, 5])
def test_what_is_read_is_what_lightning_would_read_by_itself(every, tmp_path, monkeypatch):
    ours = fit(tmp_path, every)
    monkeypatch.setattr(StepLog, "end_batch", lambda self, trainer: None)
    assert ours == fit(tmp_path, every)
    assert any("fw/gap" in row for _, row in ours[0])


def test_values_that_did_not_change_are_not_read(tmp_path, monkeypatch):
    read = []

    class Read(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            # What Lightning read after the batch before.
            read.append("fw/gap" in trainer._results.metrics(on_step=True)["log"])

    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[FWRestartMonitor(table=False), Read()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), DataLoader(torch.randn(40, 2), batch_size=5))
    assert read == [False, False, False, True, False, False, True, False]
