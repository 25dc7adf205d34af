"""A run is judged by a baseline: a monitor or its file, of back-propagation and with losses."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.loss_curve import Reached, compare
from lightning_fw.monitoring.tables import comparison_table

from .cases import Plain, Restarting, fitted, loader, trainer


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


def test_a_terminal_of_80_columns_shows_the_comparison_whole(capsys):
    long = {"baseline_evaluations": 46912, "baseline_seconds": 20987.6}
    row = Reached(loss=0.00412345, evaluations=23456, seconds=9999.7, **long)
    Console(width=80).print(comparison_table([row]))
    shown = capsys.readouterr().out
    assert "…" not in shown
    for number in ("0.004123", "23,456", "46,912", "0.50", "10,000", "20,988", "0.48"):
        assert f" {number} " in shown


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
def test_a_monitor_without_finite_losses_is_no_baseline():
    class Silent(Plain):
        def training_step(self, batch, batch_idx):
            return None

    class Diverged(Plain):
        def training_step(self, batch, batch_idx):
            return torch.nan * super().training_step(batch, batch_idx)

    for empty in (FWRestartMonitor(), fitted(Silent()), fitted(Diverged())):
        message = r"`baseline` must hold finite losses, got a monitor with none\. Fit it first\."
        with pytest.raises(ValueError, match=message):
            trainer(FWRestartMonitor(baseline=empty)).fit(Restarting(), loader())


def test_baselines_of_back_propagation_compare_too(saved):
    class Slow(Plain):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.03)

    slow = FWRestartMonitor(baseline=saved[1], table=False)
    trainer(slow).fit(Slow(), loader(40))
    rows = slow.comparison()
    assert rows[1].evaluations > rows[1].baseline_evaluations
