"""lightning.pytorch and pytorch_lightning: the same fit from each, and what happens in between."""

from __future__ import annotations

import importlib

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

import lightning_fw
import lightning_fw.pytorch_lightning
from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from tests.mixin.conftest import make_loader

NAMESPACES = [lightning.pytorch, pytorch_lightning]
MONITORS = {
    lightning.pytorch: lightning_fw.FWRestartMonitor,
    pytorch_lightning: lightning_fw.pytorch_lightning.FWRestartMonitor,
}
both = pytest.mark.parametrize(
    "namespace", NAMESPACES, ids=["lightning.pytorch", "pytorch_lightning"]
)


class Parts:
    """What a user writes: a module with schedulers, logs and validation."""

    def __init__(self, monitor="validation"):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(2, 4, batch_first=True)
        self.head = nn.Linear(4, 1)
        self.monitor = monitor
        self.rates = []

    def loss(self, batch):
        return nn.functional.mse_loss(self.head(self.rnn(batch[0])[0][:, -1]), batch[1])

    def training_step(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = self.loss(batch)
        self.log("training", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("validation", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.9)
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, threshold=10.0, patience=1)
        return [optimizer], [
            {"scheduler": StepLR(optimizer, 2, 0.9), "interval": "step"},
            {"scheduler": plateau, "monitor": self.monitor},
        ]

    def weights(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


def make_module(namespace, monitor="validation"):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.5)
    own = {"configure_frank_wolfe": lambda self: loop}
    return type("Own", (FrankWolfeMixin, Parts, namespace.LightningModule), own)(monitor)


def make_trainer(namespace, folder, *callbacks, **settings):
    return namespace.Trainer(
        **{
            "accelerator": "cpu",
            "default_root_dir": folder,
            "max_epochs": 3,
            "logger": False,
            "callbacks": list(callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": bool(callbacks),
            **settings,
        }
    )


def fit(namespace, folder, ckpt_path=None, monitor=None, **settings):
    module = make_module(namespace)
    saves = namespace.callbacks.ModelCheckpoint(
        dirpath=folder, every_n_train_steps=2, save_top_k=-1, filename="{step}"
    )
    monitor = monitor or MONITORS[namespace](table=False)
    trainer = make_trainer(namespace, folder, saves, monitor, **settings)
    trainer.fit(module, make_loader(), make_loader(), ckpt_path=ckpt_path)
    return module, trainer, monitor


def test_a_fit_is_the_same_from_each(tmp_path):
    runs = []
    for namespace in NAMESPACES:
        folder = tmp_path / namespace.__name__
        module, trainer, monitor = fit(namespace, folder)
        logged = {
            name: value.item()
            for name, value in trainer.callback_metrics.items()
            if "seconds" not in name and "ratio" not in name
        }
        files = sorted(path.name for path in folder.iterdir())
        restarts = [(record.steps, record.radius, record.loss_last) for record in monitor.records]
        runs.append((module.weights().tolist(), module.rates, logged, files, restarts))
    assert runs[0] == runs[1]
    _, rates, logged, files, restarts = runs[0]
    # Restarts after batches 2, 5 and 6; StepLR after every second, the plateau after two epochs.
    first, second = [1.0] * 6 + [0.9], [0.9] * 3 + [0.81] * 4
    third = [0.9**3 / 2] * 6 + [0.9**4 / 2]
    assert rates == pytest.approx(first + second + third)
    assert {"fw/restarts", "training_epoch", "validation"} <= set(logged)
    assert files == ["step=2.ckpt", "step=4.ckpt", "step=6.ckpt", "step=8.ckpt"]
    assert len(restarts) == 9


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("resumed_by", NAMESPACES, ids=lambda n: f"by {n.__name__}")
@pytest.mark.parametrize("saved_by", NAMESPACES, ids=lambda n: f"saved by {n.__name__}")
def test_a_fit_resumes_in_either(saved_by, resumed_by, tmp_path):
    straight, _, _ = fit(resumed_by, tmp_path / "straight")
    _, trainer, _ = fit(saved_by, tmp_path / "first", max_epochs=1)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    module, trainer, monitor = fit(resumed_by, tmp_path / "first", tmp_path / "epoch.ckpt")
    assert torch.equal(module.weights(), straight.weights())
    assert module.rates == straight.rates[7:]
    assert trainer.global_step == 9
    assert [record.restart for record in monitor.records] == list(range(9))


@both
def test_a_monitor_of_the_other_namespace_records_and_logs_as_its_own(namespace, tmp_path):
    (other,) = (monitor for name, monitor in MONITORS.items() if name is not namespace)
    _, own_trainer, own = fit(namespace, tmp_path / "own")
    _, trainer, foreign = fit(namespace, tmp_path / "foreign", monitor=other(table=False))
    assert not isinstance(foreign, namespace.Callback)
    assert [r.loss_last for r in foreign.records] == [r.loss_last for r in own.records]
    assert set(trainer.callback_metrics) == set(own_trainer.callback_metrics)
    assert foreign.summary()["fw/restarts"] == 9


@both
def test_a_module_of_the_other_namespace_is_refused_by_the_trainer(namespace, tmp_path):
    (other,) = (name for name in NAMESPACES if name is not namespace)
    module = make_module(other)
    with pytest.raises(TypeError, match="`model` must be a `LightningModule`"):
        make_trainer(namespace, tmp_path).fit(module, make_loader(), make_loader())
    assert module.rates == []


@both
def test_errors_of_lightnings_kind_are_of_the_trainers_namespace(namespace, tmp_path):
    exceptions = importlib.import_module(f"{namespace.__name__}.utilities.exceptions")
    with pytest.raises(
        exceptions.MisconfigurationException,
        match="`monitor` of ReduceLROnPlateau must be a logged metric, got 'missing'",
    ):
        make_trainer(namespace, tmp_path).fit(
            make_module(namespace, "missing"), make_loader(), make_loader()
        )


@both
def test_clipping_is_refused_in_each(namespace, tmp_path):
    with pytest.raises(ValueError, match="`gradient_clip_val` must be None with FrankWolfeMixin"):
        make_trainer(namespace, tmp_path, gradient_clip_val=1.0).fit(
            make_module(namespace), make_loader(), make_loader()
        )
