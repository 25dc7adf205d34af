"""Lightning's finders of learning rate and batch size."""

from __future__ import annotations

import copy

import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LambdaCallback, LearningRateFinder
from lightning.pytorch.tuner import Tuner

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball, SlopeRatio
from tests.manual.callback_nets import ONE_STEP, THREE_STEPS, ByFrankWolfe, Plain

STATEFUL = InnerLoop(
    ball=L2Ball(radius=0.02),
    steps=3,
    momentum=0.9,
    radius_rule=SlopeRatio(),
)
INNER_LOOPS = [
    THREE_STEPS,
    InnerLoop(ball=L2Ball(radius=0.05), steps=3, batches="split"),
    InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=2),
]


def sweep(module, make_trainer, *, ckpt_path=None, **settings):
    """What the finder found before a fit, and the trainer after it."""
    finder = LearningRateFinder(
        min_lr=1e-4, max_lr=0.2, num_training_steps=25, early_stop_threshold=None, **settings
    )
    trainer = make_trainer(callbacks=[finder], max_epochs=13, limit_val_batches=0)
    trainer.fit(module, ckpt_path=ckpt_path)
    return finder.optimal_lr, trainer


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_with_one_step_the_sweep_is_that_of_automatic_optimization(mode, make_trainer):
    module, plain = ByFrankWolfe(ONE_STEP), Plain()
    found, _ = sweep(module, make_trainer, mode=mode)
    right, _ = sweep(plain, make_trainer, mode=mode)
    assert len(right.results["lr"]) == 25
    assert found.results["lr"] == right.results["lr"]
    assert found.results["loss"] == pytest.approx(right.results["loss"], rel=1e-4)
    assert module.lr == plain.lr == found.suggestion()


@pytest.mark.parametrize("inner_loop", INNER_LOOPS)
def test_the_sweep_has_a_point_an_outer_step(inner_loop, make_trainer):
    module = ByFrankWolfe(inner_loop)
    found, _ = sweep(module, make_trainer)
    lrs = found.results["lr"]
    assert lrs == sorted(set(lrs))
    assert len(lrs) == len(found.results["loss"]) == 25
    assert lrs[0] == pytest.approx(1e-4)
    assert lrs[-1] > 0.1


def test_a_window_that_a_skipped_batch_ends_has_its_point_too(make_trainer):
    class Skips(ByFrankWolfe):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if self.trainer.is_last_batch else loss

    # Epochs of a whole window, and of one whose batches wait for a last one in vain.
    module = Skips(InnerLoop(steps=1, accumulate_grad_batches=4))
    found, _ = sweep(module, make_trainer)
    assert [record.batches for record in module.records[:4]] == [4, 2, 4, 2]
    assert len(found.results["lr"]) == len(found.results["loss"]) == 25


def test_the_points_are_losses_at_the_anchor(make_trainer):
    module = ByFrankWolfe(THREE_STEPS)
    losses = []
    original = module.loss

    def noted(batch):
        loss = original(batch)
        if module.training:
            losses.append((module.trainer.global_step, module.frank_wolfe.k, loss.item()))
        return loss

    module.loss = noted
    found, _ = sweep(module, make_trainer)
    opening = [loss for _, k, loss in losses if k == 0][:25]
    average, smoothed = 0.0, []
    for restart, loss in enumerate(opening):
        average = 0.98 * average + 0.02 * loss
        smoothed.append(average / (1 - 0.98 ** (restart + 2)))
    assert found.results["loss"] == pytest.approx(smoothed)


def test_a_fit_that_resumes_within_a_window_sweeps_too(make_trainer, tmp_path):
    def save(trainer, module, outputs, batch, batch_idx):
        if batch_idx == 3:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    make_trainer(callbacks=[LambdaCallback(on_train_batch_end=save)]).fit(ByFrankWolfe(THREE_STEPS))
    found, _ = sweep(ByFrankWolfe(THREE_STEPS), make_trainer, ckpt_path=tmp_path / "saved.ckpt")
    assert len(found.results["lr"]) == len(found.results["loss"]) == 25


@pytest.mark.parametrize("inner_loop", [STATEFUL, *INNER_LOOPS])
def test_after_the_sweep_training_goes_on_as_if_it_had_not_been(inner_loop, make_trainer):
    module = ByFrankWolfe(inner_loop)
    found, trainer = sweep(module, make_trainer)
    assert found.suggestion() == module.lr == trainer.optimizers[0].param_groups[0]["lr"]

    straight = ByFrankWolfe(inner_loop, lr=module.lr)
    other = make_trainer(max_epochs=13, limit_val_batches=0)
    other.fit(straight)
    assert torch.equal(module.weights(), straight.weights())
    assert trainer.global_step == other.global_step
    later = module.records[-other.global_step :]
    assert [(r.restart, r.steps, r.radius) for r in later] == [
        (r.restart, r.steps, r.radius) for r in straight.records
    ]


def test_a_sweep_that_diverges_stops_and_leaves_nothing(make_trainer):
    module = ByFrankWolfe(STATEFUL)
    finder = LearningRateFinder(
        min_lr=1e-2, max_lr=1e6, num_training_steps=40, early_stop_threshold=50.0
    )
    make_trainer(callbacks=[finder], max_epochs=30, limit_val_batches=0).fit(module)
    assert 10 < len(finder.optimal_lr.results["lr"]) < 40
    straight = ByFrankWolfe(STATEFUL, lr=module.lr)
    make_trainer(max_epochs=30, limit_val_batches=0).fit(straight)
    assert torch.equal(module.weights(), straight.weights())


def test_the_tuner_sweeps_before_a_fit(make_trainer):
    module = ByFrankWolfe()
    before = module.weights()
    trainer = make_trainer(max_epochs=7)
    found = Tuner(trainer).lr_find(module, min_lr=1e-4, num_training=20, early_stop_threshold=None)
    assert module.lr == found.suggestion()
    assert torch.equal(module.weights(), before)
    straight = ByFrankWolfe(lr=module.lr)
    trainer.fit(module)
    make_trainer(max_epochs=7).fit(straight)
    assert torch.equal(module.weights(), straight.weights())


def test_the_finder_works_in_the_other_namespace(tmp_path, loader):
    class Net(FrankWolfeMixin, pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.lr = 0.1

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    trainer = pytorch_lightning.Trainer(
        max_epochs=6,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    found = pytorch_lightning.tuner.Tuner(trainer).lr_find(
        Net(), loader, num_training=12, early_stop_threshold=None
    )
    lrs = found.results["lr"]
    assert lrs == sorted(set(lrs))
    assert len(lrs) == 12


@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_batch_size_finder_leaves_a_fresh_window(mode, make_trainer):
    module = ByFrankWolfe(STATEFUL)
    sizes = []

    def noted(batch):
        if module.training:
            sizes.append(len(batch[0]))
        return type(module).loss(module, batch)

    module.loss = noted
    finder = BatchSizeFinder(mode=mode, init_val=2, max_trials=3, steps_per_trial=3, margin=0.0)
    trainer = make_trainer(callbacks=[finder])
    trainer.fit(module)
    assert finder.optimal_batch_size == module.batch_size == 8
    # Three trials of at most three windows, the first still with the module's batch size.
    assert sizes == [4] * 14 + [8, 8, 8, 4] * 2
    assert [record.restart for record in module.records] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]

    straight = ByFrankWolfe(STATEFUL)
    straight.batch_size = 8
    make_trainer().fit(straight)
    assert torch.equal(module.weights(), straight.weights())


def test_the_batch_size_finder_survives_memory_that_runs_out_in_mid_window(make_trainer):
    class Large(ByFrankWolfe):
        def loss(self, batch):
            loss = super().loss(batch)
            if self.training and len(batch[0]) > 4 and self.frank_wolfe.k == 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return loss

    module = Large(STATEFUL)
    before = module.weights()
    trainer = make_trainer()
    size = Tuner(trainer).scale_batch_size(module, init_val=2, max_trials=4)
    assert size == module.batch_size == 4
    assert torch.equal(module.weights(), before)
    straight = copy.deepcopy(module)
    trainer.fit(module)
    make_trainer().fit(straight)
    assert torch.equal(module.weights(), straight.weights())
