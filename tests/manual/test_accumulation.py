"""Several batches make one inner step, as one batch of their joint size would."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from lightning_fw import (
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    OpenLoop,
    ProductBall,
    RMSBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.restarts import RestartRule
from lightning_fw.window.gradients import Gradients
from tests.manual.double_fits import doubles, fit
from tests.manual.interrupted import counts, monitor
from tests.mixin.conftest import Recurrent


def measured(module):
    """What records say of windows, without what batches and time they took."""
    left_out = ("seconds", "batches", "evaluations", "radii")
    return [
        [
            *(
                v
                for name, v in asdict(record).items()
                if not any(part in name for part in left_out)
            ),
            *record.radii.values(),
        ]
        for record in module.records
    ]


LOOPS = {
    "paper": InnerLoop(ball=L2Ball(radius=0.05), steps=2),
    "global": InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3),
    "rms": InnerLoop(ball=RMSBall(radius=0.01), steps=2, direction="displacement"),
    "linf": InnerLoop(ball=LinfBall(radius=0.01), steps=2),
    "l1": InnerLoop(ball=L1Ball(radius=0.05), steps=2),
    "lp": InnerLoop(ball=LpBall(p=3, radius=0.05), steps=2),
    "nuclear": InnerLoop(ball=NuclearBall(radius=0.05), steps=2),
    "spectral": InnerLoop.spectral(),
    "spectral unwhitened": replace(InnerLoop.spectral(), whitening=None),
    "spectral cumulative": InnerLoop(
        ball=SpectralBall(radius=0.02), steps=3, trajectory="cumulative", momentum=0.9
    ),
    "product": InnerLoop(
        ball=ProductBall({"rnn.*": L2Ball(radius=0.05), "*": LinfBall(radius=0.01)}), steps=2
    ),
    "momentum": InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9, step_size=OpenLoop()),
    "slope ratio": InnerLoop(
        ball=L2Ball(radius=0.05), steps=2, radius_rule=SlopeRatio(), direction="displacement"
    ),
    "short steps": InnerLoop(ball=L2Ball(radius=0.05), steps=3, step_size=ShortStep(lipschitz=2.0)),
}


# Groups of 2 come out even. Of 3, an epoch of 14 batches ends with a group of 2, as one of the
# joined batches ends with a batch of 4 samples.
@pytest.mark.parametrize("batches", [2, 3])
@pytest.mark.parametrize("name", LOOPS)
def test_a_group_of_batches_is_one_batch_of_their_joint_size(name, batches, make_trainer):
    accumulating = replace(LOOPS[name], accumulate_grad_batches=batches)
    apart, trainer = fit(accumulating, doubles(2), make_trainer)
    joined, other = fit(LOOPS[name], doubles(2 * batches), make_trainer)
    # Power iteration takes the best of several starts, and rounding may favour another one.
    # Whitening makes what is short in its input as long as the rest, and rounding with it.
    tolerance = {"nuclear": 1e-7, "spectral": 1e-10}.get(name, 1e-12)
    torch.testing.assert_close(
        apart.weights(), joined.weights(), rtol=tolerance, atol=0.1 * tolerance
    )
    assert not torch.equal(apart.weights(), Recurrent().double().weights())
    for mine, others in zip(measured(apart), measured(joined), strict=True):
        assert mine == pytest.approx(others, rel=1e3 * tolerance, abs=tolerance, nan_ok=True)
    assert trainer.global_step == other.global_step


def test_records_count_steps_batches_and_evaluations(make_trainer):
    watch = monitor()
    loop = InnerLoop(steps=2, accumulate_grad_batches=3)
    module, trainer = fit(loop, doubles(2), make_trainer, callbacks=[watch], max_epochs=1)
    # 14 batches: groups of 3, 3 | 3, 3 | 2.
    assert [record.steps for record in module.records] == [2, 2, 1]
    assert [record.batches for record in module.records] == [6, 6, 2]
    assert [record.gradient_evaluations for record in module.records] == [6, 6, 2]
    assert [record.skipped for record in module.records] == [0, 0, 0]
    assert trainer.global_step == 3
    assert watch.summary()["fw/gradient_evaluations"] == 14


def test_the_loss_of_a_step_is_the_mean_over_its_batches(make_trainer):
    class Noting(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.losses = [*getattr(self, "losses", []), loss.item()]
            return loss

    loop = InnerLoop(steps=2, accumulate_grad_batches=3)
    module, _ = fit(loop, doubles(2), make_trainer, Noting, max_epochs=1)
    first, last = module.losses[6:9], module.losses[9:12]
    assert module.records[1].loss_first == pytest.approx(sum(first) / 3, rel=1e-12)
    assert module.records[1].loss_last == pytest.approx(sum(last) / 3, rel=1e-12)
    assert module.records[2].loss_last == pytest.approx(sum(module.losses[12:]) / 2, rel=1e-12)


def test_the_batches_of_a_group_see_the_same_weights(make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=3)
    module, _ = fit(loop, doubles(2), make_trainer, max_epochs=1)
    seen = [weights for _, weights in module.seen]
    groups = [seen[:3], seen[3:6], seen[6:9], seen[9:12], seen[12:]]
    for group in groups:
        assert all(torch.equal(weights, group[0]) for weights in group)
    for before, after in pairwise(groups):
        assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_up_in_float32(dtype):
    # Half an ulp of 1 at most, each: in half precision the sum would stay at 1.
    small = torch.finfo(dtype).eps / 4
    weight = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
    gradients = Gradients([weight])
    for value in (1.0, *[small] * 32):
        weight.grad = torch.full((1,), value, dtype=dtype)
        gradients.hold(torch.tensor(value, dtype=dtype))
    present, [mean], loss = gradients.take(None)
    assert present == [0]
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx((1 + 32 * small) / 33, rel=1e-6)
    assert loss.item() == pytest.approx((1 + 32 * small) / 33, rel=1e-6)


def test_what_is_held_stays_what_it_was_and_keeps_no_graph():
    weight = torch.nn.Parameter(torch.zeros(1))
    gradients, loss = Gradients([weight]), weight.sum() + 2
    weight.grad = torch.ones(1)
    gradients.hold(loss)
    loss.detach().zero_()
    _, [mean], held = gradients.take(None)
    assert (mean.item(), held.item()) == (1.0, 2.0)
    assert not held.requires_grad


def test_one_batch_a_group_is_no_accumulation(make_trainer):
    watches = monitor(), monitor()
    loops = InnerLoop(steps=3), InnerLoop(steps=3, accumulate_grad_batches=1)
    (one, _), (other, _) = (
        fit(loop, doubles(4), make_trainer, callbacks=[watch])
        for loop, watch in zip(loops, watches, strict=True)
    )
    assert torch.equal(one.weights(), other.weights())
    assert counts(watches[0].summary()) == counts(watches[1].summary())


@pytest.mark.parametrize("batches", ["same", "split"])
def test_batches_that_are_not_successive_are_refused(batches):
    message = re.escape(f'`accumulate_grad_batches` must be 1 with batches="{batches}", got 2.')
    with pytest.raises(ValueError, match=message):
        InnerLoop(batches=batches, accumulate_grad_batches=2)
    assert InnerLoop(batches=batches, accumulate_grad_batches=1).batches == batches


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "must be at least 1, got 0"),
        (-2, ValueError, "must be at least 1, got -2"),
        (2.0, TypeError, "must be an int, got 2.0"),
        (True, TypeError, "must be an int, got True"),
        ({0: 2}, TypeError, "must be an int, got {0: 2}"),
    ],
)
def test_wrong_values_are_named(value, error, message):
    with pytest.raises(error, match=re.escape(f"`accumulate_grad_batches` {message}")):
        InnerLoop(accumulate_grad_batches=value)


def test_a_restart_rule_is_asked_after_every_inner_step_and_not_after_every_batch(
    loader, make_trainer
):
    class Listens(RestartRule):
        def __call__(self, progress):
            asked.append(progress.k)
            return False

    asked = []
    loop = InnerLoop(steps=3, accumulate_grad_batches=2, restart_when=Listens())
    make_trainer().fit(Recurrent(loop), loader)
    # A window that is full closes unasked; of the second the epoch has one batch.
    assert asked == [1, 2, 1]
