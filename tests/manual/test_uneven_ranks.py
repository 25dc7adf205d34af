"""Ranks with different numbers of batches: windows apart go on, all else is told at once."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import GapFraction, InnerLoop, L2Ball
from tests.manual.local_fits import BATCH, RANKS, SAMPLES, Apart, by_hand, fit, samples


class Uneven(Apart):
    """Rank 0 gets seven batches, rank 1 fewer."""

    limit = 4

    def train_dataloader(self):
        mine = range(self.global_rank, SAMPLES, RANKS)
        return DataLoader(samples(), BATCH, sampler=mine[: BATCH * self.batches_of_rank()])

    def batches_of_rank(self):
        return self.limit if self.global_rank else 7


class OfUnknownLength(Uneven):
    def train_dataloader(self):
        module, loader = self, super().train_dataloader()

        class Stream(IterableDataset):
            def __iter__(self):
                return iter([loader.dataset[index] for index in loader.sampler])

        del module
        return DataLoader(Stream(), BATCH)


APART = InnerLoop(ball=L2Ball(radius=0.02), steps=3, momentum=0.5, sync="restart")


@pytest.mark.parametrize("kind", [Uneven, OfUnknownLength], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("limit", [6, 4, 1])
def test_windows_apart_go_on_with_those_that_have_batches(kind, limit, make_trainer):
    module = kind(APART)
    module.limit = limit
    fit(make_trainer, module)
    torch.testing.assert_close(
        module.weights(), by_hand(APART, limits=(7, limit)), rtol=1e-9, atol=1e-12
    )
    assert module.messages == 2 * 3
    assert module.spread == 0


def test_they_end_together_at_max_steps(make_trainer):
    module = Uneven(APART)
    module.limit = 1
    fit(make_trainer, module, max_steps=2)
    assert module.messages == 2
    assert module.spread == 0


class SkipsItsLast(Apart):
    """Rank 1's last batch makes no step, and closes no window of its own."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if self.global_rank == 1 and batch_idx == 6 else loss


def test_a_rank_that_skips_its_last_batch_answers_the_others(make_trainer):
    module = fit(make_trainer, SkipsItsLast(APART))
    torch.testing.assert_close(
        module.weights(), by_hand(APART, limits=(7, 6)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("loop", "settings", "reason"),
    [
        (InnerLoop(steps=3), {}, 'with sync="step"'),
        (InnerLoop(restart_when=GapFraction(0.1), sync="restart"), {}, "with `restart_when`"),
        (
            APART,
            {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(every_n_train_steps=2)]},
            "with a ModelCheckpoint that saves in mid-epoch",
        ),
    ],
    ids=["step", "restart_when", "checkpoint"],
)
def test_what_asks_all_ranks_in_mid_epoch_needs_even_numbers(
    loop, settings, reason, make_trainer, tmp_path
):
    expected = f"must give every rank as many batches {reason}, got 4 to 7"
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, Uneven(loop), default_root_dir=tmp_path, **settings)
