"""What users write into ``optimizer_step``: warm-ups, steps left out or doubled, closures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from lightning_fw import InnerLoop
from tests.manual.seen_gradients import SeesGradients
from tests.manual.twins import Parts, batches, fit, rates_recorder, sgd, twins, weights


class WarmsUp(Parts):
    """As in Lightning's documentation: after the step, by the steps made."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer.step(closure=optimizer_closure)
        if self.trainer.global_step < 9:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (self.trainer.global_step + 1) / 9


class WarmsUpBefore(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * min(1.0, (self.trainer.global_step + 1) / 9)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class SkipsSometimes(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        if batch_idx % 2 == 0:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()
        self.steps = [*getattr(self, "steps", []), (self.trainer.global_step, weights(self))]


class StepsTwice(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer.step(closure=optimizer_closure)
        optimizer.step()


@pytest.mark.parametrize("parts", [WarmsUp, WarmsUpBefore])
def test_a_warm_up_in_optimizer_step_is_as_in_automatic(parts):
    rates = []
    for twin in twins(parts):
        recorder = rates_recorder()
        fit(twin(), callbacks=[recorder])
        rates.append(recorder.rates)
    assert rates[0] == rates[1]
    assert len({rate for _, (rate,) in rates[0]}) == 9


@pytest.mark.parametrize("parts", [Parts, WarmsUp, SkipsSometimes, StepsTwice])
@pytest.mark.parametrize("max_steps", [-1, 5])
def test_global_step_counts_the_hook_as_in_automatic(parts, max_steps):
    ended = [fit(twin(), max_steps=max_steps, max_epochs=2) for twin in twins(parts)]
    assert [done.global_step for done in ended] == [14 if max_steps < 0 else 5] * 2


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
def test_steps_are_counted_once_as_ready_and_as_made():
    done = fit(twins()[1](None, InnerLoop(steps=3)), batches(7, nan_in=(3, 4, 5)), max_epochs=2)
    steps = done.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    assert (steps.ready, steps.completed) == (6, 6)


def test_a_hook_that_skips_the_step_leaves_the_weights():
    automatic, mine = (twin() for twin in twins(SkipsSometimes))
    for module in (automatic, mine):
        fit(module, max_epochs=1)
    assert [step for step, _ in mine.steps] == [step for step, _ in automatic.steps]
    after = [weights for _, weights in mine.steps]
    moves = [not torch.equal(a, b) for a, b in pairwise(after)]
    assert moves == [False, True, False, True, False, True]


class ZeroesBefore(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer.zero_grad()
        optimizer.step(closure=optimizer_closure)


class ZeroesAfter(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer_closure()
        optimizer.zero_grad()
        optimizer.step()


@pytest.mark.parametrize(("parts", "steps"), [(ZeroesBefore, True), (ZeroesAfter, False)])
def test_zero_grad_is_no_loss_before_the_closure_as_in_automatic(parts, steps):
    for twin, plain in zip(twins(parts), twins(Parts), strict=True):
        module, expected = twin(), plain()
        start = weights(module).clone()
        fit(module)
        fit(expected)
        assert torch.equal(weights(module), weights(expected) if steps else start)


class CallsTheClosure(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        loss = optimizer_closure()
        self.losses = [*getattr(self, "losses", []), (loss, float(loss))]
        optimizer.step(closure=lambda: loss)


def test_the_closure_gives_the_loss_without_its_graph():
    automatic, mine = (twin(lambda module: sgd(module, lr=0.0)) for twin in twins(CallsTheClosure))
    for module in (automatic, mine):
        fit(module, max_epochs=1)
    assert [value for _, value in mine.losses] == [value for _, value in automatic.losses]
    assert len(mine.losses) == 7
    for loss, _ in automatic.losses + mine.losses:
        assert not loss.requires_grad


def test_with_more_steps_the_closure_gives_the_last_loss():
    losses: list[float] = []

    class Notes(CallsTheClosure):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            losses.append(float(loss.detach()))
            return {"loss": loss}

    module = twins(Notes)[1](None, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert [value for _, value in module.losses] == [losses[2], losses[5], losses[6]]


@pytest.mark.parametrize(("limit", "expected"), [(7, [1, 3, 5, 6]), (6, [1, 3, 5])])
def test_the_batch_index_is_that_of_the_windows_last_batch(limit, expected):
    class NotesBatches(Parts):
        def optimizer_step(
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
        ) -> None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            self.seen = [*getattr(self, "seen", []), batch_idx]

    module = twins(NotesBatches)[1](None, InnerLoop(steps=2))
    fit(module, max_epochs=1, limit_train_batches=limit)
    assert module.seen == expected


def test_a_step_without_the_closure_is_a_step():
    class WithoutClosure(SeesGradients):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer_closure()
            optimizer.step()

    modules = [twins(parts)[1](None, InnerLoop(steps=3)) for parts in (Parts, WithoutClosure)]
    for module in modules:
        fit(module)
    assert torch.equal(*map(weights, modules))
    assert len(modules[1].directions) == 9
