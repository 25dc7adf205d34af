"""The mixin as a class: order of bases, what it wraps, what it mixes into."""

from __future__ import annotations

import warnings

import lightning as L
import pytest
import pytorch_lightning
import torch
from torch import nn

from lightning_fw import FrankWolfeMixin, InnerLoop
from tests.mixin.conftest import Recurrent


@pytest.mark.parametrize("base", [L.LightningModule, pytorch_lightning.LightningModule])
def test_the_wrong_order_of_bases_is_refused_at_class_creation(base):
    with pytest.raises(
        TypeError,
        match=r"`FrankWolfeMixin` must stand first in the bases of Tagger, got "
        r"\(LightningModule, FrankWolfeMixin\). "
        r"Write class Tagger\(FrankWolfeMixin, LightningModule\).",
    ):
        type("Tagger", (base, FrankWolfeMixin), {})


def test_the_wrong_order_is_found_behind_a_users_base():
    class Base(L.LightningModule):
        pass

    with pytest.raises(TypeError, match=r"Write class Tagger\(FrankWolfeMixin, Base\)"):
        type("Tagger", (Base, FrankWolfeMixin), {})


def test_a_base_that_brings_the_mixin_is_to_stand_first():
    class Preset(FrankWolfeMixin):
        pass

    with pytest.raises(TypeError, match=r"Write class Tagger\(Preset, LightningModule\)\.$"):
        type("Tagger", (L.LightningModule, Preset), {})


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("configure_frankwolfe", "configure_frank_wolfe"),
        ("config_frank_wolfe", "configure_frank_wolfe"),
        ("split_batches", "split_batch"),
        ("on_restarts", "on_restart"),
    ],
)
def test_a_hook_that_is_misspelt_is_warned_of_at_class_creation(name, hook):
    found = f"`{name}` of Tagger is never called by FrankWolfeMixin. Did you mean `{hook}`"
    with pytest.warns(UserWarning, match=found) as told:
        type("Tagger", (FrankWolfeMixin, L.LightningModule), {name: lambda self: InnerLoop()})
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    "names",
    [
        ("configure_frank_wolfe", "configure_frank_wolf"),
        ("configure_frank_wolfe_by_hand",),
        ("on_start",),
    ],
)
def test_other_methods_may_have_a_name_like_the_hooks(names):
    methods = dict.fromkeys(names, lambda self: InnerLoop())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        type("Tagger", (FrankWolfeMixin, L.LightningModule), methods)
    assert told == []


def test_a_base_that_only_shares_lightnings_name_may_stand_in_front():
    class LightningModule:
        pass

    class Named(LightningModule, Recurrent):
        pass

    assert not Named().automatic_optimization


def test_it_mixes_into_a_finished_module(loader, make_trainer):
    class Finished(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class ByFrankWolfe(FrankWolfeMixin, Finished):
        pass

    trainer = make_trainer()
    trainer.fit(ByFrankWolfe(), loader)
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert trainer.global_step == 2
    plain = make_trainer()
    plain.fit(Finished(), loader)
    assert plain.global_step == 7


class LightningModule(L.LightningModule):
    """A project's base, by the name of Lightning's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()


def test_the_training_step_of_a_base_with_lightnings_name_trains(loader, make_trainer):
    class Named(FrankWolfeMixin, LightningModule):
        pass

    trainer = make_trainer()
    trainer.fit(Named(), loader)
    assert trainer.global_step == 2


def test_a_layer_may_have_the_name_of_what_drives_windows(loader, make_trainer):
    class Driven(Recurrent):
        def __init__(self):
            super().__init__()
            self._driver = nn.Linear(1, 1)

    trainer = make_trainer()
    trainer.fit(Driven(), loader)
    assert trainer.global_step == 3


def test_a_module_with_a_training_step_and_nothing_else_trains(loader, make_trainer):
    class Bare(FrankWolfeMixin, L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

    module, trainer = Bare(), make_trainer()
    before = module.layer.weight.detach().clone()
    trainer.fit(module, loader)
    assert isinstance(trainer.optimizers[0], torch.optim.Adam)
    assert not torch.equal(module.layer.weight, before)


def test_a_subclass_that_calls_super_enters_once(loader, make_trainer):
    class Sub(Recurrent):
        def training_step(self, batch, batch_idx):
            return 2 * super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            return super().configure_optimizers()

    module = Sub()
    make_trainer().fit(module, loader)
    assert len(module.seen) == 7


def test_training_step_may_leave_out_batch_idx(loader, make_trainer):
    class Short(Recurrent):
        def training_step(self, batch):
            return self(batch[0]).square().mean()

    module = Short()
    make_trainer().fit(module, loader)
    assert len(module.records) == 3


def test_outside_a_fit_training_step_is_the_users(loader):
    module = Recurrent()
    loss = module.training_step(next(iter(loader)), 0)
    loss.backward()
    assert module.head.weight.grad is not None


def test_it_runs_in_the_other_namespace(loader, tmp_path):
    class Net(FrankWolfeMixin, pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(), loader)
    assert trainer.global_step == 2


def test_automatic_optimization_cannot_be_switched_on():
    module = Recurrent()
    module.automatic_optimization = False
    assert module.automatic_optimization is False
    with pytest.raises(ValueError, match="`automatic_optimization` must be False .* got True"):
        module.automatic_optimization = True


def test_automatic_optimization_switched_on_past_the_mixin_is_refused_by_the_fit(
    loader, make_trainer
):
    class Hidden(Recurrent):
        automatic_optimization = False

    module = Hidden()
    module.automatic_optimization = True
    with pytest.raises(ValueError, match="`automatic_optimization` must be False .* got True"):
        make_trainer().fit(module, loader)


def test_a_second_fit_starts_with_a_fresh_window(loader, make_trainer):
    module = Recurrent()
    make_trainer().fit(module, loader)
    make_trainer().fit(module, loader)
    assert [record.restart for record in module.records] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("bases", [(FrankWolfeMixin, L.LightningModule), (Recurrent,)])
def test_automatic_optimization_cannot_be_declared(bases):
    with pytest.raises(ValueError, match="`automatic_optimization` must be False .* got True"):
        type("Declared", bases, {"automatic_optimization": True})
