"""What training_step returns: a dict for callbacks, or None for a batch to skip."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging

from lightning_fw import InnerLoop
from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, Plain
from tests.mixin.conftest import Recurrent


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
def test_callbacks_get_the_dict_of_the_first_evaluation(batches, loader, make_trainer):
    class Dicts(Recurrent):
        evaluations = 0

        def training_step(self, batch, batch_idx):
            self.evaluations += 1
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss, "evaluation": self.evaluations, "name": "first"}

    class Watch(L.Callback):
        outputs = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.outputs.append(outputs)

    watch, steps = Watch(), 2
    make_trainer(callbacks=[watch]).fit(Dicts(InnerLoop(steps=steps, batches=batches)), loader)
    stride = 1 if batches == "successive" else steps
    assert [o["evaluation"] for o in watch.outputs] == [1 + stride * i for i in range(7)]
    assert {o["name"] for o in watch.outputs} == {"first"}
    assert not any(o["loss"].requires_grad for o in watch.outputs)


class Bare(Mapping):
    """No more than a mapping must have."""

    def __init__(self, content):
        self.content = content

    def __getitem__(self, key):
        return self.content[key]

    def __iter__(self):
        return iter(self.content)

    def __len__(self):
        return len(self.content)


@pytest.mark.parametrize("form", [Bare, MappingProxyType, UserDict])
@pytest.mark.parametrize("callbacks", [[], [StochasticWeightAveraging(0.05, swa_epoch_start=1)]])
def test_callbacks_get_a_mapping_as_a_dict_as_in_automatic_optimization(
    form, callbacks, make_trainer
):
    outputs = {}

    def formed(cls):
        class Formed(cls):
            def training_step(self, batch, batch_idx):
                return form({"loss": super().training_step(batch, batch_idx), "more": batch_idx})

            def on_train_batch_end(self, given, batch, batch_idx):
                outputs.setdefault(cls, []).append((type(given), sorted(given), given["more"]))

        return Formed

    for module in (formed(Plain)(batch_norm=True), formed(ByFrankWolfe)(ONE_STEP, batch_norm=True)):
        make_trainer(callbacks=deepcopy(callbacks), max_epochs=2).fit(module)
    assert outputs[ByFrankWolfe] == outputs[Plain]
    assert outputs[Plain][:7] == [(dict, ["loss", "more"], index) for index in range(7)]


@pytest.mark.parametrize("form", [lambda loss: UserDict(loss=loss), lambda loss: loss.view(1)])
def test_a_mapping_or_a_vector_of_one_entry_is_a_loss(form, loader, make_trainer):
    class Formed(Recurrent):
        def training_step(self, batch, batch_idx):
            return form(super().training_step(batch, batch_idx))

    module, plain = Formed(), Recurrent()
    for each in (module, plain):
        make_trainer().fit(each, loader)
    assert torch.equal(module.weights(), plain.weights())


@pytest.mark.parametrize("batches", ["same", "split"])
def test_none_at_some_evaluations_of_a_batch_skips_these(batches, loader, make_trainer):
    class Picky(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if len(self.seen) % 2 else loss

    module, trainer = Picky(InnerLoop(steps=4, batches=batches)), make_trainer()
    trainer.fit(module, loader)
    assert [(record.steps, record.batches) for record in module.records] == [(2, 1)] * 7
    assert trainer.global_step == 7


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
def test_a_step_that_always_returns_none_takes_no_outer_step(batches, loader, make_trainer):
    class Forgets(Recurrent):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)

    module = Forgets(InnerLoop(steps=2, batches=batches))
    trainer, before = make_trainer(max_epochs=2), module.weights()
    with pytest.warns(UserWarning, match="got None for every batch of the epoch") as told:
        trainer.fit(module, loader)
    assert sum("`training_step` should return the loss" in str(one.message) for one in told) == 1
    assert trainer.global_step == 0
    assert torch.equal(module.weights(), before)


@pytest.mark.parametrize("with_loss", [0, 6])
def test_a_step_that_returns_one_loss_an_epoch_is_not_warned_of(with_loss, loader, make_trainer):
    class Once(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss if batch_idx == with_loss else None

    trainer = make_trainer()
    trainer.fit(Once(), loader)
    assert trainer.global_step == 1
