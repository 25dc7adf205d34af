"""Windows that ranks run apart: one message a restart, and the same weights on every rank."""

from __future__ import annotations

import math

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from lightning_fw import (
    InnerLoop,
    L2Ball,
    LinfBall,
    NuclearBall,
    OpenLoop,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.manual.strategies import require_local_windows
from lightning_fw.window import Window
from tests.manual.local_fits import Apart, by_hand, fit
from tests.mixin.conftest import Recurrent, make_loader
from tests.ranks import on_ranks

DDP = [{}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}]
BALLS = [L2Ball(radius=0.02), L2Ball(radius=0.02, scope="global"), LinfBall(radius=0.01)]


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_they_are_the_mean_of_windows_run_one_after_the_other(ball, make_trainer):
    loop = InnerLoop(ball=ball, steps=3, step_size=OpenLoop(), momentum=0.5, sync="restart")
    module = fit(make_trainer, Apart(loop))
    torch.testing.assert_close(module.weights(), by_hand(loop), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ddp", DDP[1:], ids=str)
def test_every_variant_of_ddp_leaves_them_apart(ddp, make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.02), steps=3, momentum=0.5, sync="restart")
    module = fit(make_trainer, Apart(loop), ddp=ddp)
    torch.testing.assert_close(module.weights(), by_hand(loop), rtol=1e-9, atol=1e-12)
    assert module.buckets == 0


def test_a_static_graph_is_refused(make_trainer):
    expected = '`static_graph` must be False with sync="restart", got True'
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, Apart(InnerLoop(sync="restart")), ddp={"static_graph": True})


def test_one_rank_alone_may_have_a_static_graph(make_trainer):
    def on_a_rank():
        trainer = make_trainer(strategy=DDPStrategy(static_graph=True), devices=1)
        trainer.fit(Recurrent(InnerLoop(steps=3, sync="restart")), make_loader())
        return trainer.global_step

    assert on_ranks(on_a_rank, ranks=1) == [3]


@pytest.mark.parametrize(
    "loop",
    [
        InnerLoop(ball=L2Ball(radius=0.02), steps=3, sync="restart"),
        InnerLoop(ball=L2Ball(radius=0.02), steps=3, batches="same", sync="restart"),
        InnerLoop(ball=L2Ball(radius=0.02), steps=2, batches="split", sync="restart"),
        InnerLoop(ball=NuclearBall(radius=0.02), steps=3, trajectory="cumulative", sync="restart"),
        InnerLoop(
            ball=SpectralBall(radius=0.02),
            steps=3,
            momentum=0.9,
            radius_rule=SlopeRatio(),
            sync="restart",
        ),
    ],
    ids=["successive", "same", "split", "cumulative", "spectral"],
)
def test_one_message_a_window_no_gradients_and_ranks_that_agree(loop, make_trainer):
    module = fit(make_trainer, Apart(loop))
    windows = 2 * {"successive": 3, "same": 7, "split": 7}[loop.batches]
    assert module.messages == windows
    assert module.buckets == 0
    assert module.spread == 0
    assert module.outside == 0


def test_tensors_with_own_radii_need_no_further_message(make_trainer):
    rule = SlopeRatio(own_share=0.5, rate=0.5)
    module = fit(
        make_trainer,
        Apart(InnerLoop(ball=L2Ball(radius=0.02), steps=2, radius_rule=rule, sync="restart")),
    )
    assert module.messages == 2 * 4
    assert module.spread == 0


def test_with_a_message_a_step_gradients_are_reduced(make_trainer):
    module = fit(make_trainer, Apart(InnerLoop(steps=3)))
    assert module.buckets >= 14
    assert module.spread == 0


@pytest.mark.parametrize("ddp", DDP[:2], ids=str)
def test_a_rank_whose_window_was_skipped_follows_the_others(ddp, make_trainer):
    class Poisoned(Apart):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if self.global_rank == 1 and batch_idx < 3 else loss

    loop = InnerLoop(ball=L2Ball(radius=0.02), steps=3, sync="restart")
    module = fit(make_trainer, Poisoned(loop), ddp=ddp)
    assert module.spread == 0
    assert module.weights().isfinite().all()
    start = Recurrent(loop).double().weights()
    assert not torch.equal(module.weights(), start)


def joined(displacements: list[torch.Tensor], reduce, *, ended: bool = False):
    """The direction and record of a window of one parameter after `reduce`."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1, sync="restart"), [weight])
    weight.grad = -displacements[0].double()
    window.step()
    record = window.close(reduce=reduce, ended=ended)
    return weight.grad, record


def test_agreement_is_one_for_one_way_and_half_a_root_for_crossing_ways():
    ways = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    messages = []
    _, alone = joined(ways[:1], lambda message: messages.append(message.clone()) or message)
    assert alone.agreement == pytest.approx(1.0)
    joined(ways[1:], lambda message: messages.append(message.clone()) or message)
    direction, record = joined(ways, lambda message: sum(messages) / 2)
    assert record.agreement == pytest.approx(1 / math.sqrt(2))
    torch.testing.assert_close(direction, torch.tensor([-0.5, -0.5], dtype=torch.float64))


def test_a_rank_without_a_step_does_not_lessen_agreement():
    # All that it sends is 0.
    _, record = joined([torch.tensor([3.0, 4.0])], lambda message: message / 2)
    assert record.agreement == pytest.approx(1.0)


def test_where_no_rank_took_a_step_there_is_no_agreement_to_tell():
    _, record = joined([torch.full((2,), math.nan)], lambda message: message)
    assert record.skipped == 1
    assert math.isnan(record.agreement)


def test_the_mean_is_over_ranks_that_took_a_step():
    ways, messages = (torch.tensor([3.0, 4.0]), torch.full((2,), math.nan)), []
    for way in ways:
        joined([way], lambda message: messages.append(message.clone()) or message)
    for way in ways:
        direction, _ = joined([way], lambda _: sum(messages) / 2)
        torch.testing.assert_close(direction, torch.tensor([-0.6, -0.8], dtype=torch.float64))


@pytest.mark.parametrize(("at_end", "share"), [(1, "25%"), (2, "50%"), (3, "75%")])
def test_ranks_are_told_on_how_many_the_epoch_ended(at_end, share):
    way, messages = [torch.tensor([3.0, 4.0])], []
    for rank in range(4):
        ended = rank < at_end
        joined(way, lambda message: messages.append(message.clone()) or message, ended=ended)
    for ended in (True, False):
        with pytest.raises(ValueError, match=f"an epoch that ended on {share} of the ranks"):
            joined(way, lambda _: sum(messages) / 4, ended=ended)


def test_a_rank_alone_goes_as_it_would_with_a_message_a_step():
    directions = []
    for sync in ("step", "restart"):
        weight, idle = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
        window = Window(InnerLoop(steps=3, radius_rule=SlopeRatio(), sync=sync), [weight, idle])
        while not window.is_full:
            with window.displaced():
                (weight.exp() * torch.tensor([1.0, 2.0])).sum().backward()
            window.step()
        window.close()
        assert idle.grad is None
        directions.append(weight.grad)
    torch.testing.assert_close(*directions, rtol=1e-12, atol=0.0)


RANKS = ((1.0, 5.0), (3.0, -2.0))


def slopes_and_windows(messages: list[torch.Tensor], poisoned: tuple[int, ...] = ()):
    """Two windows on each of two ranks from the same anchor; ``messages`` of the first are means.

    Steps in ``poisoned`` of the second rank's second window are skipped.

    Returns:
        Each rank's slopes before the second window closes, its message then, and the window.
    """
    found = []
    for rank, factors in enumerate(RANKS):
        parameters = [torch.nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (2, 3)]
        loop = InnerLoop(
            ball=L2Ball(radius=0.1),
            steps=2,
            radius_rule=SlopeRatio(own_share=0.5, decay=0.0),
            sync="restart",
        )
        window, sent = Window(loop, parameters), []
        for restart in range(2):
            for step in range(2):
                bad = restart and rank and step in poisoned
                with window.displaced():
                    losses = [f * p.exp().sum() for f, p in zip(factors, parameters, strict=True)]
                    (sum(losses) * (math.nan if bad else 1)).backward()
                window.step()
            slopes = window.state_dict()["slopes"]
            if restart < len(messages):
                window.close(reduce=lambda _, mean=messages[restart]: mean)
            else:
                window.close(reduce=lambda message, sent=sent: sent.append(message) or message)
                break
        found.append((slopes, sent and sent[0], window))
    return found


@pytest.mark.parametrize("poisoned", [(), (0, 1), (1,)])
def test_ranks_agree_on_the_mean_of_their_slopes_tensor_by_tensor(poisoned):
    messages = []
    for _ in range(2):
        sent = [message for _, message, _ in slopes_and_windows(messages, poisoned)]
        messages.append(sum(sent) / 2)
    (mine, _, window), (other, _, partner) = slopes_and_windows(messages, poisoned)
    state = window.state_dict()["slopes"]["radius"]
    assert str(state) == str(partner.state_dict()["slopes"]["radius"])
    for row, average in enumerate(("anchor_slope", "end_slope")):
        expected = mine["ends"][row]
        if row not in poisoned:
            expected = (expected + other["ends"][row]) / 2
        assert len(set(expected.tolist())) == 2
        torch.testing.assert_close(state[average], expected)


def test_without_windows_apart_there_is_no_agreement_to_tell():
    weight = torch.nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(steps=1), [weight])
    weight.grad = torch.ones(2)
    window.step()
    assert math.isnan(window.close().agreement)


def test_an_unknown_sync_is_named():
    with pytest.raises(ValueError, match="`sync` must be one of 'step', 'restart', got 'never'"):
        InnerLoop(sync="never")


def test_other_strategies_cannot_leave_gradients_apart(make_trainer, monkeypatch):
    trainer = make_trainer()
    monkeypatch.setattr(type(trainer), "world_size", 2)
    with pytest.raises(ValueError, match='`sync` must be "step" with SingleDeviceStrategy, got'):
        require_local_windows(trainer)


def test_one_rank_can_under_any_strategy_and_several_under_one_derived_from_ddp(
    make_trainer, monkeypatch
):
    class Own(DDPStrategy):
        pass

    assert require_local_windows(make_trainer()) is None
    trainer = make_trainer(strategy=Own())
    monkeypatch.setattr(type(trainer), "world_size", 2)
    assert require_local_windows(trainer) is None
