"""The same callback for people who import ``pytorch_lightning``."""

from __future__ import annotations

import importlib
import sys

import pytest
import pytorch_lightning as pl
import torch
from torch import nn, optim

from lightning_fw import FrankWolfeMixin
from lightning_fw import FWRestartMonitor as LightningMonitor
from lightning_fw.pytorch_lightning import AnchorAveraging, FWRestartMonitor

from .cases import loader


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=0.05)


class Restarting(FrankWolfeMixin, Plain):
    pass


def fit(module, callback):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader())
    return trainer


def test_it_records_and_logs(capsys):
    monitor = FWRestartMonitor()
    trainer = fit(Restarting(), monitor)
    assert [window.steps for window in monitor.records] == [5, 5, 2]
    assert trainer.callback_metrics["fw/restarts"] == 3
    assert "fw/cost_ratio" in capsys.readouterr().out


def test_it_averages_anchors():
    averaging, anchors = AnchorAveraging(power=0), []

    class Noting(Restarting):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            super().on_train_batch_end(outputs, batch, batch_idx)
            if self.trainer.global_step > len(anchors):
                anchors.append(self.layer.weight.detach().clone())

    module = Noting()
    fit(module, averaging)
    assert len(anchors) == 3
    torch.testing.assert_close(module.layer.weight.data, torch.stack(anchors).mean(0))


def test_baselines_pass_between_the_namespaces(tmp_path):
    baseline = FWRestartMonitor(table=False)
    fit(Plain(), baseline)
    baseline.save(tmp_path / "baseline.json")
    for source in (baseline, tmp_path / "baseline.json"):
        monitor = FWRestartMonitor(baseline=source, table=False)
        fit(Restarting(), monitor)
        assert monitor.comparison()
    assert LightningMonitor(baseline=baseline, table=False).baseline is baseline


def test_it_is_a_callback_of_its_own_namespace_alone():
    assert isinstance(FWRestartMonitor(), pl.Callback)
    assert not isinstance(LightningMonitor(), pl.Callback)
    assert FWRestartMonitor().state_key == LightningMonitor().state_key


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.delitem(sys.modules, "lightning_fw.pytorch_lightning")
    with pytest.raises(ModuleNotFoundError, match="pip install pytorch-lightning"):
        importlib.import_module("lightning_fw.pytorch_lightning")
