"""LightningCLI, which assigns ``configure_optimizers`` to the instance."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import CosineDecay, FrankWolfeMixin, InnerLoop
from tests.mixin.conftest import Recurrent, make_loader


class Line(FrankWolfeMixin, L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def configure_frank_wolfe(self) -> InnerLoop:
        return InnerLoop(steps=3)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()


class Lines(L.LightningDataModule):
    def train_dataloader(self):
        return make_loader()


# Lightning 2.6.6 calls what newer releases of jsonargparse deprecate.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scheduler_from_the_command_line_is_stepped(tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse", reason="needs the extra `cli`")
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    arguments = [
        *("fit", "--optimizer=SGD", "--optimizer.lr=0.1"),
        *("--lr_scheduler=ExponentialLR", "--lr_scheduler.gamma=0.5"),
        *("--trainer.max_epochs=2", "--trainer.logger=false", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        "--trainer.enable_checkpointing=false",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.warns(UserWarning, match="configure_optimizers.* will be overridden by"):
        cli = LightningCLI(Line, Lines, seed_everything_default=False)
    (group,) = cli.trainer.optimizers[0].param_groups
    assert cli.trainer.global_step == 6
    assert group["lr"] == pytest.approx(0.1 * 0.5**2)


SPECTRAL = InnerLoop.spectral()


class Set(Line):
    def __init__(self, inner_loop: InnerLoop = SPECTRAL) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.inner_loop = inner_loop

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("chosen", "rule"),
    [
        ([], SPECTRAL.radius_rule),
        (["--model.inner_loop.radius_rule.target=0.25"], None),
        (
            [
                "--model.inner_loop.radius_rule=lightning_fw.CosineDecay",
                "--model.inner_loop.radius_rule.total_steps=9",
            ],
            CosineDecay(total_steps=9),
        ),
    ],
    ids=["default", "changed", "schedule"],
)
def test_settings_are_written_so_that_they_can_be_read(chosen, rule, tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse", reason="needs the extra `cli`")
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    found = []
    for arguments in (
        ["fit", *quiet, "--trainer.default_root_dir=run", *chosen],
        ["fit", *quiet, "--config=run/config.yaml"],
        ["fit", *quiet, *chosen, "--trainer.max_epochs=2", "--ckpt_path=last.ckpt"],
    ):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        cli = LightningCLI(
            Set, Lines, seed_everything_default=False, save_config_kwargs={"overwrite": True}
        )
        cli.trainer.save_checkpoint("last.ckpt")
        found.append(cli.model.inner_loop)
    found.append(Set.load_from_checkpoint("last.ckpt").inner_loop)
    rule = rule or replace(SPECTRAL.radius_rule, target=0.25)
    assert found == [replace(SPECTRAL, radius_rule=rule)] * 4


@pytest.mark.filterwarnings("ignore")
def test_settings_that_its_hyperparameters_hold_as_fields_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse", reason="needs the extra `cli`")
    from lightning.pytorch.cli import LightningCLI

    class FromHyperparameters(Set):
        def configure_frank_wolfe(self) -> InnerLoop:
            return self.hparams.inner_loop

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--trainer.accelerator=cpu"])
    with pytest.raises(TypeError, match="keep the argument in an attribute"):
        LightningCLI(FromHyperparameters, Lines, seed_everything_default=False)


def assigned(configure):
    module = Recurrent()
    module.configure_optimizers = types.MethodType(configure, module)
    return module


def test_an_assigned_method_is_checked_as_one_of_the_class(loader, make_trainer):
    for make, error, message in (
        (lambda self: torch.optim.LBFGS(self.parameters()), TypeError, "got LBFGS"),
        (
            lambda self: [torch.optim.SGD([p], lr=0.1) for p in self.head.parameters()],
            ValueError,
            "must return one outer optimizer, got 2",
        ),
    ):
        with pytest.raises(error, match=message):
            make_trainer().fit(assigned(make), loader)


def test_an_assigned_method_sees_its_schedulers_stepped(loader, make_trainer):
    def configure(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    trainer = make_trainer()
    trainer.fit(assigned(configure), loader)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)
