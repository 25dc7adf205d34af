"""Schedulers of a fit that resumes go on where they were, in mid-epoch and around validation."""

from __future__ import annotations

from typing import Any

import lightning.pytorch
import pytest
import torch
from torch.optim import lr_scheduler as torch_schedulers

from lightning_fw import InnerLoop
from tests.manual.scheduled_fits import asks_too_early, halved, halving, plateau, with_scheduler
from tests.manual.twins import Configure, Parts, batches, fit, rates_recorder, sgd, trainer, twins

resumes = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")


class SavesAt(lightning.pytorch.Callback):
    """Saves once, at the end of a batch or of the validation after it."""

    def __init__(
        self, path: Any, batch: int, hook: str = "on_train_batch_end", epoch: int = 1
    ) -> None:
        self.path, self.moment = path, (epoch, batch)
        setattr(self, hook, self._save)

    def _save(self, trainer: Any, *arguments: Any) -> None:
        if (trainer.current_epoch, trainer.fit_loop.batch_idx) == self.moment:
            trainer.save_checkpoint(self.path)


def rates_with_and_without_interruption(
    twin: type, configure: Configure, loop: InnerLoop, path: Any, *saved: Any, **settings: Any
) -> tuple[list[Any], list[Any]]:
    whole, resumed = rates_recorder(), rates_recorder()
    fit(twin(configure, loop), None, [whole, SavesAt(path, *saved)], **settings)
    trainer([resumed], **settings).fit(
        twin(configure, loop), batches(7), batches(2), ckpt_path=path, weights_only=True
    )
    return whole.after_batches(), resumed.after_batches()


@resumes
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("batch", [0, 2, 4, 5])
def test_a_fit_that_resumes_in_mid_epoch_goes_on_scheduling(batch, steps, tmp_path):
    def configure(module):
        optimizer = sgd(module)
        return [optimizer], [
            {"scheduler": halving(optimizer), "interval": "step", "frequency": 2},
            torch_schedulers.ExponentialLR(optimizer, 0.9),
        ]

    whole, resumed = rates_with_and_without_interruption(
        twins()[1], configure, InnerLoop(steps=steps), tmp_path / "c.ckpt", batch
    )
    assert len(resumed) == 21 - 7 - (batch + 1)
    assert resumed == whole[-len(resumed) :]


@resumes
@asks_too_early
@pytest.mark.parametrize(
    ("batch", "hook"),
    [
        (2, "on_train_batch_end"),
        (3, "on_train_batch_end"),
        (2, "on_validation_end"),
    ],
)
@pytest.mark.parametrize("monitor", ["at_batch", "at_validation"])
def test_a_fit_that_resumes_before_a_validation_is_as_automatics(batch, hook, monitor, tmp_path):
    configure = with_scheduler(plateau, interval="step", monitor=monitor, strict=False)
    saved = tmp_path / "c.ckpt", batch, hook
    automatic, mine = (
        rates_with_and_without_interruption(
            twin, configure, InnerLoop(steps=1), *saved, val_check_interval=3
        )
        for twin in twins()
    )
    assert mine == automatic
    assert len(set(mine[1])) > 1


@resumes
@asks_too_early
def test_a_fit_that_resumes_in_mid_validation_is_as_automatics(tmp_path):
    path = tmp_path / "c.ckpt"

    class Saves(Parts):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            if self.trainer.fit_loop.total_batch_idx == 9 and not path.exists():
                self.trainer.save_checkpoint(path)

    configure = with_scheduler(plateau, interval="step", monitor="at_validation", strict=False)
    found = []
    for twin in twins(Saves):
        found.append(
            rates_with_and_without_interruption(
                twin, configure, InnerLoop(steps=1), path, -1, val_check_interval=3
            )
        )
        path.unlink()
    automatic, mine = found
    assert mine == automatic
    assert mine[1] == mine[0][-len(mine[1]) :]


@resumes
def test_a_plateau_scheduler_of_epochs_resumes_as_automatics(tmp_path):
    configure = with_scheduler(plateau, monitor="at_batch")
    automatic, mine = (
        rates_with_and_without_interruption(
            twin, configure, InnerLoop(steps=1), tmp_path / "c.ckpt", 3, max_epochs=4
        )
        for twin in twins()
    )
    assert mine == automatic
    assert len(set(mine[1])) > 1


def test_a_loaded_module_that_is_fitted_anew_counts_from_the_start(tmp_path):
    configure = with_scheduler(interval="step", frequency=2)
    path, loop = tmp_path / "c.ckpt", InnerLoop(steps=1)
    fit(twins()[1](configure, loop), callbacks=[SavesAt(path, 0, epoch=0)])
    module = twins()[1].load_from_checkpoint(path, configure=configure, inner_loop=loop)
    recorder = rates_recorder()
    fit(module, batches(5), [recorder], max_epochs=2)
    assert recorder.after_batches() == halved(0, 1, 1, 2, 2, 2, 3, 3, 4, 4)


def test_scheduler_states_and_progress_are_saved_as_in_automatic(tmp_path):
    configure = with_scheduler(plateau, interval="step", monitor="at_batch", frequency=2)
    saved = []
    for twin in twins():
        fit(twin(configure), callbacks=[SavesAt(tmp_path / "c.ckpt", 4)])
        checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.scheduler_progress"]
        saved.append((checkpoint["lr_schedulers"], progress))
    assert saved[0] == saved[1]
    assert saved[0][1]["total"]["completed"] == 5


@resumes
def test_scheduler_states_come_back(tmp_path):
    configure = with_scheduler(interval="step")
    path = tmp_path / "c.ckpt"
    fit(twins()[1](configure, InnerLoop(steps=3)), callbacks=[SavesAt(path, 4)])

    class Reads(Parts):
        def on_train_start(self):
            self.found = self.lr_schedulers().last_epoch

    module = twins(Reads)[1](configure, InnerLoop(steps=3))
    trainer().fit(module, batches(7), batches(2), ckpt_path=path, weights_only=True)
    assert module.found == 4  # three restarts in the first epoch, one in the second
