"""One Trainer for several fits, of modules with the mixin and without."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_fw import InnerLoop
from tests.manual.callback_nets import STATEFUL, ByFrankWolfe, Plain
from tests.manual.scheduled_fits import halving, plateau, with_scheduler
from tests.manual.twins import Parts, batches, fit, rates_recorder, sgd, trainer, twins


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_trainer_goes_on_with_another_module_as_lightnings_own(order):
    configures = (
        with_scheduler(interval="step", frequency=3),
        with_scheduler(plateau, monitor="at_validation", interval="epoch"),
    )

    def rates(first: int, second: int) -> list[Any]:
        recorder = rates_recorder()
        reused = trainer([recorder])
        for which, configure in zip((first, second), configures, strict=True):
            reused.fit(twins()[which](configure), batches(7), batches(2))
            reused.fit_loop.max_epochs += 3
        return recorder.rates

    mine = rates(*order)
    assert mine == rates(0, 0)
    assert len(re.findall("on_train_batch_end", str(mine))) == 42


def test_a_module_with_manual_optimization_is_left_alone_afterwards():
    class Manual(Parts):
        def training_step(self, batch, batch_idx):
            pass

    plain = twins(Manual)[0](_lists)
    plain.automatic_optimization = False
    reused = fit(twins()[1](with_scheduler(interval="step")))
    reused.fit_loop.max_epochs += 3
    reused.fit(plain, batches(2), batches(2))
    assert plain.lr_schedulers().last_epoch == 0


class EndsEarly(Parts):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 3 else None


class Told(ModelCheckpoint):
    """Notes what modules it sees."""

    def on_train_batch_end(self, trainer, module, *args):
        self.automatic = [*getattr(self, "automatic", ()), module.automatic_optimization]
        super().on_train_batch_end(trainer, module, *args)


def test_a_checkpoint_callback_sees_it_as_it_is_after_a_batch_that_a_hook_skipped(tmp_path):
    class Manual(Parts):
        def training_step(self, batch, batch_idx):
            pass

    callback, plain = Told(tmp_path, save_top_k=0), twins(Manual)[0]()
    plain.automatic_optimization = False
    reused = trainer([callback], max_epochs=1, enable_checkpointing=True)
    reused.fit(twins(EndsEarly)[1](), batches(), batches(2))
    assert callback.automatic == [True] * 3
    reused.fit_loop.max_epochs += 1
    reused.fit(plain, batches(2), batches(2))
    assert callback.automatic == [True] * 3 + [False] * 2


def _lists(module: Any) -> Any:
    optimizer = sgd(module)
    return [optimizer], [halving(optimizer)]


def test_several_fits_with_one_trainer_are_as_with_several(make_trainer):
    module, trainer = ByFrankWolfe(STATEFUL), make_trainer()
    trainer.fit(module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module)
    other = ByFrankWolfe(STATEFUL)
    make_trainer().fit(other)
    make_trainer().fit(other)
    assert torch.equal(module.weights(), other.weights())
    assert [record.restart for record in module.records] == [0, 1, 0, 1]


@pytest.mark.parametrize("first", [Plain, ByFrankWolfe])
def test_one_trainer_serves_modules_with_and_without_the_mixin(first, make_trainer):
    def decay(optimizer):
        return {
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
            "interval": "step",
        }

    second = ByFrankWolfe if first is Plain else Plain
    trainer = make_trainer()
    trainer.fit(first(scheduler=decay))
    trainer.fit_loop.max_epochs = 2
    module, alone = second(scheduler=decay), second(scheduler=decay)
    trainer.fit(module)
    make_trainer().fit(alone)
    assert module.lrs == alone.lrs
    assert len(set(module.lrs)) > 1
    assert torch.equal(module.weights(), alone.weights())


def test_a_file_tells_the_steps_of_the_module_that_saves_it(tmp_path):
    plain, mixed = twins()
    reused = fit(plain(), max_epochs=2)
    assert reused.global_step == 14
    reused.fit_loop.max_epochs = 4
    reused.fit(mixed(None, InnerLoop(steps=3)), batches(), batches(2))
    reused.save_checkpoint(tmp_path / "mixed.ckpt")
    steps = reused.global_step
    assert torch.load(tmp_path / "mixed.ckpt", weights_only=True)["global_step"] == steps == 6
    resumed = mixed(None, InnerLoop(steps=3))
    assert fit(resumed, max_epochs=5, ckpt_path=tmp_path / "mixed.ckpt").global_step == steps + 3
