"""training_step as people write it: its signature, how it is decorated, inherited and set."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch

from lightning_fw import InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent, loss_of


def without_wraps(method):
    def inner(self, *args, **kwargs):
        return method(self, *args, **kwargs)

    return inner


def with_wraps(method):
    return functools.wraps(method)(without_wraps(method))


class WithIndex(Recurrent):
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithDefault(Recurrent):
    def training_step(self, batch, batch_idx, dataloader_idx=0):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithStar(Recurrent):
    def training_step(self, *args):
        batch, batch_idx = args
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithKeywordOnly(Recurrent):
    def training_step(self, batch, batch_idx, *, scale=1.0):
        self.indices.append(batch_idx)
        return scale * loss_of(self, batch)


class WrappedTwice(Recurrent):
    @with_wraps
    @with_wraps
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class NotWrapped(Recurrent):
    @without_wraps
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class PartialMethod(Recurrent):
    def step(self, batch, batch_idx, stage):
        self.indices.append(batch_idx)
        return loss_of(self, batch)

    training_step = functools.partialmethod(step, stage="train")


class ThroughTwoLevels(WithIndex):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch=batch, batch_idx=batch_idx)


class ThroughThreeLevels(ThroughTwoLevels):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx=batch_idx)


class WrappedAnew(WithIndex):
    """functools.wraps copies the marks of a method that is never called."""

    @functools.wraps(WithIndex.training_step)
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class DecoratedInherited(WithIndex):
    training_step = with_wraps(WithIndex.training_step)


class SetOnTheInstance(Recurrent):
    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        self.training_step = self.step

    def step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class NotYet(Recurrent):
    def step(self, batch, batch_idx):
        x, y = batch
        return (self(x) - y).square().mean()


class SetAroundTheOriginal(WithIndex):
    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        original = self.training_step
        self.training_step = lambda batch, batch_idx: original(batch, batch_idx)


class AssignedLater(Recurrent):
    pass


AssignedLater.training_step = WithIndex.training_step.__wrapped__

SIGNATURES = [
    AssignedLater,
    WithIndex,
    WithDefault,
    WithStar,
    WithKeywordOnly,
    WrappedTwice,
    NotWrapped,
    PartialMethod,
    ThroughTwoLevels,
    ThroughThreeLevels,
    WrappedAnew,
    DecoratedInherited,
    SetOnTheInstance,
    SetAroundTheOriginal,
]


@pytest.mark.parametrize("cls", SIGNATURES)
@pytest.mark.parametrize("batches", ["successive", "same"])
def test_every_way_to_write_it_trains_alike(cls, batches, loader, make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, batches=batches)
    module, usual = cls(loop), Recurrent(loop)
    module.indices = []
    make_trainer().fit(module, loader)
    make_trainer().fit(usual, loader)
    assert torch.equal(module.weights(), usual.weights())
    evaluations = 2 if batches == "same" else 1
    assert module.indices == [index for index in range(7) for _ in range(evaluations)]
    assert len(module.records) == len(usual.records)


def test_a_second_fit_runs_a_step_set_on_the_instance_once_a_batch(loader, make_trainer):
    module = SetOnTheInstance()
    module.indices = []
    for _ in range(2):
        make_trainer().fit(module, loader)
    assert module.indices == [*range(7), *range(7)]
    assert len(module.records) == 6


def test_a_step_set_on_the_instance_is_wrapped_once(loader, make_trainer):
    module = SetOnTheInstance()
    module.indices = []
    make_trainer().fit(module, loader)
    wrapped = module.training_step
    make_trainer(max_epochs=2).fit(module, loader)
    assert module.training_step is wrapped


class WrappedWithoutIndex(Recurrent):
    @with_wraps
    def training_step(self, batch):
        return loss_of(self, batch)


class WrappedOnTheInstance(Recurrent):
    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        self.training_step = with_wraps(loss_of).__get__(self)


@pytest.mark.parametrize("kind", [WrappedWithoutIndex, WrappedOnTheInstance])
def test_a_decorated_step_without_an_index_gets_the_batch_alone(kind, loader, make_trainer):
    trainer = make_trainer()
    trainer.fit(kind(), loader)
    assert trainer.global_step == 3


HOOKS = ["setup", "configure_model", "on_fit_start", "on_train_start", "on_train_epoch_start"]


def on_the_module(self, stage=None):
    self.training_step = self.step


def on_the_class(self, stage=None):
    type(self).training_step = NotYet.step


@pytest.mark.parametrize("assign", [on_the_module, on_the_class])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_step_that_a_hook_sets_trains_too(hook, assign, loader, make_trainer):
    module = type("SetByAHook", (NotYet,), {hook: assign})()
    usual = Recurrent()
    for each in (module, usual):
        make_trainer().fit(each, loader)
    assert torch.equal(module.weights(), usual.weights())
    assert module.trainer.global_step == usual.trainer.global_step == 3


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_step_set_on_the_instance_trains_itself(clone, loader, make_trainer):
    module = SetOnTheInstance()
    module.indices = []
    make_trainer().fit(module, loader)
    twin, before = clone(module), module.weights()
    make_trainer().fit(twin, loader)
    assert torch.equal(module.weights(), before)
    assert not torch.equal(twin.weights(), before)
    assert len(module.indices) == 7
    assert len(twin.indices) == 14


class TakesEntriesOut(Recurrent):
    def training_step(self, batch, batch_idx):
        inputs, kept = batch
        return loss_of(self, (inputs.pop("x"), kept["targets"].pop()))


def test_a_training_step_may_take_entries_out_of_a_batch_that_comes_several_times(
    loader, make_trainer
):
    nested = [({"x": x}, {"targets": [y]}) for x, y in loader]
    modules = [cls(InnerLoop(steps=3, batches="same")) for cls in (TakesEntriesOut, Recurrent)]
    for module, batches in zip(modules, (nested, list(loader)), strict=True):
        make_trainer().fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    assert torch.equal(modules[0].weights(), modules[1].weights())
