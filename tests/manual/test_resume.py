"""A fit that was interrupted and resumed ends bit for bit as one that was not."""

from __future__ import annotations

import os
import signal

import lightning as L
import pytest
import torch

from lightning_fw.tensors import scalars
from lightning_fw.window import displacement
from tests.forked import run_forked
from tests.manual.interrupted import Batches, Module, SaveAfter, monitor
from tests.manual.resumable_fits import CASES, assert_same_fit, fit, last_and_only


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
        for module in (scalars, displacement):
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


def test_a_file_from_before_the_first_batch_starts_the_fit_anew(make_trainer, tmp_path):
    class SaveAtOnce(L.Callback):
        def on_train_start(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "start.ckpt")

    straight = fit(make_trainer, "spectral", SaveAtOnce())
    resumed = fit(make_trainer, "spectral", ckpt_path=tmp_path / "start.ckpt")
    assert_same_fit(resumed, straight)


def test_the_file_resumes_with_weights_only(make_trainer, tmp_path):
    straight = fit(make_trainer, "spectral", SaveAfter(tmp_path, [4]))
    watch, module = monitor(), Module(*CASES["spectral"])
    trainer = make_trainer(max_epochs=2, callbacks=[watch])
    trainer.fit(module, Batches(), ckpt_path=tmp_path / "4.ckpt", weights_only=True)
    assert_same_fit((module, trainer, watch), straight)


class Killed(Module):
    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


def test_a_killed_process_resumes_from_its_last_checkpoint(make_trainer, tmp_path):
    folder = tmp_path / "killed"

    def program():
        callbacks = [monitor(), last_and_only(folder)]
        trainer = make_trainer(max_epochs=2, callbacks=callbacks, enable_checkpointing=True)
        trainer.fit(Killed(*CASES["spectral"]), Batches())

    told = run_forked(program, tmp_path)
    assert told.startswith("exit code -9\n"), told
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    straight = fit(make_trainer, "spectral")
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 10
    callback = last_and_only(folder)
    path = folder / "last.ckpt"
    resumed = fit(make_trainer, "spectral", callback, ckpt_path=path, enable_checkpointing=True)
    assert_same_fit(resumed, straight)
