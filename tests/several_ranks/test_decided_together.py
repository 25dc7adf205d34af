"""What ranks decide together: steps that are skipped, windows that close early."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_fw.restarts import GapFraction, Progress, RestartRule
from tests.ranks import on_ranks
from tests.several_ranks.joined import BATCHES, Joined, assert_same_windows, fit, loop
from tests.several_ranks.poisoned import A_STEP, A_WINDOW, Poisoned, by_hand

OF_A_WINDOW_SKIPPED = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")


@OF_A_WINDOW_SKIPPED
@pytest.mark.parametrize("batches", [A_STEP, A_WINDOW], ids=["a step", "a window"])
def test_with_a_message_a_step_a_gradient_of_nan_on_one_rank_is_skipped_on_all(
    batches, make_trainer
):
    def on_a_rank():
        return fit(make_trainer, Poisoned(loop(), batches), strategy="ddp", devices=2)

    (first, records), (second, others) = on_ranks(on_a_rank)
    assert [r.skipped for r in records] == [r.skipped for r in others] == 2 * [len(batches), 0, 0]
    assert torch.equal(first, second)
    assert first.isfinite().all()
    alone, expected = fit(make_trainer, Poisoned(loop(), batches))
    torch.testing.assert_close(first, alone, rtol=1e-9, atol=1e-12)
    assert_same_windows(records, expected)


@pytest.mark.parametrize("batches", [A_STEP, A_WINDOW], ids=["a step", "a window"])
def test_with_windows_apart_it_is_skipped_where_it_is_and_a_rank_without_a_step_counts_not(
    batches, make_trainer
):
    inner_loop = loop(radius_rule=None, sync="restart")

    def on_a_rank():
        return fit(make_trainer, Poisoned(inner_loop, batches), strategy="ddp", devices=2)

    (first, records), (second, others) = on_ranks(on_a_rank)
    assert [r.skipped for r in records] == 6 * [0]
    assert [r.skipped for r in others] == 2 * [len(batches), 0, 0]
    assert torch.equal(first, second)
    expected = by_hand(Poisoned(inner_loop, batches))
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)


class OnlyOneWants(RestartRule):
    """The last rank asks for a restart after two steps, the other never."""

    def __call__(self, progress: Progress) -> bool:
        return torch.distributed.get_rank() == 1 and progress.k >= 2


@pytest.mark.parametrize("sync", ["step", "restart"])
def test_the_wish_of_one_rank_closes_the_window_on_all(sync, make_trainer):
    inner_loop = loop(restart_when=OnlyOneWants(), sync=sync)

    def on_a_rank():
        return fit(make_trainer, Joined(inner_loop), strategy="ddp", devices=2)

    (first, records), (second, others) = on_ranks(on_a_rank)
    for told in (records, others):
        assert [r.steps for r in told] == 2 * [2, 2, 2, 1]
        assert [r.early for r in told] == 2 * [True, True, True, False]
    assert torch.equal(first, second)


class Noted(RestartRule):
    """GapFraction, with its answers on this rank."""

    def __init__(self) -> None:
        self.rule = GapFraction(0.7)
        self.answers: list[bool] = []

    def __call__(self, progress: Progress) -> bool:
        self.answers.append(bool(self.rule(progress)))
        return self.answers[-1]


def test_windows_apart_close_together_though_ranks_see_other_gaps(make_trainer):
    def on_a_rank():
        rule = Noted()
        module = Joined(loop(restart_when=rule, sync="restart"))
        weights, records = fit(make_trainer, module, strategy="ddp", devices=2)
        return weights, [(r.steps, r.early) for r in records], rule.answers

    (first, windows, answers), (second, others, other_answers) = on_ranks(on_a_rank)
    assert answers != other_answers
    assert windows == others
    assert any(early for _, early in windows)
    assert torch.equal(first, second)


@OF_A_WINDOW_SKIPPED
def test_a_rank_that_only_skips_still_hears_the_wish_of_another(make_trainer):
    """It has no displacement to judge by, and must not leave the others waiting for an answer."""

    class FirstWants(RestartRule):
        def __call__(self, progress: Progress) -> bool:
            return torch.distributed.get_rank() == 0 and progress.k >= 2

    def on_a_rank():
        module = Poisoned(loop(restart_when=FirstWants(), sync="restart"), list(range(BATCHES)))
        weights, records = fit(make_trainer, module, strategy="ddp", devices=2)
        return weights, [r.early for r in records], [r.skipped for r in records]

    (first, early, skipped), (second, also_early, also_skipped) = on_ranks(on_a_rank)
    assert early == also_early == 2 * [True, True, True, False]
    assert (skipped, also_skipped) == (8 * [0], 2 * [2, 2, 2, 1])
    assert torch.equal(first, second)
    assert first.isfinite().all()


class FrozenByTurns(Joined):
    """Its head is frozen on one rank while the other trains it."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.head.requires_grad_((batch_idx + self.global_rank) % 2 == 0)


def test_what_one_rank_freezes_moves_by_the_gradient_of_the_other_on_both(make_trainer):
    def on_a_rank():
        module = FrozenByTurns(loop())
        before = module.head.weight.detach().clone()
        weights, _ = fit(
            make_trainer, module, strategy="ddp_find_unused_parameters_true", devices=2
        )
        return weights, torch.equal(module.head.weight, before)

    (first, stood), (second, _) = on_ranks(on_a_rank)
    assert torch.equal(first, second)
    assert not stood
