"""Weights in parts on two ranks (FSDP2) go the way of whole weights in one process."""

from __future__ import annotations

import math
import os
from typing import Any

import lightning as L
import pytest
import torch

from lightning_fw import (
    GapFraction,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    OpenLoop,
    ProductBall,
    RMSBall,
    RowBall,
    ShortStep,
    SpectralBall,
)
from lightning_fw.balls import Atoms, Ball
from lightning_fw.tensors import scalars as scalars_module
from lightning_fw.window import displacement as displacement_module
from tests.ranks import on_ranks
from tests.several_ranks.sharded_fits import (
    NEEDS_FSDP2_ON_CPUS,
    Sharded,
    Unheard,
    make_trainer,
    weights,
)

pytestmark = NEEDS_FSDP2_ON_CPUS

LOOPS = {
    "l2": InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.5),
    "l2 global": InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3),
    "rms": InnerLoop(ball=RMSBall(radius=0.05), steps=2, batches="same"),
    "l1": InnerLoop(ball=L1Ball(radius=0.05), steps=3),
    "l1 global": InnerLoop(ball=L1Ball(radius=0.05, scope="global"), steps=3),
    "linf": InnerLoop(ball=LinfBall(radius=0.01), steps=3, trajectory="cumulative"),
    "lp": InnerLoop(ball=LpBall(3.0, radius=0.05), steps=3, step_size=ShortStep(1.0)),
    "lp group": InnerLoop(
        ball=LpBall(3.0, radius=0.05, scope="group"), steps=3, restart_when=GapFraction(0.5)
    ),
    "spectral": InnerLoop.spectral(),
    "row": InnerLoop(ball=RowBall(radius=0.05), steps=3, momentum=0.5),
    "nuclear": InnerLoop(
        ball=NuclearBall(radius=0.05), steps=2, step_size=OpenLoop(), accumulate_grad_batches=2
    ),
    "product": InnerLoop(
        ball=ProductBall({"*bias*": LinfBall(radius=0.01), "*": SpectralBall(radius=0.02)}),
        steps=3,
    ),
}


def fits(loops: dict[str, InnerLoop], **settings: Any) -> dict[str, Any]:
    results = {}
    for name, loop in loops.items():
        module = Sharded(loop)
        make_trainer(**settings).fit(module)
        results[name] = (weights(module), module.records)
    return results


@pytest.fixture(scope="module")
def in_parts() -> dict[str, Any]:
    first, second = on_ranks(fits, LOOPS)
    for name in LOOPS:
        assert torch.equal(first[name][0], second[name][0])
    return first


@pytest.mark.parametrize("name", LOOPS)
def test_every_ball_goes_the_same_way(name, in_parts):
    whole_weights, whole_records = fits({name: LOOPS[name]})[name]
    part_weights, part_records = in_parts[name]
    torch.testing.assert_close(part_weights, whole_weights, rtol=1e-8, atol=1e-9)
    assert len(part_records) == len(whole_records) >= 4
    for part, whole in zip(part_records, whole_records, strict=True):
        for key in ("steps", "radius", "gap_first", "gap_last", "ball_usage", "cosine"):
            assert part[key] == pytest.approx(whole[key], rel=1e-6, nan_ok=True), key
        assert not math.isnan(part["cosine"])


class Own(Ball):
    """The l2 ball as a user writes it, by torch's own norms."""

    def atoms(self, gradients, infos=None, norms=None):
        lengths = [g.norm().clamp_min(torch.finfo(g.dtype).tiny) for g in gradients]
        return Atoms(list(gradients), [-1 / length for length in lengths])

    def block_norms(self, tensors, infos=None):
        return torch.stack([t.norm() for t in tensors])

    block_dual_norms = block_norms


def fits_as_on_a_device(loops: dict[str, InnerLoop]) -> dict[str, Any]:
    for module in (scalars_module, displacement_module):
        module.on_host = lambda device: False  # in the rank's own process
    return fits(loops)


@pytest.mark.parametrize("fit", [fits, fits_as_on_a_device])
def test_a_ball_of_the_users_own_goes_the_same_way(fit):
    loop = {"own": InnerLoop(ball=Own(radius=0.05), steps=3, step_size=ShortStep(1.0))}
    (part_weights, parts), _ = (found["own"] for found in on_ranks(fit, loop))
    whole_weights, wholes = fits(loop)["own"]
    torch.testing.assert_close(part_weights, whole_weights, rtol=1e-8, atol=1e-9)
    for part, whole in zip(parts, wholes, strict=True):
        for key in ("gap_first", "gap_last", "ball_usage", "cosine"):
            assert part[key] == pytest.approx(whole[key], rel=1e-6, nan_ok=True), key


class LooksElsewhere(Sharded):
    """Makes forward passes that no backward pass follows: skipped batches and validation."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx in (1, 2) else loss

    def __init__(self, inner_loop):
        super().__init__(inner_loop)
        self.val_losses = []

    def validation_step(self, batch, batch_idx):
        self.val_losses.append(self.loss(batch).item())


def fit_looking_elsewhere() -> tuple[torch.Tensor, list[float]]:
    module = LooksElsewhere(InnerLoop(ball=L2Ball(radius=0.05), steps=3))
    make_trainer(limit_val_batches=2, val_check_interval=1, num_sanity_val_steps=1).fit(module)
    return weights(module), module.val_losses


def test_gathered_weights_are_not_used_again_once_the_window_has_moved():
    (in_parts, first), (_, second) = on_ranks(fit_looking_elsewhere)
    whole, expected = fit_looking_elsewhere()
    torch.testing.assert_close(in_parts, whole, rtol=1e-8, atol=1e-9)
    seen = [(mine + other) / 2 for mine, other in zip(first, second, strict=True)]
    assert seen == pytest.approx(expected)


class Hears(L.Callback):
    def __init__(self):
        self.cosines = []

    def on_restart(self, trainer, module, record):
        self.cosines.append(record.cosine)


def fit_heard_on_rank_zero() -> list[float]:
    hears = Hears()
    callbacks = [hears] if int(os.environ.get("RANK", 0)) == 0 else []
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3)
    make_trainer(callbacks=callbacks).fit(Unheard(loop))
    return hears.cosines


def test_a_callback_on_one_rank_hears_of_windows_that_all_work_on():
    first, second = on_ranks(fit_heard_on_rank_zero, limit=30.0)
    assert first == pytest.approx(fit_heard_on_rank_zero())
    assert len(first) >= 4
    assert second == []


class Thaws(Unheard):
    """Its plain bias is frozen in a window's first batch, and trained in the others."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.plain.requires_grad_(batch_idx > 0)


def fit_thawing(batches: int) -> float:
    module = Thaws(InnerLoop(ball=L2Ball(radius=0.05), steps=2))
    make_trainer(max_epochs=1, limit_train_batches=batches).fit(module)
    return module.plain.item()


def test_what_thaws_in_mid_window_stands_still_until_the_next():
    assert on_ranks(fit_thawing, 2) == [0, 0]
    assert 0 not in on_ranks(fit_thawing, 4)
