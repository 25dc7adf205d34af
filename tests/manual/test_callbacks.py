"""Lightning's callbacks that average, watch, time, show and fine-tune."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import lightning as L
import pytest
import rich
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    DeviceStatsMonitor,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from torch import nn
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, FWRestartMonitor, InnerLoop, L2Ball
from tests.manual.callback_nets import (
    ONE_STEP,
    THREE_STEPS,
    Anchors,
    ByFrankWolfe,
    MemoryLogger,
    Plain,
)
from tests.mixin.conftest import make_loader


def decay(optimizer, interval):
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    return {"scheduler": scheduler, "interval": interval, "name": "rate"}


@pytest.mark.parametrize("logging_interval", [None, "step", "epoch"])
@pytest.mark.parametrize("interval", ["step", "epoch", None])
def test_the_learning_rate_monitor_logs_what_it_logs_of_a_plain_module(
    interval, logging_interval, make_trainer
):
    found = []
    for make in (Plain, lambda **settings: ByFrankWolfe(ONE_STEP, **settings)):
        scheduler = None if interval is None else lambda optimizer: decay(optimizer, interval)
        logger = MemoryLogger()
        monitor = LearningRateMonitor(logging_interval, log_momentum=True, log_weight_decay=True)
        make_trainer(callbacks=[monitor], logger=logger, log_every_n_steps=1, max_epochs=3).fit(
            make(scheduler=scheduler)
        )
        name = "lr-SGD" if interval is None else "rate"
        suffixes = ("", "-momentum", "-weight_decay")
        found.append(([logger.values(name + suffix) for suffix in suffixes], monitor.lrs))
    assert found[1] == found[0]
    if interval in (logging_interval, None) or logging_interval is None:
        assert found[0][0][0]


def test_the_learning_rate_monitor_shows_a_rate_for_every_window(make_trainer):
    monitor = LearningRateMonitor("step")
    make_trainer(callbacks=[monitor], logger=MemoryLogger(), log_every_n_steps=1).fit(
        ByFrankWolfe(lr=1.0, scheduler=lambda optimizer: decay(optimizer, "step"))
    )
    assert monitor.lrs["rate"] == pytest.approx([1.0] * 3 + [0.9] * 3 + [0.81])


SWA = {"swa_lrs": 0.01, "swa_epoch_start": 2, "annealing_epochs": 2}


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("interval", ["epoch", None])
def test_with_one_step_weight_averaging_is_automatic_optimizations(
    interval, batch_norm, strategy, make_trainer
):
    scheduler = None if interval is None else lambda optimizer: decay(optimizer, interval)
    settings = {"batch_norm": batch_norm, "lr": 0.02, "scheduler": scheduler}
    modules = Plain(**settings), ByFrankWolfe(ONE_STEP, **settings)
    trainers = []
    for module in modules:
        averaging = StochasticWeightAveraging(**SWA, annealing_strategy=strategy)
        trainers.append(make_trainer(callbacks=[averaging], max_epochs=5))
        trainers[-1].fit(module)
    plain, mine = modules
    assert mine.lrs == pytest.approx(plain.lrs)
    assert mine.lrs[-1] == pytest.approx(0.01)
    # Automatic optimization counts a step without gradients at the end of the batch-norm epoch.
    assert trainers[0].global_step == 35 + batch_norm
    assert trainers[1].global_step == 35
    assert len(mine.seen) == len(plain.seen) == 35 + 7 * batch_norm
    torch.testing.assert_close(mine.weights(), plain.weights(), rtol=1e-3, atol=1e-5)
    for buffer, right in zip(mine.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("every_n_train_steps", [1, None])
def test_weight_averaging_averages_the_anchors_at_epoch_starts(
    every_n_train_steps, batch_norm, make_trainer, tmp_path
):
    module, anchors = ByFrankWolfe(batch_norm=batch_norm), Anchors()
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=every_n_train_steps)
    callbacks = [anchors, saving, StochasticWeightAveraging(**SWA)]
    trainer = make_trainer(callbacks=callbacks, max_epochs=5, enable_checkpointing=True)
    trainer.fit(module)
    # Epochs 1 to 4, counted from 0; the batch-norm epoch comes after these.
    average = torch.stack(anchors.at_epoch_starts[1:5]).mean(0)
    torch.testing.assert_close(module.weights(), average)
    assert trainer.global_step == len(module.records) == 15
    assert module.lrs[-1] == pytest.approx(0.01)
    if batch_norm:
        assert len(module.seen) == 42
        assert all(torch.equal(weights, module.weights()) for weights in module.seen[-7:])


def test_the_batch_norm_epoch_renews_statistics_at_the_average(make_trainer):
    module = ByFrankWolfe(batch_norm=True)
    make_trainer(callbacks=[StochasticWeightAveraging(**SWA)], max_epochs=5).fit(module)
    with torch.no_grad():
        means = [module.rnn(x)[0][:, -1].mean(0) for x, _ in make_loader()]
    torch.testing.assert_close(module.norm.running_mean, torch.stack(means).mean(0))


@pytest.mark.parametrize("inner_loop", [ONE_STEP, THREE_STEPS])
def test_averaging_is_updated_once_a_restart(inner_loop, make_trainer):
    class Counts(WeightAveraging):
        updates: list[int] = []

        def should_update(self, step_idx=None, epoch_idx=None):
            if step_idx is not None:
                self.updates.append(step_idx)
            return super().should_update(step_idx, epoch_idx)

    module, anchors, averaging = ByFrankWolfe(inner_loop), Anchors(), Counts()
    averaging.updates = []
    trainer = make_trainer(callbacks=[anchors, averaging], max_epochs=2)
    trainer.fit(module)
    steps = trainer.global_step
    assert averaging.updates == list(range(steps))
    average = torch.stack([anchors.after_restart(step) for step in range(1, steps + 1)]).mean(0)
    torch.testing.assert_close(module.weights(), average)


def averages(anchors, steps, decay):
    """The exponential average after each restart, by hand; the first anchor starts it."""
    found = [anchors.after_restart(1)]
    for step in range(2, steps + 1):
        found.append(decay * found[-1] + (1 - decay) * anchors.after_restart(step))
    return found


def test_validation_sees_the_exponential_average_and_the_window_goes_on(make_trainer):
    module, anchors = ByFrankWolfe(), Anchors()
    averaging = EMAWeightAveraging(decay=0.8)
    trainer = make_trainer(
        callbacks=[anchors, averaging], max_epochs=2, val_check_interval=2, num_sanity_val_steps=0
    )
    trainer.fit(module)
    right = averages(anchors, 6, 0.8)
    assert [step for step, _ in module.validated] == [0, 1, 2, 3, 4, 5]
    for step, weights in module.validated[1:]:
        torch.testing.assert_close(weights, right[step - 1])
    torch.testing.assert_close(module.weights(), right[-1])

    unseen, others = ByFrankWolfe(), Anchors()
    make_trainer(callbacks=[others], max_epochs=2, limit_val_batches=0).fit(unseen)
    for step in range(1, 7):
        assert torch.equal(anchors.after_restart(step), others.after_restart(step))


def test_with_one_step_the_exponential_average_is_automatic_optimizations(make_trainer):
    found = []
    for module in (
        Plain(batch_norm=True, lr=0.02),
        ByFrankWolfe(ONE_STEP, batch_norm=True, lr=0.02),
    ):
        averaging = EMAWeightAveraging(decay=0.8, update_every_n_steps=2, update_starting_at_step=3)
        make_trainer(callbacks=[averaging], max_epochs=2, val_check_interval=3).fit(module)
        found.append(module)
    plain, mine = found
    torch.testing.assert_close(mine.weights(), plain.weights(), rtol=1e-3, atol=1e-5)
    for (_, weights), (_, right) in zip(mine.validated, plain.validated, strict=True):
        torch.testing.assert_close(weights, right, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        mine.norm.running_mean, plain.norm.running_mean, rtol=1e-3, atol=1e-5
    )


def test_a_checkpoint_in_mid_window_holds_average_and_anchor_and_resumes(make_trainer, tmp_path):
    class Saves(Anchors):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module)
            if trainer.current_epoch == 1 and batch_idx == 1:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    settings = {"limit_val_batches": 0, "max_epochs": 2}
    module, anchors = ByFrankWolfe(), Saves()
    make_trainer(callbacks=[EMAWeightAveraging(decay=0.8), anchors], **settings).fit(module)
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    average, anchor = (
        nn.utils.parameters_to_vector(checkpoint[key].values())
        for key in ("state_dict", "current_model_state")
    )
    torch.testing.assert_close(average, averages(anchors, 3, 0.8)[-1])
    assert torch.equal(anchor, anchors.after_restart(3))
    assert checkpoint["frank_wolfe"]["window"]["attempts"] == 2

    class Rest(ByFrankWolfe):
        def train_dataloader(self):
            # Lightning counts on from the third batch, and starts this anew.
            batches = list(make_loader())
            return DataLoader(batches[2:] + batches[:2], batch_size=None)

    resumed, averaging = Rest(), EMAWeightAveraging(decay=0.8)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        make_trainer(callbacks=[averaging], **settings).fit(
            resumed, ckpt_path=tmp_path / "mid.ckpt"
        )
    assert torch.equal(resumed.weights(), module.weights())


def test_the_throughput_monitor_counts_as_of_a_plain_module(make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe(ONE_STEP), ByFrankWolfe()):
        module.flops_per_batch = 10
        logger, throughput = (
            MemoryLogger(),
            ThroughputMonitor(lambda batch: len(batch[0]), window_size=3),
        )
        make_trainer(callbacks=[throughput], logger=logger, log_every_n_steps=1).fit(module)
        names = ("train/batches", "train/samples", "validate/samples")
        found.append([logger.values(name) for name in names])
        assert all(rate > 0 for _, rate in logger.values("train/device/batches_per_sec"))
    assert found[0] == found[1] == found[2]
    assert [count for _, count in found[0][1]] == [4.0 * n for n in range(1, 8)]


def test_the_device_stats_monitor_logs_as_of_a_plain_module(make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe()):
        logger = MemoryLogger()
        make_trainer(callbacks=[DeviceStatsMonitor()], logger=logger, log_every_n_steps=1).fit(
            module
        )
        found.append([(step, sorted(row)) for step, row in logger.rows])
    assert found[0] == found[1]
    assert sum(any("on_train_batch_end" in name for name in row) for _, row in found[1]) == 7


def test_a_timer_ends_a_fit_in_mid_window_at_the_anchor(make_trainer):
    timer, anchors = Timer(duration=timedelta(hours=1)), Anchors()

    class AnHourLater(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 4:
                timer._offset = 3600

    module = AnHourLater()
    trainer = make_trainer(callbacks=[anchors, timer], max_epochs=9)
    trainer.fit(module)
    assert len(module.seen) == 5
    assert trainer.global_step == 1
    assert torch.equal(module.weights(), anchors.after_restart(1))
    assert 3600 < timer.time_elapsed("train") < 3700
    assert timer.time_elapsed("validate") > 0


class Tuned(L.LightningModule):
    """A head beside a backbone whose gradients do not meet."""

    def __init__(self, *, with_backbone=True):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2, 1)
        self.backbone = nn.Linear(2, 1)
        self.at_batches = []
        self.with_backbone = with_backbone

    def training_step(self, batch, batch_idx):
        self.at_batches.append((self.head.weight.clone(), self.backbone.weight.clone()))
        x, y = batch
        x = x.mean(1)
        loss = (self.head(x) - y).square().mean()
        return loss + (self.backbone(x) - y).square().mean() if self.with_backbone else loss

    def train_dataloader(self):
        return make_loader()

    def configure_optimizers(self):
        return torch.optim.SGD(
            [p for p in self.parameters() if p.requires_grad], lr=0.05, momentum=0.9
        )


class TunedByFrankWolfe(FrankWolfeMixin, Tuned):
    inner_loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)

    def configure_frank_wolfe(self):
        return self.inner_loop


class TunedPlain(Tuned):
    def on_before_optimizer_step(self, optimizer):
        for p in self.parameters():
            if p.grad is not None:
                p.grad /= p.grad.norm()


# What it says to a user who freezes: that the optimizer has all it needs already.
FINETUNING = {"unfreeze_backbone_at_epoch": 1, "lambda_func": lambda epoch: 1.5}


def test_a_backbone_that_is_unfrozen_moves_and_the_head_goes_on_undisturbed(make_trainer):
    module, alone = TunedByFrankWolfe(), TunedByFrankWolfe(with_backbone=False)
    before = module.backbone.weight.detach().clone()
    trainer = make_trainer(callbacks=[BackboneFinetuning(**FINETUNING)], max_epochs=3)
    trainer.fit(module)
    alone.backbone.requires_grad_(False)
    make_trainer(max_epochs=3).fit(alone)
    assert len(trainer.optimizers[0].param_groups) == 2
    at_first_batches = [module.at_batches[7 * epoch][1] for epoch in range(3)]
    assert torch.equal(at_first_batches[0], before)
    assert torch.equal(at_first_batches[1], before)
    assert not torch.equal(at_first_batches[2], before)
    # Momentum of the inner loop and of the optimizer: bit for bit as if nobody had joined.
    assert torch.equal(module.head.weight, alone.head.weight)


def test_with_one_step_finetuning_is_automatic_optimizations(make_trainer):
    plain, mine = TunedPlain(), TunedByFrankWolfe()
    mine.inner_loop = ONE_STEP
    rates = []
    for module in (plain, mine):
        trainer = make_trainer(callbacks=[BackboneFinetuning(**FINETUNING)], max_epochs=3)
        trainer.fit(module)
        rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
    assert rates[0] == rates[1]
    torch.testing.assert_close(mine.head.weight, plain.head.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine.backbone.weight, plain.backbone.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("as_group", [True, False])
def test_parameters_that_join_in_mid_window_move_from_the_next_one_on(as_group, make_trainer):
    class Joins(TunedByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 1:
                self.backbone.requires_grad_(True)
                if as_group:
                    optimizer = self.trainer.optimizers[0]
                    optimizer.add_param_group({"params": list(self.backbone.parameters())})

        def configure_optimizers(self):
            parameters = self.head.parameters() if as_group else self.parameters()
            return torch.optim.SGD(parameters, lr=0.05)

    module = Joins()
    module.backbone.requires_grad_(False)
    before = module.backbone.weight.detach().clone()
    make_trainer().fit(module)
    assert torch.equal(module.at_batches[3][1], before)
    moved = (module.at_batches[6][1] - before).norm()
    assert 0 < moved <= 0.05 * 1.0001


def shown(text, name):
    """Values that a progress bar showed for a name."""
    return re.findall(rf"{re.escape(name)}[=:]\s*([0-9.e-]+)", text)


@pytest.fixture
def own_console():
    """RichProgressBar reconfigures the console that all share."""
    yield
    rich.reconfigure()


@pytest.mark.usefixtures("own_console")
@pytest.mark.parametrize("bar", ["tqdm", "rich"])
def test_a_progress_bar_shows_the_loss_and_what_the_monitor_logs(
    bar, make_trainer, capsys, monkeypatch
):
    screen = io.StringIO()
    if bar == "tqdm":
        progress = TQDMProgressBar(refresh_rate=1)
    else:
        progress = RichProgressBar(
            refresh_rate=1, console_kwargs={"file": screen, "force_terminal": True, "width": 200}
        )
    logged = []

    class Watched(ByFrankWolfe):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            logged.append(outputs["loss"].item())

    make_trainer(
        callbacks=[progress, FWRestartMonitor(table=False)],
        enable_progress_bar=True,
        limit_val_batches=0,
        logger=MemoryLogger(),
    ).fit(Watched())
    text = screen.getvalue() or "".join(capsys.readouterr())
    losses = shown(text, "train_loss")
    assert float(losses[-1]) == pytest.approx(logged[-1], abs=1e-3, rel=1e-2)
    assert 0 < float(shown(text, "fw/ball_usage")[-1]) <= 1.001
    assert float(shown(text, "fw/cost_ratio")[-1]) > 0
