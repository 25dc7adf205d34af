"""Ranks stay in step: batches that some skip, and numbers of batches that differ."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import GapFraction, InnerLoop, L2Ball, SlopeRatio
from lightning_fw.restarts import RestartRule
from tests.manual.local_fits import BATCH, RANKS, SAMPLES, Apart, by_hand, fit, samples
from tests.ranks import on_ranks

APART = InnerLoop(ball=L2Ball(radius=0.02), steps=3, momentum=0.5, sync="restart")


class AfterTwo(RestartRule):
    def __call__(self, progress):
        return progress.k >= 2


class Skips(Apart):
    """Rank 1 makes nothing of some batches."""

    def __init__(self, inner_loop: InnerLoop, skipped: tuple[int, ...]) -> None:
        super().__init__(inner_loop)
        self.skipped = skipped

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if self.global_rank == 1 and batch_idx in self.skipped else loss


@pytest.mark.parametrize("skipped", [(0,), (2,), (6,), (0, 1, 2), tuple(range(7))], ids=str)
@pytest.mark.parametrize(
    "loop",
    [
        APART,
        InnerLoop(steps=3, restart_when=AfterTwo(), sync="restart"),
        InnerLoop(steps=2, accumulate_grad_batches=2, sync="restart"),
        InnerLoop(steps=2, batches="same", sync="restart"),
    ],
    ids=["successive", "restart_when", "accumulated", "same"],
)
def test_a_batch_skipped_on_one_rank_leaves_all_in_step(loop, skipped, make_trainer):
    module = fit(make_trainer, Skips(loop, skipped))
    assert module.spread == 0
    assert module.weights().isfinite().all()


def test_a_skipped_batch_counts_as_a_step_that_was_skipped(make_trainer):
    module = fit(make_trainer, Skips(APART, (6,)))
    torch.testing.assert_close(
        module.weights(), by_hand(APART, limits=(7, 6)), rtol=1e-9, atol=1e-12
    )


class Uneven(Apart):
    """Rank 0 gets seven batches, rank 1 as many as the test says."""

    def __init__(self, inner_loop: InnerLoop, limit: int) -> None:
        super().__init__(inner_loop)
        self.limit = limit

    def train_dataloader(self):
        mine = range(self.global_rank, SAMPLES, RANKS)
        batches = self.limit if self.global_rank else 7
        return DataLoader(samples(), BATCH, sampler=mine[: BATCH * batches])


class OfUnknownLength(Uneven):
    def train_dataloader(self):
        loader = super().train_dataloader()

        class Stream(IterableDataset):
            def __iter__(self):
                return iter([loader.dataset[index] for index in loader.sampler])

        return DataLoader(Stream(), BATCH)


@pytest.mark.parametrize("loop", [InnerLoop(steps=3), APART], ids=["step", "restart"])
def test_uneven_numbers_of_batches_are_told_before_the_first(loop, make_trainer):
    class Untouched(Uneven):
        def training_step(self, batch, batch_idx):
            raise AssertionError("came too far")

    expected = (
        r"`train_dataloaders` must give every rank as many batches, got 4 to 7. Pass "
        r"Trainer\(limit_train_batches=4\)"
    )
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, Untouched(loop, 4))
    module = fit(make_trainer, Uneven(loop, 4), limit_train_batches=4)
    assert module.spread == 0


@pytest.mark.parametrize("loop", [InnerLoop(steps=3), APART], ids=["step", "restart"])
def test_loaders_of_unknown_length_train_where_they_are_even(loop, make_trainer):
    module = fit(make_trainer, OfUnknownLength(loop, 7))
    assert module.spread == 0
    if loop is APART:
        torch.testing.assert_close(module.weights(), by_hand(APART), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limit", [6, 3])
def test_windows_apart_tell_of_an_epoch_that_ends_sooner_on_one_rank(limit, make_trainer):
    expected = "`train_dataloaders` must give every rank as many batches, got an epoch that ended"
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, OfUnknownLength(APART, limit))


def test_with_a_restart_rule_they_tell_of_last_windows_of_different_lengths_too(make_trainer):
    loop = replace(APART, restart_when=GapFraction(1e-9))
    expected = "`train_dataloaders` must give every rank as many batches, got an epoch that ended"
    # With 4 the other rank would still ask for a restart where this one's window is over.
    for each, limit in ((loop, 5), (loop, 4), (replace(loop, batches="split"), 5)):
        with pytest.raises(Exception, match=expected):
            fit(make_trainer, OfUnknownLength(each, limit), ddp={"timeout": timedelta(seconds=10)})
    assert fit(make_trainer, OfUnknownLength(loop, 7)).spread == 0


def test_last_windows_of_different_lengths_are_none_of_it(make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.02), steps=4, momentum=0.5, sync="restart")
    module = fit(make_trainer, OfUnknownLength(loop, 5))
    torch.testing.assert_close(
        module.weights(), by_hand(loop, limits=(7, 5)), rtol=1e-9, atol=1e-12
    )


def test_a_short_last_batch_cut_into_fewer_chunks_on_one_rank_is_told(make_trainer):
    class Ragged(Apart):
        def train_dataloader(self):
            mine = range(self.global_rank, SAMPLES, RANKS)
            return DataLoader(samples(), BATCH, sampler=mine[: BATCH + 2 + self.global_rank])

    expected = "`train_dataloaders` must give every rank as many chunks, got 2 to 3"
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, Ragged(InnerLoop(steps=3, batches="split")))
    loop = InnerLoop(steps=3, batches="split", sync="restart")
    assert fit(make_trainer, Ragged(loop)).spread == 0
    with pytest.raises(Exception, match=expected):
        fit(make_trainer, Ragged(replace(loop, restart_when=GapFraction(1e-9))))


class Poisoned(Apart):
    """Rank 1 never has a finite gradient."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 else loss


def test_a_rank_without_slopes_leaves_the_radius_to_the_others(make_trainer):
    loop = InnerLoop(
        ball=L2Ball(radius=0.02),
        steps=3,
        radius_rule=SlopeRatio(),
        direction="displacement",
        sync="restart",
    )
    module = Poisoned(loop)
    module.register_buffer("radius", torch.zeros(()))
    module.on_restart = lambda record: module.radius.fill_(record.radius)
    fit(make_trainer, module)
    assert module.radius != pytest.approx(0.02, rel=1e-3)


def test_schedulers_and_stops_are_the_same_on_all_ranks(make_trainer):
    class Scheduled(Skips):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.trainer.should_stop = self.trainer.global_step >= 4

    module = fit(make_trainer, Scheduled(APART, (0, 4)))
    assert module.spread == 0


def test_a_fit_of_one_rank_beside_others_asks_none_of_them():
    assert on_ranks(fit_alone_on_rank_zero) == [[5, 5], []]


def fit_alone_on_rank_zero() -> list[int]:
    """Outer steps of each fit: fourteen batches in windows of three."""
    torch.distributed.init_process_group("gloo")
    steps = []
    if torch.distributed.get_rank() == 0:
        for loop in (InnerLoop(steps=3), APART):
            trainer = L.Trainer(
                accelerator="cpu",
                devices=1,
                strategy=L.pytorch.strategies.SingleDeviceStrategy(device="cpu"),
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(Alone(loop))
            steps.append(trainer.global_step)
    torch.distributed.barrier()
    return steps


class Alone(Apart):
    """What :class:`Apart` counts needs other ranks."""

    def train_dataloader(self):
        self.double()
        return DataLoader(samples(), BATCH)

    def on_train_start(self) -> None:
        pass

    def on_restart(self, record) -> None:
        pass
