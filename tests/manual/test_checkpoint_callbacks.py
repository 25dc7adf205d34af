"""ModelCheckpoint and its kin: the files that automatic optimization would leave, with anchors."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, OnExceptionCheckpoint
from torch.nn.utils import parameters_to_vector

from lightning_fw import FrankWolfeMixin
from tests.manual.callback_nets import ONE_STEP, THREE_STEPS, Anchors, ByFrankWolfe, Plain

EVERY_FILE = {"save_top_k": -1, "filename": "{step}"}


def fit(module, make_trainer, callback, **settings):
    """The trainer after a fit with the callback, and the anchors on the way."""
    anchors = Anchors()
    trainer = make_trainer(
        callbacks=[anchors, callback], enable_checkpointing=True, logger=False, **settings
    )
    trainer.fit(module)
    return trainer, anchors


def held(path):
    """The weights in a file."""
    return parameters_to_vector(torch.load(path, weights_only=True)["state_dict"].values())


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def window_steps(path):
    """Steps that the window in a file has taken."""
    saved = torch.load(path, weights_only=True)["frank_wolfe"]
    return saved["window"]["attempts"]


@pytest.mark.parametrize("every", [1, 2])
def test_every_n_train_steps_gives_a_file_every_n_restarts(every, make_trainer, tmp_path):
    callback = ModelCheckpoint(tmp_path / "c", every_n_train_steps=every, **EVERY_FILE)
    _, anchors = fit(ByFrankWolfe(), make_trainer, callback, max_epochs=2)
    saved = range(every, 7, every)
    assert names(tmp_path / "c") == [f"step={step}.ckpt" for step in saved]
    for step in saved:
        path = tmp_path / "c" / f"step={step}.ckpt"
        assert torch.equal(held(path), anchors.after_restart(step))
        assert window_steps(path) == 0


def test_a_module_with_what_lightning_looks_for_saves_its_anchor_all_the_same(
    make_trainer, tmp_path
):
    class Named(ByFrankWolfe):
        def __init__(self):
            super().__init__()
            self.layer = self.head
            self.saved_models = {0: {k: v + 1 for k, v in self.head.state_dict().items()}}

    callback = ModelCheckpoint(tmp_path / "c", every_n_train_steps=1, **EVERY_FILE)
    _, anchors = fit(Named(), make_trainer, callback)
    checkpoint = torch.load(tmp_path / "c" / "step=2.ckpt", weights_only=True)["state_dict"]
    weights = [w for name, w in checkpoint.items() if not name.startswith("layer")]
    assert torch.equal(parameters_to_vector(weights), anchors.after_restart(2))


def test_a_time_interval_of_zero_gives_a_file_a_restart(make_trainer, tmp_path):
    callback = ModelCheckpoint(tmp_path / "c", train_time_interval=timedelta(0), **EVERY_FILE)
    _, anchors = fit(ByFrankWolfe(), make_trainer, callback)
    assert names(tmp_path / "c") == [f"step={step}.ckpt" for step in (1, 2, 3)]
    for step in (1, 2, 3):
        assert torch.equal(held(tmp_path / "c" / f"step={step}.ckpt"), anchors.after_restart(step))


def test_a_time_interval_that_ends_in_mid_window_saves_the_anchor_and_the_window(
    make_trainer, tmp_path
):
    callback = ModelCheckpoint(tmp_path / "c", train_time_interval=timedelta(hours=1), **EVERY_FILE)

    class AnHourLater(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 4:
                callback._last_time_checked -= 3600

    _, anchors = fit(AnHourLater(), make_trainer, callback)
    path = tmp_path / "c" / "step=1.ckpt"
    assert names(tmp_path / "c") == ["step=1.ckpt"]
    assert window_steps(path) == 2
    assert torch.equal(held(path), anchors.after_restart(1))


MONITORS = [
    {"monitor": "train_loss", "every_n_train_steps": 1, "save_top_k": 2},
    {"monitor": "train_loss", "every_n_train_steps": 2, "save_top_k": -1},
    {"monitor": "train_loss", "save_on_train_epoch_end": True, "save_top_k": 1, "mode": "max"},
    {"monitor": "val_loss", "save_top_k": 1},
    {"monitor": "val_loss", "save_top_k": -1},
    {"monitor": "val_loss", "every_n_train_steps": 2, "save_top_k": 2, "save_last": True},
    {"every_n_train_steps": 3, "save_last": True},
    {"save_last": "link"},
    {"train_time_interval": timedelta(0), "monitor": "val_loss", "save_top_k": -1},
    {"every_n_epochs": 2, "save_top_k": -1, "save_last": True},
]


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (settings, flags)
        for settings in MONITORS
        for flags in ({}, {"val_check_interval": 3}, {"limit_val_batches": 0})
        if "limit_val_batches" not in flags or settings.get("monitor") != "val_loss"
    ],
)
def test_with_one_step_the_files_are_automatic_optimizations(
    settings, flags, make_trainer, tmp_path
):
    found = {}
    for module in (Plain(), ByFrankWolfe(ONE_STEP)):
        directory = tmp_path / type(module).__name__
        callback = ModelCheckpoint(directory, filename="{epoch}-{step}", **settings)
        fit(module, make_trainer, callback, max_epochs=3, **flags)
        found[type(module)] = directory, callback
    (right, plain), (mine, callback) = found[Plain], found[ByFrankWolfe]
    assert names(mine) == names(right)
    assert names(right)
    for name in names(right):
        torch.testing.assert_close(held(mine / name), held(right / name), rtol=1e-4, atol=1e-6)
    assert callback.best_model_path == plain.best_model_path.replace("Plain", "ByFrankWolfe")
    assert callback.last_model_path == plain.last_model_path.replace("Plain", "ByFrankWolfe")


@pytest.mark.parametrize("settings", MONITORS)
def test_with_more_steps_every_file_holds_an_anchor(settings, make_trainer, tmp_path):
    callback = ModelCheckpoint(tmp_path / "c", filename="{epoch}-{step}", **settings)
    _, anchors = fit(ByFrankWolfe(), make_trainer, callback, max_epochs=3, val_check_interval=2)
    assert names(tmp_path / "c")
    for path in (tmp_path / "c").iterdir():
        step = torch.load(path, weights_only=True)["global_step"]
        assert step > 0
        assert torch.equal(held(path), anchors.after_restart(step))


def test_a_validation_in_mid_window_may_save(make_trainer, tmp_path):
    callback = ModelCheckpoint(tmp_path / "c", monitor="val_loss", **EVERY_FILE)
    _, anchors = fit(ByFrankWolfe(), make_trainer, callback, val_check_interval=2)
    # Batches 2, 4, 6; before the first restart there is nothing new to save.
    assert names(tmp_path / "c") == ["step=1.ckpt", "step=2.ckpt"]
    assert window_steps(tmp_path / "c" / "step=1.ckpt") == 1
    assert window_steps(tmp_path / "c" / "step=2.ckpt") == 0
    for step in (1, 2):
        assert torch.equal(held(tmp_path / "c" / f"step={step}.ckpt"), anchors.after_restart(step))


def test_callbacks_of_ones_own_get_a_module_that_they_can_use(make_trainer, tmp_path):
    seen = []

    class Own(ModelCheckpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            pl_module.noted = batch_idx
            seen.append((pl_module.head.weight.shape, outputs["loss"].item()))
            assert torch.equal(pl_module(batch[0]), module(batch[0]))
            assert isinstance(pl_module, ByFrankWolfe)

    module = ByFrankWolfe()
    fit(module, make_trainer, Own(tmp_path / "c", every_n_train_steps=1))
    assert len(seen) == 7
    assert module.noted == 6
    assert len(names(tmp_path / "c")) == 1


def pickled(module):
    return pickle.loads(pickle.dumps(module))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_callbacks_of_ones_own_may_copy_the_module(copied, make_trainer, tmp_path):
    copies = []

    class Own(ModelCheckpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            copies.append(copied(pl_module))

    module = ByFrankWolfe()
    fit(module, make_trainer, Own(tmp_path / "c", every_n_train_steps=1))
    assert len(copies) == 7
    assert type(copies[0]) is ByFrankWolfe
    assert not torch.equal(copies[0].head.weight, module.head.weight)
    assert torch.equal(copies[-1].head.weight, module.head.weight)


def test_after_a_fit_the_callback_serves_a_plain_module_and_can_be_pickled(make_trainer, tmp_path):
    callback = ModelCheckpoint(tmp_path / "c", every_n_train_steps=2, **EVERY_FILE)
    fit(ByFrankWolfe(), make_trainer, callback)
    assert "on_train_batch_end" not in vars(callback)
    pickle.dumps(copy.deepcopy(callback))
    callback.dirpath = tmp_path / "plain"
    fit(Plain(), make_trainer, callback)
    # It does not save a step twice in a row, and the last one before was 2.
    assert names(tmp_path / "plain") == ["step=4.ckpt", "step=6.ckpt"]


def test_it_works_in_the_other_namespace(loader, tmp_path):
    class Net(FrankWolfeMixin, pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

    callbacks = [
        pytorch_lightning.callbacks.ModelCheckpoint(tmp_path / "n", every_n_train_steps=1),
        pytorch_lightning.callbacks.ModelCheckpoint(
            tmp_path / "t", train_time_interval=timedelta(0)
        ),
    ]
    pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Net(), loader)
    assert names(tmp_path / "n") == names(tmp_path / "t") == ["epoch=0-step=2.ckpt"]


# Lightning's own, about the file that this callback is yet to write.
@pytest.mark.filterwarnings("ignore:`.fit.ckpt_path=None.` was called without a model")
@pytest.mark.filterwarnings("ignore:.fit.ckpt_path=.last.. is set, but there is no last")
@pytest.mark.parametrize("at", [0, 1, 5])
def test_an_exception_leaves_a_file_with_the_anchor(at, make_trainer, tmp_path):
    class Failing(ByFrankWolfe):
        fails = True

        def loss(self, batch):
            if self.training and self.fails and self.trainer.fit_loop.batch_idx == at:
                assert at % 3 == 0 or not torch.equal(self.seen[-1], self.seen[at // 3 * 3])
                raise RuntimeError("lost connection")
            return super().loss(batch)

    module, anchors = Failing(), Anchors()
    callbacks = [anchors, OnExceptionCheckpoint(tmp_path, "failed")]
    with pytest.raises(RuntimeError, match="lost connection"):
        make_trainer(callbacks=callbacks, enable_checkpointing=True).fit(module)
    anchor = anchors.after_batches[-1][1] if at else ByFrankWolfe().weights()
    assert torch.equal(held(tmp_path / "failed.ckpt"), anchor)
    if at:
        assert window_steps(tmp_path / "failed.ckpt") == at % 3


def test_a_checkpoint_on_an_exception_of_model_checkpoint_holds_the_anchor(make_trainer, tmp_path):
    class Failing(ByFrankWolfe):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 5:
                raise RuntimeError("lost connection")
            return loss

    callback = ModelCheckpoint(tmp_path / "c", save_on_exception=True, every_n_train_steps=100)
    anchors = Anchors()
    with pytest.raises(RuntimeError, match="lost connection"):
        make_trainer(callbacks=[anchors, callback], enable_checkpointing=True).fit(Failing())
    (path,) = (tmp_path / "c").iterdir()
    assert torch.equal(held(path), anchors.after_restart(1))


@pytest.mark.parametrize("monitor", ["train_loss", "val_loss"])
@pytest.mark.parametrize("on_train_epoch_end", [True, False])
def test_early_stopping_stops_after_as_many_epochs(monitor, on_train_epoch_end, make_trainer):
    epochs = []
    for module in (Plain(lr=0.3), ByFrankWolfe(ONE_STEP, lr=0.3), ByFrankWolfe(lr=0.3)):
        stopping = EarlyStopping(
            monitor, patience=2, min_delta=1e-3, check_on_train_epoch_end=on_train_epoch_end
        )
        trainer = make_trainer(callbacks=[stopping], max_epochs=30)
        trainer.fit(module)
        assert 3 <= trainer.current_epoch < 30
        assert stopping.stopped_epoch == trainer.current_epoch - 1
        epochs.append(trainer.current_epoch)
    assert epochs[0] == epochs[1]


def test_early_stopping_in_mid_window_leaves_the_anchor(make_trainer):
    module, anchors = ByFrankWolfe(THREE_STEPS), Anchors()
    stopping = EarlyStopping("val_loss", stopping_threshold=1e6)
    make_trainer(callbacks=[anchors, stopping], val_check_interval=4).fit(module)
    assert len(module.seen) == 4
    assert torch.equal(module.weights(), anchors.after_restart(1))
