"""Two gloo processes: statistics are those of both ranks' records."""

from __future__ import annotations

import json

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.metrics import moments, summarize

from .cases import Plain, Restarting, loader, trainer


class Halved(Restarting):
    """Each rank trains on samples of its own."""

    def train_dataloader(self):
        dataset = loader(20).dataset
        mine = range(self.global_rank, len(dataset), self.trainer.world_size)
        return DataLoader(dataset, 4, sampler=mine)


class HalvedPlain(Plain):
    train_dataloader = Halved.train_dataloader


class Report(L.Callback):
    """Leaves behind what each rank knows at the end."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer, pl_module):
        monitor = trainer.callbacks[0]
        found = {
            "records": monitor.records,
            "summary": monitor.summary(),
            "logged": {name: value.item() for name, value in trainer.callback_metrics.items()},
        }
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")
        monitor.save(self.folder / "run.json")


def fit(module, monitor, folder):
    strategy = L.pytorch.strategies.DDPStrategy(start_method="fork")
    two = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False}
    trainer(monitor, Report(folder), **two).fit(module)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_the_summary_is_the_mean_over_both_ranks_records(tmp_path):
    # The last of four restarts is not logged, and yet gathered at the end.
    ranks = fit(Halved(), FWRestartMonitor(3, table=False), tmp_path)
    assert len(ranks[0]["records"]) == len(ranks[1]["records"]) == 4
    assert ranks[0]["records"] != ranks[1]["records"]
    expected = summarize(moments(ranks[0]["records"] + ranks[1]["records"]) / 2)
    for rank in ranks:
        assert rank["summary"] == pytest.approx(expected, nan_ok=True)
        recent = ranks[0]["records"][:3] + ranks[1]["records"][:3]
        assert rank["logged"]["fw/loss_drop"] == pytest.approx(
            sum(window.loss_drop for window in recent) / 6
        )
        assert rank["logged"]["fw/restarts"] == 3
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["records"]["loss_first"] == [w.loss_first for w in ranks[0]["records"]]


def test_one_rank_shows_the_table(tmp_path, capfd):
    fit(Halved(), FWRestartMonitor(), tmp_path)
    assert capfd.readouterr().out.count("fw/cost_ratio") == 1


def test_a_value_that_one_rank_does_not_know_is_that_of_the_other(tmp_path):
    class Unknown(FWRestartMonitor):
        def on_restart(self, trainer, pl_module, record):
            if trainer.global_rank == 1:
                record = type(record)(restart=record.restart, steps=record.steps)
            super().on_restart(trainer, pl_module, record)

    ranks = fit(Halved(), Unknown(table=False), tmp_path)
    known = summarize(moments(ranks[0]["records"]))
    for rank in ranks:
        assert rank["summary"]["fw/cosine"] == pytest.approx(known["fw/cosine"])
        assert rank["summary"]["fw/cost_ratio"] == pytest.approx(known["fw/cost_ratio"], rel=0.5)
        assert "fw/slope_ratio" not in rank["logged"]


def test_a_baseline_is_rank_zeros(tmp_path):
    ranks = fit(HalvedPlain(), FWRestartMonitor(table=False), tmp_path)
    assert ranks[0]["summary"]["bptt/gradient_evaluations"] == 10
    assert FWRestartMonitor(baseline=tmp_path / "run.json").baseline
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["summary"]["bptt/loss"] == ranks[0]["summary"]["bptt/loss"]
