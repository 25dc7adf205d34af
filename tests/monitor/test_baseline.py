"""On a plain module the monitor records back-propagation, for a later run to be judged by."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.bptt_run import BPTTRun

from .cases import Plain, fitted, loader, trainer


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


def test_a_state_read_outside_of_a_fit_is_a_baseline():
    monitor = fitted(Plain())
    read = FWRestartMonitor(table=False)
    read.load_state_dict(monitor.state_dict())
    assert (read.summary(), read.curve()) == (monitor.summary(), monitor.curve())
    compared = FWRestartMonitor(baseline=read, table=False)
    trainer(compared).fit(Plain(), loader())
    assert compared.comparison()[0].baseline_evaluations > 0


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


def test_a_baselines_own_table_is_shown(capsys):
    trainer(FWRestartMonitor()).fit(Plain(), loader())
    assert "bptt/seconds_per_batch" in capsys.readouterr().out


def test_a_loss_of_one_entry_and_lower_precision_is_read():
    class Odd(Plain):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1).bfloat16()

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0].bfloat16()).square().mean()[None]

    assert len(fitted(Odd()).curve()) == 12


def test_a_loss_of_several_numbers_is_not_known():
    class Several(Plain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            return loss.detach().expand(4)

    monitor = fitted(Several(), batches=60)
    assert monitor.summary()["bptt/gradient_evaluations"] == 60


def test_seconds_are_told_per_batch():
    run = BPTTRun()
    curve = {"evaluations": [0.0, 1.0], "seconds": [0.0, 2.0], "losses": [3.0, 2.0]}
    run.load_state_dict({"curve": curve, "batches": 4, "gradient_evaluations": 4.0, "seconds": 6.0})
    assert run.summary()["bptt/seconds_per_batch"] == 1.5
