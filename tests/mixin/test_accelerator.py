"""On an accelerator: fits go as on the CPU, at every precision, and wait for nothing more."""

from __future__ import annotations

import warnings
from dataclasses import replace

import lightning as L
import pytest
import torch

from lightning_fw import FWRestartMonitor, InnerLoop, L2Ball, OpenLoop, SlopeRatio
from tests.accelerator import NEEDS_CUDA
from tests.manual.double_fits import doubles
from tests.manual.interrupted import SaveAfter
from tests.manual.resumable_fits import fit
from tests.mixin.conftest import Recurrent, loss_of, make_loader

pytestmark = NEEDS_CUDA

L2 = InnerLoop(ball=L2Ball(radius=0.05), steps=3)
LOOPS = {
    "paper": L2,
    "momentum": replace(L2, momentum=0.9, step_size=OpenLoop()),
    "slopes": replace(L2, radius_rule=SlopeRatio(), direction="displacement"),
    "spectral": InnerLoop.spectral(),
    "authors": replace(InnerLoop.authors(lr=0.05), steps=3),
    "accumulated": replace(L2, steps=2, accumulate_grad_batches=2),
    "split": replace(L2, steps=2, batches="split"),
    "same": replace(L2, steps=2, batches="same"),
}


def fitted(loop, make_trainer, loader, kind=Recurrent, **settings):
    module = kind(loop, lr=0.5)
    if settings.get("precision") == "64-true":
        module = module.double()
    trainer = make_trainer(**{"max_epochs": 2, **settings})
    trainer.fit(module, loader)
    return module, trainer


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_fit_goes_as_on_the_cpu(loop, make_trainer):
    settings = {"precision": "64-true"}
    found, _ = fitted(loop, make_trainer, doubles(4), accelerator="gpu", **settings)
    expected, _ = fitted(loop, make_trainer, doubles(4), **settings)
    torch.testing.assert_close(found.weights().cpu(), expected.weights(), rtol=1e-6, atol=1e-8)
    assert [r.steps for r in found.records] == [r.steps for r in expected.records]
    assert [r.gap_first for r in found.records] == pytest.approx(
        [r.gap_first for r in expected.records], rel=1e-5
    )


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("loop", [L2, InnerLoop.spectral()], ids=["l2", "spectral"])
def test_half_precision_goes_about_as_single(loop, precision, make_trainer):
    settings = {"accelerator": "gpu", "max_epochs": 1}
    found, _ = fitted(loop, make_trainer, make_loader(), precision=precision, **settings)
    expected, _ = fitted(loop, make_trainer, make_loader(), **settings)
    assert len(found.records) == len(expected.records)
    # The first scale of 65536 may be too large for float16.
    assert sum(r.skipped for r in found.records) <= 2 * (precision == "16-mixed")
    start = Recurrent(loop, lr=0.5).weights().cpu()
    difference = (found.weights().float().cpu() - expected.weights().cpu()).norm()
    assert difference < 0.6 * (expected.weights().cpu() - start).norm()


class Overflowing(Recurrent):
    """The loss of the fourth batch is infinite."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (float("inf") if batch_idx == 3 else 1)


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
def test_a_loss_scaler_skips_what_overflows_and_halves_its_scale(make_trainer):
    module, trainer = fitted(
        L2,
        make_trainer,
        make_loader(),
        Overflowing,
        accelerator="gpu",
        precision="16-mixed",
        max_epochs=1,
    )
    assert [r.skipped for r in module.records] == [0, 1, 0]
    assert trainer.precision_plugin.scaler.get_scale() <= 2.0**15
    assert module.weights().isfinite().all()


@pytest.mark.parametrize("case", ["paper", "spectral"])
def test_a_fit_resumed_in_mid_window_ends_where_the_whole_one_does(case, make_trainer, tmp_path):
    save = SaveAfter(tmp_path, [0, 1, 4, 6, 9])
    straight, *_ = fit(make_trainer, case, save, accelerator="gpu")
    for batch in save.batches:
        resumed, *_ = fit(make_trainer, case, ckpt_path=save.path(batch), accelerator="gpu")
        torch.testing.assert_close(resumed.weights(), straight.weights(), rtol=1e-4, atol=1e-6)


class Counted(L.Callback):
    """Counts the host's waits for the device within training, from the second epoch on."""

    def __init__(self):
        self.waits = 0

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_epoch_end(self, trainer, pl_module):
        torch.cuda.set_sync_debug_mode("default")


class ByAdam(L.LightningModule):
    """The same network, trained by Lightning alone."""

    def __init__(self):
        super().__init__()
        self.network = Recurrent()
        del self.network._trainer

    def training_step(self, batch, batch_idx):
        return loss_of(self.network, batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def waits_of(module, make_trainer, *callbacks):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer = make_trainer(accelerator="gpu", max_epochs=2, callbacks=[Counted(), *callbacks])
        trainer.fit(module, make_loader())
    return sum("synchronizing" in str(warning.message) for warning in told)


@pytest.mark.parametrize("monitored", [False, True])
@pytest.mark.parametrize("loop", [L2, InnerLoop.spectral()], ids=["l2", "spectral"])
def test_a_fit_waits_for_the_device_once_a_restart_at_most(loop, monitored, make_trainer):
    plain = waits_of(ByAdam(), make_trainer)
    module = Recurrent(loop)
    callbacks = [FWRestartMonitor(table=False)] if monitored else []
    waits = waits_of(module, make_trainer, *callbacks)
    restarts = len(module.records) // 2
    assert waits <= plain + restarts


def test_the_monitor_tells_the_seconds_of_each_part(make_trainer):
    monitor = FWRestartMonitor(table=False)
    fitted(L2, make_trainer, make_loader(), accelerator="gpu", callbacks=[monitor])
    summary, record = monitor.summary(), monitor.records[0]
    assert summary["fw/seconds_per_batch"] > summary["fw/bptt_seconds_per_batch"] > 0
    assert min(record.gradient_seconds, record.oracle_seconds, record.outer_seconds) > 0
