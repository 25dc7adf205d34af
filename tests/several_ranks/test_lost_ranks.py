"""A rank that is killed in mid-window: the others say so, and leave what can be gone on from."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import DistNetworkError

from lightning_fw import InnerLoop, L2Ball
from lightning_fw.manual.lost_ranks import lost_ranks_told
from tests.manual.interrupted import Module
from tests.mixin.conftest import make_loader
from tests.ranks import on_ranks
from tests.several_ranks.sharded_fits import NEEDS_FSDP2_ON_CPUS, Sharded
from tests.several_ranks.sharded_fits import make_trainer as make_sharded_trainer

STEP = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.5)
APART = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.5, sync="restart")


def _die(module: L.LightningModule, batch_idx: int) -> None:
    if module.global_rank == 1 and batch_idx == 4:
        os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        _die(self, batch_idx)
        return super().training_step(batch, batch_idx)


class MortalInParts(Sharded):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        _die(self, batch_idx)
        return super().training_step(batch, batch_idx)


def train(folder: Path, loop: InnerLoop, *, mortal: bool, resume: bool = False) -> Any:
    warnings.simplefilter("ignore")
    ranks = int(os.environ["WORLD_SIZE"])
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=DDPStrategy() if ranks > 1 else "auto",
        max_epochs=2,
        # It removes its file after a fit that succeeds.
        callbacks=[OnExceptionCheckpoint(folder, filename="left")] if mortal else [],
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = (Mortal if mortal else Module)(loop)
    trainer.fit(module, make_loader(28, 4), ckpt_path=folder / "left.ckpt" if resume else None)
    return module.weights(), trainer.global_step, [record.steps for record in module.records]


def train_in_parts() -> None:
    make_sharded_trainer().fit(MortalInParts(STEP))


GONE = "Another rank is gone or does not answer"


@pytest.mark.parametrize("loop", [STEP, APART], ids=["step", "restart"])
def test_the_others_end_and_leave_a_checkpoint_for_any_number_of_ranks(loop, tmp_path):
    with pytest.raises(AssertionError, match=f"(?s)RuntimeError: {GONE}.*1, status -9"):
        on_ranks(_train_to_death, tmp_path, loop)
    for ranks in (1, 3):
        ends = on_ranks(_go_on, tmp_path, loop, ranks=ranks)
        for weights, steps, steps_of_windows in ends:
            assert max(steps_of_windows) <= 3
            assert torch.equal(weights, ends[0][0])
            assert weights.isfinite().all()
            assert steps == 6


def _train_to_death(folder: Path, loop: InnerLoop) -> None:
    train(folder, loop, mortal=True)


def _go_on(folder: Path, loop: InnerLoop) -> Any:
    return train(folder, loop, mortal=False, resume=True)


@NEEDS_FSDP2_ON_CPUS
def test_so_they_do_with_weights_in_parts():
    with pytest.raises(AssertionError, match=f"(?s)RuntimeError: {GONE}.*1, status -9"):
        on_ranks(train_in_parts)


class Own(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise RuntimeError("the user's own")


def test_an_error_of_the_users_stays_what_it_is(make_trainer):
    def fit(**settings: Any) -> None:
        with pytest.raises(RuntimeError, match="^the user's own$"):
            make_trainer(**settings).fit(Own(STEP), make_loader(28, 4))

    fit()
    on_ranks(lambda: fit(strategy=DDPStrategy(), devices=1), ranks=1)


ERRORS_OF_MESSAGES = [
    DistNetworkError("the server's socket has timed out\nException raised from recv"),
    RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed"),
    RuntimeError("Application timeout caused pair closure"),
]


def _told(errors: list[RuntimeError]) -> list[str]:
    torch.distributed.init_process_group("gloo")
    told = []
    for error in errors:
        with pytest.raises(RuntimeError) as caught, lost_ranks_told():
            raise error
        assert caught.value.__cause__ is error
        told.append(str(caught.value))
    return told


def test_errors_of_every_backend_are_told_in_one_line():
    (told,) = on_ranks(_told, ERRORS_OF_MESSAGES, ranks=1)
    for text, error in zip(told, ERRORS_OF_MESSAGES, strict=True):
        assert text.startswith(GONE)
        assert text.endswith(f"({str(error).splitlines()[0]})")


def test_what_happens_without_other_ranks_is_no_message_of_theirs():
    with pytest.raises(RuntimeError, match="^no such file: /data/gloo/x$"), lost_ranks_told():
        raise RuntimeError("no such file: /data/gloo/x")
