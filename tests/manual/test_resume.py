"""A fit that was interrupted and resumed ends bit for bit as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    WeightAveraging,
)
from torch.optim import SGD, Adam

from lightning_fw import InnerLoop, L2Ball, SlopeRatio, displacement, scalars, slopes
from lightning_fw.radius_rules import CosineDecay
from tests.manual.interrupted import (
    Batches,
    Module,
    SaveAfter,
    counts,
    monitor,
    told,
    weights_in,
)

ADAM = partial(Adam, lr=0.01)


def sgd_and_scheduler(parameters):
    optimizer = SGD(parameters, lr=1.0, momentum=0.5, nesterov=True)
    # Every second outer step of an epoch: these must count on.
    scheduler = {
        "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        "interval": "step",
        "frequency": 2,
    }
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


CASES = {
    "paper": (InnerLoop(steps=3), ADAM),
    "spectral": (InnerLoop.spectral(), sgd_and_scheduler),
    "cumulative": (
        InnerLoop(ball=L2Ball(radius=0.05), steps=3, trajectory="cumulative", momentum=0.5),
        ADAM,
    ),
    "scheduled radius": (
        InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=CosineDecay(total_steps=9)),
        sgd_and_scheduler,
    ),
    "accumulation": (
        InnerLoop(
            steps=2,
            momentum=0.9,
            radius_rule=SlopeRatio(),
            direction="displacement",
            accumulate_grad_batches=2,
        ),
        sgd_and_scheduler,
    ),
    "split": (
        InnerLoop(steps=2, batches="split", momentum=0.9, radius_rule=SlopeRatio()),
        ADAM,
    ),
    "same": (InnerLoop(steps=2, batches="same", momentum=0.9), sgd_and_scheduler),
}


def fit(make_trainer, case, *callbacks, ckpt_path=None, loader=None, **settings):
    """Fit a fresh module for two epochs of seven batches.

    Returns:
        The module, its trainer and the monitor.
    """
    watch, module = monitor(), Module(*CASES[case])
    trainer = make_trainer(**{"max_epochs": 2, "callbacks": [watch, *callbacks], **settings})
    trainer.fit(module, loader or Batches(), ckpt_path=ckpt_path)
    return module, trainer, watch


def assert_same_fit(resumed, straight):
    (mine, my_trainer, my_watch), (other, other_trainer, other_watch) = resumed, straight
    assert torch.equal(mine.weights(), other.weights())
    assert told(my_watch.records) == told(other_watch.records)
    assert counts(my_watch.summary()) == counts(other_watch.summary())
    assert my_trainer.global_step == other_trainer.global_step
    states = my_trainer.optimizers[0].state_dict(), other_trainer.optimizers[0].state_dict()
    assert repr(states[0]) == repr(states[1])


@pytest.mark.parametrize("case", CASES)
def test_a_fit_resumes_bit_for_bit_from_any_batch(case, make_trainer, tmp_path):
    # The seventh batch, 6, ends the first epoch.
    save = SaveAfter(tmp_path, [0, 1, 2, 4, 6, 9])
    straight = fit(make_trainer, case, save)
    for batch in save.batches:
        resumed = fit(make_trainer, case, ckpt_path=save.path(batch))
        assert_same_fit(resumed, straight)


def test_a_fit_resumes_bit_for_bit_from_the_end_of_an_epoch(make_trainer, tmp_path):
    straight = fit(make_trainer, "spectral")
    _, trainer, _ = fit(make_trainer, "spectral", max_epochs=1)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    resumed = fit(make_trainer, "spectral", ckpt_path=tmp_path / "epoch.ckpt")
    assert_same_fit(resumed, straight)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "accelerator's path"])
def test_skipped_steps_are_remembered(on_device, make_trainer, tmp_path, monkeypatch):
    if on_device:
        for module in (scalars, displacement, slopes):
            monkeypatch.setattr(module, "on_host", lambda device: False)

    def with_bad():
        loader = Batches()
        for index in (0, 4):
            x, y = loader.batches[index]
            loader.batches[index] = (x, y * float("nan"))
        return loader

    save = SaveAfter(tmp_path, [0, 1, 3, 4])
    straight = fit(make_trainer, "spectral", save, loader=with_bad())
    for batch in save.batches:
        path = save.path(batch)
        resumed = fit(make_trainer, "spectral", ckpt_path=path, loader=with_bad())
        assert_same_fit(resumed, straight)
    assert [record.skipped for record in straight[2].records] == [1, 1, 0] * 2


def test_a_fit_resumes_bit_for_bit_more_than_once(make_trainer, tmp_path):
    straight = fit(make_trainer, "accumulation")
    fit(make_trainer, "accumulation", SaveAfter(tmp_path, [2]))
    again = SaveAfter(tmp_path, [4, 9])
    fit(make_trainer, "accumulation", again, ckpt_path=tmp_path / "2.ckpt")
    for batch in again.batches:
        resumed = fit(make_trainer, "accumulation", ckpt_path=again.path(batch))
        assert_same_fit(resumed, straight)


def test_a_saved_fit_goes_on_as_one_that_was_not_saved(make_trainer, tmp_path):
    straight = fit(make_trainer, "accumulation")
    saved = fit(make_trainer, "accumulation", SaveAfter(tmp_path, range(14)))
    assert_same_fit(saved, straight)


def test_saving_before_the_first_batch_of_a_resumed_fit_keeps_the_window(make_trainer, tmp_path):
    class SaveTwice(L.Callback):
        def on_train_start(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "once.ckpt")
            trainer.save_checkpoint(tmp_path / "twice.ckpt")

    straight = fit(make_trainer, "spectral", SaveAfter(tmp_path, [4]))
    fit(make_trainer, "spectral", SaveTwice(), ckpt_path=tmp_path / "4.ckpt")
    saved = torch.load(tmp_path / "4.ckpt", weights_only=True)
    twice = torch.load(tmp_path / "twice.ckpt", weights_only=True)
    assert repr(twice["frank_wolfe"]) == repr(saved["frank_wolfe"])
    assert saved["frank_wolfe"]["window"]["displacement"]["k"] == 2
    resumed = fit(make_trainer, "spectral", ckpt_path=tmp_path / "twice.ckpt")
    assert_same_fit(resumed, straight)


def test_the_file_resumes_with_weights_only(make_trainer, tmp_path):
    straight = fit(make_trainer, "spectral", SaveAfter(tmp_path, [4]))
    watch, module = monitor(), Module(*CASES["spectral"])
    trainer = make_trainer(max_epochs=2, callbacks=[watch])
    trainer.fit(module, Batches(), ckpt_path=tmp_path / "4.ckpt", weights_only=True)
    assert_same_fit((module, trainer, watch), straight)


class Failing(Module):
    """Its training_step does something in mid-evaluation, at batch 4 of windows of three."""

    def __init__(self, act):
        super().__init__(*CASES["paper"])
        self.act = act

    def training_step(self, batch, batch_idx):
        if batch_idx == 4:
            self.displaced = self.weights()
            with self.frank_wolfe.at_anchor():
                self.anchor = self.weights()
            self.act()
        return super().training_step(batch, batch_idx)


def lose_connection():
    raise ConnectionError("lost connection")


class Keep(OnExceptionCheckpoint):
    """Lightning's removes its file when the trainer is torn down."""

    def teardown(self, *args, **kwargs):
        pass


# Lightning's word to everybody who fits under OnExceptionCheckpoint without a `ckpt_path`.
@pytest.mark.filterwarnings("ignore:.{0,2}fit.ckpt_path=")
def test_a_checkpoint_on_an_exception_holds_the_anchor_and_the_window(make_trainer, tmp_path):
    module = Failing(lose_connection)
    with pytest.raises(ConnectionError):
        make_trainer(callbacks=[Keep(tmp_path)], enable_checkpointing=True).fit(module, Batches())
    checkpoint = torch.load(tmp_path / "on_exception.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint), module.anchor)
    assert not torch.equal(module.displaced, module.anchor)
    assert checkpoint["frank_wolfe"]["window"]["displacement"]["k"] == 1
    # The batch that failed counts when it is evaluated.
    assert checkpoint["frank_wolfe"]["tally"]["batches"] == 1


@pytest.mark.parametrize("case", ["same", "split"])
def test_a_batch_that_was_cut_short_leaves_no_half_window(case, make_trainer, tmp_path):
    class CutShort(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if len(self.seen) == 6:  # the second of two evaluations of batch 2
                self.trainer.save_checkpoint(tmp_path / "mid.ckpt")
            return loss

    make_trainer().fit(CutShort(*CASES[case]), Batches())
    saved = torch.load(tmp_path / "mid.ckpt", weights_only=True)["frank_wolfe"]["window"]
    assert saved["displacement"]["k"] == 1
    module, trainer, _ = fit(make_trainer, case, ckpt_path=tmp_path / "mid.ckpt")
    # Four batches of the first epoch: the loader has handed out three.
    assert [record.steps for record in module.records] == [2] * 11
    assert [record.restart for record in module.records] == list(range(2, 13))
    assert trainer.global_step == 13


@pytest.mark.parametrize(
    ("averaging", "key"),
    [
        (None, "state_dict"),
        (partial(WeightAveraging), "current_model_state"),
        (partial(EMAWeightAveraging, decay=0.5), "current_model_state"),
    ],
    ids=["alone", "WeightAveraging", "EMAWeightAveraging"],
)
def test_a_checkpoint_from_within_training_step_holds_the_anchor(
    averaging, key, make_trainer, tmp_path
):
    class Averages(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if averaging and batch_idx == 3:
                model = callbacks[0]._average_model.module
                self.weights = model.weights()

    module = Failing(lambda: trainer.save_checkpoint(tmp_path / "mid.ckpt"))
    averages, straight = Averages(), Module(*CASES["paper"])
    callbacks = [averaging()] if averaging else []
    trainer = make_trainer(callbacks=[*callbacks, averages])
    trainer.fit(module, Batches())
    make_trainer(callbacks=[averaging()] if averaging else []).fit(straight, Batches())
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint, key), module.anchor)
    assert not torch.equal(module.displaced, module.anchor)
    if averaging:
        assert torch.equal(weights_in(checkpoint), averages.weights)
    # To be saved has not moved the fit.
    assert torch.equal(module.weights(), straight.weights())


CHILD = """
import os, signal, sys
import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.manual.interrupted import Batches, Module, monitor
from tests.manual.test_resume import CASES, last_and_only

class Killed(Module):
    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)

L.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
    enable_model_summary=False, callbacks=[monitor(), last_and_only(sys.argv[1])],
).fit(Killed(*CASES["spectral"]), Batches())
"""


def last_and_only(folder):
    return ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)


def test_a_killed_process_resumes_from_its_last_checkpoint(make_trainer, tmp_path):
    folder = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=110
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    straight = fit(make_trainer, "spectral")
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 10
    callback = last_and_only(folder)
    path = folder / "last.ckpt"
    resumed = fit(make_trainer, "spectral", callback, ckpt_path=path, enable_checkpointing=True)
    assert_same_fit(resumed, straight)
