"""Flags, schedulers and callbacks drawn at random go together as under automatic optimization."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch.optim import lr_scheduler

from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, MemoryLogger, Plain

# Lightning's advice on settings that nobody would choose together.
pytestmark = pytest.mark.filterwarnings("ignore")

FLAGS = st.fixed_dictionaries(
    {
        "max_epochs": st.integers(1, 3),
        "num_sanity_val_steps": st.integers(0, 1),
        "log_every_n_steps": st.integers(1, 4),
    },
    optional={
        "max_steps": st.integers(2, 12),
        "min_epochs": st.just(2),
        "min_steps": st.just(9),
        "limit_train_batches": st.sampled_from([3, 0.6]),
        "limit_val_batches": st.integers(0, 1),
        "val_check_interval": st.sampled_from([0.34, 0.5, 2]),
        "check_val_every_n_epoch": st.just(2),
        "precision": st.just("64-true"),
        "reload_dataloaders_every_n_epochs": st.just(1),
        "overfit_batches": st.just(2),
    },
)

SCHEDULERS = {
    "step": partial(lr_scheduler.StepLR, step_size=2, gamma=0.7),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.9),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=9),
    "plateau": partial(lr_scheduler.ReduceLROnPlateau, patience=0),
}
SCHEDULED = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(SCHEDULERS)),
        "interval": st.sampled_from(["step", "epoch"]),
        "frequency": st.integers(1, 3),
        "monitor": st.sampled_from(["train_loss", "val_loss"]),
    }
)

SAVING = {
    "steps": partial(ModelCheckpoint, every_n_train_steps=2, save_top_k=-1),
    "epochs": partial(ModelCheckpoint, every_n_epochs=1, save_top_k=-1),
    "best": partial(ModelCheckpoint, monitor="train_loss", save_top_k=2),
    "last": partial(ModelCheckpoint, save_last=True),
}
BESIDE = {
    "early": partial(EarlyStopping, "train_loss", patience=1, check_on_train_epoch_end=True),
    "rates": LearningRateMonitor,
    "swa": partial(StochasticWeightAveraging, swa_lrs=0.01, swa_epoch_start=1),
    "ema": partial(EMAWeightAveraging, decay=0.9),
}
AVERAGES = {"swa", "ema"}
CALLBACKS = st.tuples(
    st.none() | st.sampled_from(sorted(SAVING)),
    st.sets(st.sampled_from(sorted(BESIDE))).filter(lambda names: not names >= AVERAGES),
)


class Notes(L.Callback):
    """What Lightning tells at each hook."""

    def __init__(self) -> None:
        self.told: list[Any] = []


def _note(name: str) -> Any:
    def hook(self: Notes, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
        place = (trainer.global_step, trainer.current_epoch, trainer.fit_loop.total_batch_idx)
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        logged = dict(trainer.callback_metrics) if name.endswith("_end") else {}
        self.told.append((name, place, rates, {k: float(v) for k, v in logged.items()}))

    return hook


for _name in (
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad"),
    *("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_validation_start", "on_validation_end", "on_train_epoch_end", "on_train_end"),
):
    setattr(Notes, _name, _note(_name))


def scheduled(module: type, settings: dict[str, Any] | None) -> Any:
    class Scheduled(module):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.5)
            if settings is None:
                return optimizer
            others = {name: settings[name] for name in ("interval", "frequency", "monitor")}
            scheduler = SCHEDULERS[settings["kind"]](optimizer)
            return [optimizer], [{"scheduler": scheduler, "strict": False, **others}]

    return Scheduled


def fit(net: Any, flags: dict[str, Any], callbacks: Any, folder: Any) -> dict[str, Any]:
    saving, beside = callbacks
    notes, logger = Notes(), MemoryLogger()
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=logger,
        enable_checkpointing=saving is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            notes,
            *([SAVING[saving](folder)] if saving else []),
            *(BESIDE[name]() for name in sorted(beside)),
        ],
        **flags,
    )
    trainer.fit(net)
    files = {path.name: torch.load(path, weights_only=False) for path in folder.glob("*.ckpt")}
    return {
        "hooks": notes.told,
        "rows": [(step, own(row)) for step, row in logger.rows],
        "end": (trainer.global_step, trainer.current_epoch, trainer.should_stop),
        "files": {
            name: (file["epoch"], file["global_step"], file["lr_schedulers"])
            for name, file in files.items()
        },
        "weights": net.weights().tolist(),
    }


def own(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith("fw/")}


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers to the rounding of a norm that is taken in another order."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in found)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    return bool(found == expected)


@pytest.mark.parametrize(
    "examples", [pytest.param(20, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]
)
def test_everything_is_told_as_under_automatic_optimization(examples, tmp_path_factory):
    # To shrink what fails takes minutes.
    @settings(max_examples=examples, phases=[Phase.reuse, Phase.generate])
    @given(flags=FLAGS, schedule=st.none() | SCHEDULED, callbacks=CALLBACKS)
    def is_as_expected(flags, schedule, callbacks):
        found, expected = (
            fit(net, flags, callbacks, tmp_path_factory.mktemp("fit"))
            for net in (scheduled(ByFrankWolfe, schedule)(ONE_STEP), scheduled(Plain, schedule)())
        )
        for name, value in expected.items():
            assert close(found[name], value), name

    is_as_expected()
