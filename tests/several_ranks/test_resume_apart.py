"""Checkpoints of windows apart: every rank goes on with its own, and other numbers of ranks can."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.optim import SGD

from lightning_fw import InnerLoop, L2Ball, SlopeRatio
from lightning_fw.manual.states_of_ranks import to_go_on_with
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window
from tests.manual.interrupted import Batches, Module, SaveAfter
from tests.ranks import on_ranks

LOOP = InnerLoop(
    ball=L2Ball(radius=0.05),
    steps=3,
    momentum=0.9,
    radius_rule=SlopeRatio(),
    direction="displacement",
    sync="restart",
)


class Own(Batches):
    """Every rank has samples of its own."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.batches = [(x.double() + rank, y.double()) for x, y in self.batches]


def outer(parameters: Any) -> SGD:
    return SGD(parameters, lr=1.0, momentum=0.5, nesterov=True)


def fit(
    *callbacks: L.Callback, ckpt_path: Path | None = None, saved_at_the_end: Path | None = None
) -> tuple[torch.Tensor, int]:
    warnings.simplefilter("ignore")
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = Module(LOOP, outer).double()
    trainer.fit(module, Own(trainer.global_rank), ckpt_path=ckpt_path)
    if saved_at_the_end is not None:
        trainer.save_checkpoint(saved_at_the_end)
    return module.weights(), trainer.global_step


def interrupted_and_not(folder: Path, saved_after: list[int]) -> list[Any]:
    straight = fit(SaveAfter(folder, saved_after), saved_at_the_end=folder / "end.ckpt")
    return [straight, *(fit(ckpt_path=folder / f"{count}.ckpt") for count in saved_after)]


POSITIONS = [3, 4, 5, 7, 8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("apart")


@pytest.fixture(scope="module")
def on_two_ranks(folder) -> list[Any]:
    return on_ranks(interrupted_and_not, folder, POSITIONS)


@pytest.mark.parametrize("position", range(len(POSITIONS)), ids=lambda i: f"after {POSITIONS[i]}")
def test_every_rank_goes_on_with_its_own_window(position, on_two_ranks):
    for fits in on_two_ranks:
        straight, steps = fits[0]
        resumed, resumed_steps = fits[1 + position]
        assert torch.equal(resumed, straight)
        assert resumed_steps == steps == 6


def test_a_file_written_after_the_fit_holds_every_window_too(folder, on_two_ranks):
    windows = torch.load(folder / "end.ckpt", weights_only=True)["frank_wolfe"]["windows"]
    assert len(windows) == 2
    assert not torch.equal(windows[0]["momentum"][0], windows[1]["momentum"][0])


@pytest.mark.parametrize(("ranks", "position", "total"), [(1, 5, 6), (3, 5, 6), (1, 4, 5)])
def test_another_number_of_ranks_can_go_on(ranks, position, total, folder, on_two_ranks):
    """After batch 4 a window has two steps, which go on with none of the other ranks."""
    fits = on_ranks(resumed_from, folder / f"{position}.ckpt", ranks=ranks)
    for weights, steps in fits:
        assert torch.equal(weights, fits[0][0])
        assert weights.isfinite().all()
        assert steps == total


def resumed_from(path: Path) -> tuple[torch.Tensor, int]:
    return fit(ckpt_path=path)


def test_momentum_is_the_mean_of_all_ranks_for_another_number_of_them(folder, on_two_ranks):
    saved = torch.load(folder / "5.ckpt", weights_only=True)["frank_wolfe"]["windows"]
    first, second = (window["momentum"] for window in saved)
    assert not torch.equal(first[0], second[0])
    (told,) = on_ranks(momentum_after_resume, folder / "5.ckpt", ranks=1)
    for mine, a, b in zip(told, first, second, strict=True):
        torch.testing.assert_close(mine, (a + b) / 2)


def test_a_rank_without_a_momentum_counts_for_nothing_in_the_mean():
    none, first, second = (
        {"momentum": m, "whitening": {"covariances": []}}
        for m in (None, [torch.tensor(2.0)], [torch.tensor(4.0)])
    )
    states = [none, first, second]
    assert to_go_on_with(none, states, 0, 2)[0]["momentum"] == [3.0]
    assert to_go_on_with(none, [none, none], 0, 1)[0]["momentum"] is None


def test_covariances_are_the_mean_of_all_ranks_as_the_momentum_is():
    loop = replace(InnerLoop.spectral(), sync="restart")
    states = []
    for scale in (1.0, 3.0):
        weight = torch.nn.Parameter(torch.zeros(4, 2))
        window = Window(loop, [weight], [ParameterInfo("weight_ih")])
        weight.grad = scale * torch.arange(8.0).reshape(4, 2)
        window.step()
        states.append(window.state_dict())
    new, _ = to_go_on_with(states[0], states, 0, 3)
    window.load_state_dict(new)
    (mean,) = window.state_dict()["whitening"]["covariances"]
    (first,) = states[0]["whitening"]["covariances"]
    torch.testing.assert_close(mean, 5 * first)


def test_what_was_held_for_a_step_does_not_go_on_with_another_number_of_ranks():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    window = Window(replace(LOOP, accumulate_grad_batches=2), parameters)
    parameters[0].grad = torch.ones(2)
    window.accumulate(torch.tensor(1.0))
    states = [window.state_dict()] * 2
    assert to_go_on_with(states[0], states, 1, 2) == (states[1], True)
    new, goes_on = to_go_on_with(states[0], states, 0, 3)
    assert not goes_on
    window.load_state_dict(new)
    assert window.holds == 0


def momentum_after_resume(path: Path) -> list[torch.Tensor]:
    told = []

    class Look(L.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            if not told:
                told.extend(module._frank_wolfe_driver.window.state_dict()["momentum"])

    fit(Look(), ckpt_path=path)
    return told
