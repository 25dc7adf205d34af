"""Groups of batches of which some have no loss, no finite one, or no gradient of a parameter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_fw import InnerLoop, L2Ball
from tests.manual.double_fits import SAMPLES, doubles, fit
from tests.mixin.conftest import Recurrent


class Picky(Recurrent):
    """Returns None for some batches, after a forward pass."""

    skipped: tuple[int, ...] = ()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx in self.skipped else loss


@pytest.mark.parametrize(
    "skipped",
    [(0,), (1, 2), (2, 3, 4, 5), (13,), (12, 13), (11, 12, 13), (10, 11, 13)],
    ids=str,
)
def test_a_group_waits_for_batches_that_have_a_loss(skipped, make_trainer):
    class These(Picky):
        pass

    These.skipped = skipped
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, momentum=0.5, accumulate_grad_batches=3)
    picky, _ = fit(loop, doubles(2), make_trainer, These, max_epochs=1)
    kept = torch.utils.data.Subset(
        doubles(2).dataset, [i for i in range(SAMPLES) if i // 2 not in skipped]
    )
    fewer, _ = fit(loop, DataLoader(kept, batch_size=2), make_trainer, max_epochs=1)
    assert torch.equal(picky.weights(), fewer.weights())
    assert [r.steps for r in picky.records] == [r.steps for r in fewer.records]
    evaluations = [r.gradient_evaluations for r in picky.records]
    assert evaluations == [r.gradient_evaluations for r in fewer.records]


def test_an_epoch_without_any_loss_moves_nothing(make_trainer):
    class Nothing(Picky):
        skipped = tuple(range(14))

    loop = InnerLoop(steps=2, accumulate_grad_batches=3)
    with pytest.warns(UserWarning, match="got None for every batch of the epoch"):
        module, trainer = fit(loop, doubles(2), make_trainer, Nothing)
    assert module.records == []
    assert trainer.global_step == 0


def test_a_batch_that_is_not_finite_skips_the_step_of_its_group_alone(make_trainer):
    loader = doubles(2)
    loader.dataset.tensors[0][8] = float("nan")  # batch 4, of the second group
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=3)
    module, _ = fit(loop, loader, make_trainer, max_epochs=1)
    assert [(r.steps, r.skipped) for r in module.records] == [(1, 1), (2, 0), (1, 0)]
    assert [r.gradient_evaluations for r in module.records] == [6, 6, 2]
    assert module.weights().isfinite().all()

    class Without(Picky):
        skipped = (3, 4, 5)

    # The window of one step closes with it: three batches are one group, and K is 1 for it.
    first, _ = fit(replace(loop, steps=1), doubles(2), make_trainer, limit_train_batches=3)
    anchor = module.seen[6][1]
    after = first.seen[3][1]
    torch.testing.assert_close(anchor, after, rtol=1e-12, atol=1e-13)


def test_a_parameter_that_one_batch_of_a_group_leaves_out_gets_the_mean_over_the_group(
    make_trainer,
):
    class Sometimes(Recurrent):
        def training_step(self, batch, batch_idx):
            for p in self.head.parameters():
                p.requires_grad_(True)
            x, y = batch
            hidden = self.rnn(x)[0][:, -1]
            if batch_idx % 2 == 0:
                return torch.nn.functional.mse_loss(self.head(hidden), y)
            return hidden.square().mean()

    class Joined(Recurrent):
        def training_step(self, batch, batch_idx):
            (x, y), (z, _) = [t[:2] for t in batch], [t[2:] for t in batch]
            loss = torch.nn.functional.mse_loss(self.head(self.rnn(x)[0][:, -1]), y)
            return (loss + self.rnn(z)[0][:, -1].square().mean()) / 2

    loop = InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=2)
    accumulating = replace(loop, accumulate_grad_batches=2)
    apart, _ = fit(accumulating, doubles(2), make_trainer, Sometimes)
    joined, _ = fit(loop, doubles(4), make_trainer, Joined)
    torch.testing.assert_close(apart.weights(), joined.weights(), rtol=1e-12, atol=1e-13)
