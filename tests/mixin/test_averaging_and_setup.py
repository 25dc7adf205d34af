"""AnchorAveraging, whose setup comes before the module's."""

from __future__ import annotations

import lightning as L
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import ModelPruning
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from torch import nn
from torch.nn.utils import parameters_to_vector

import lightning_fw.pytorch_lightning
from lightning_fw import AnchorAveraging
from tests.manual.callback_nets import Anchors, ByFrankWolfe


class MadeInSetup(ByFrankWolfe):
    """Its head comes first among the parameters, and late."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = None, None

    def setup(self, stage):
        whole = ByFrankWolfe()
        self.head, self.rnn = whole.head, whole.rnn


class FilledInSetup(ByFrankWolfe):
    def setup(self, stage):
        with torch.no_grad():
            for weight in self.parameters():
                weight.fill_(0.1)


class StopsAtOnce(L.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = True


def whole_file(trainer, path):
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


def test_layers_that_the_module_makes_in_its_setup_are_averaged(make_trainer, tmp_path):
    module, anchors = MadeInSetup(), Anchors()
    trainer = make_trainer(callbacks=[anchors, AnchorAveraging(power=0.0)], max_epochs=2)
    trainer.fit(module)
    found = [anchors.after_restart(step) for step in range(1, trainer.global_step + 1)]
    torch.testing.assert_close(module.weights(), torch.stack(found).mean(0))
    saved = whole_file(trainer, tmp_path / "last.ckpt")
    assert torch.equal(parameters_to_vector(saved["state_dict"].values()), module.weights())


def test_an_average_of_layers_that_join_in_mid_fit_holds_no_window(make_trainer):
    class Grows(ByFrankWolfe):
        def on_train_epoch_start(self):
            self.late = nn.Linear(2, 2)

    averaging, module = AnchorAveraging(), Grows()
    make_trainer(callbacks=[averaging], max_epochs=2).fit(module)
    average = averaging._average_model.module
    assert "late.weight" in average.state_dict()
    assert average._frank_wolfe_driver is None


@pytest.mark.parametrize("cls", [MadeInSetup, ByFrankWolfe])
def test_the_average_lives_where_it_is_told_to(cls, make_trainer):
    averaging, module = AnchorAveraging(device="meta"), cls()
    trainer = make_trainer(callbacks=[averaging])
    averaging.setup(trainer, module, "fit")
    module.setup("fit")
    averaging.on_fit_start(trainer, module)
    assert {p.device.type for p in averaging._average_model.module.parameters()} == {"meta"}


def test_the_average_lives_where_the_module_will(make_trainer):
    averaging, module = AnchorAveraging(), ByFrankWolfe()
    strategy = SingleDeviceStrategy(torch.device("meta"))
    averaging.setup(make_trainer(strategy=strategy, callbacks=[averaging]), module, "fit")
    assert {p.device.type for p in averaging._average_model.module.parameters()} == {"meta"}


class Normalizes(ByFrankWolfe):
    def __init__(self):
        super().__init__(batch_norm=True)


class NormalizesFromSetupOn(Normalizes):
    def __init__(self):
        super().__init__()
        self.norm = None

    def setup(self, stage):
        self.norm = Normalizes().norm


@pytest.mark.parametrize("use_buffers", [True, False])
def test_late_layers_are_averaged_as_those_there_before(use_buffers, make_trainer):
    latest, early, late = Normalizes(), Normalizes(), NormalizesFromSetupOn()
    make_trainer(max_epochs=2).fit(latest)
    for module in (early, late):
        averaging = AnchorAveraging(power=2.0, use_buffers=use_buffers)
        make_trainer(callbacks=[averaging], max_epochs=2).fit(module)
    assert torch.equal(early.norm.running_mean, latest.norm.running_mean) != use_buffers
    for name, expected in early.state_dict().items():
        assert torch.equal(late.state_dict()[name], expected)


# Lightning restores weights before it makes them double.
@pytest.mark.parametrize(("precision", "digits"), [("32-true", 0.0), ("64-true", 1e-6)])
def test_such_a_fit_resumes_its_average(precision, digits, make_trainer, tmp_path):
    def fit(epochs, path=None):
        module = MadeInSetup()
        trainer = make_trainer(
            callbacks=[AnchorAveraging()], max_epochs=epochs, precision=precision
        )
        trainer.fit(module, ckpt_path=path)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return module.weights()

    straight = fit(2)
    fit(1)
    torch.testing.assert_close(fit(2, tmp_path / "1.ckpt"), straight, rtol=0.0, atol=digits)


class Grows(ByFrankWolfe):
    """Gets a layer in front of its head, in the second of its epochs."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.head = nn.Sequential(nn.Linear(4, 4), self.head)
            self.optimizers().add_param_group({"params": self.head[0].parameters()})


def test_an_average_begins_anew_where_a_fit_adds_layers(make_trainer, tmp_path):
    module, anchors = Grows(), Anchors()
    trainer = make_trainer(callbacks=[anchors, AnchorAveraging(power=0.0)], max_epochs=2)
    trainer.fit(module)
    assert trainer.global_step == 6
    found = [anchors.after_restart(step) for step in (4, 5, 6)]
    torch.testing.assert_close(module.weights(), torch.stack(found).mean(0))
    saved = whole_file(trainer, tmp_path / "last.ckpt")
    assert torch.equal(parameters_to_vector(saved["state_dict"].values()), module.weights())


class Widens(ByFrankWolfe):
    """Its head gets more units, under the same names, in the second of its epochs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.head = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 1))
            self.optimizers().add_param_group({"params": self.head.parameters()})


def test_an_average_begins_anew_where_layers_get_another_shape(make_trainer):
    module, anchors = Widens(), Anchors()
    trainer = make_trainer(callbacks=[anchors, AnchorAveraging(power=0.0)], max_epochs=2)
    trainer.fit(module)
    found = [anchors.after_restart(step) for step in (4, 5, 6)]
    torch.testing.assert_close(module.weights(), torch.stack(found).mean(0))


class HalfFrozen(ByFrankWolfe):
    def __init__(self):
        super().__init__()
        halves = torch.ones(2, dtype=torch.bfloat16)
        self.table = nn.Parameter(halves, requires_grad=False)


def test_frozen_weights_may_be_in_half_precision(make_trainer):
    module = HalfFrozen()
    make_trainer(callbacks=[AnchorAveraging()]).fit(module)
    assert module.table.tolist() == [1.0, 1.0]
    assert module.table.dtype == torch.bfloat16


def test_without_a_fit_a_file_holds_the_weights_of_the_module(make_trainer, tmp_path):
    module = ByFrankWolfe()
    trainer = make_trainer(callbacks=[AnchorAveraging()])
    trainer.validate(module, verbose=False)
    saved = whole_file(trainer, tmp_path / "validated.ckpt")["state_dict"]
    assert torch.equal(parameters_to_vector(saved.values()), module.weights())


@pytest.mark.parametrize("cls", [FilledInSetup, ByFrankWolfe])
def test_before_the_first_window_closes_weights_stay_those_of_the_module(
    cls, make_trainer, tmp_path
):
    averaged, plain = cls(), cls()
    trainer = make_trainer(callbacks=[AnchorAveraging(), StopsAtOnce()])
    trainer.fit(averaged)
    make_trainer(callbacks=[StopsAtOnce()]).fit(plain)
    assert len(averaged.seen) == 1
    assert torch.equal(averaged.weights(), plain.weights())
    saved = whole_file(trainer, tmp_path / "first.ckpt")["state_dict"]
    assert torch.equal(parameters_to_vector(saved.values()), plain.weights())


class OwnParallel(ModelParallelStrategy):
    """A user's."""


@pytest.mark.parametrize("cls", [ModelParallelStrategy, OwnParallel])
def test_weights_in_parts_are_refused_before_training(cls, make_trainer):
    module = ByFrankWolfe()
    strategy = cls(data_parallel_size=1, tensor_parallel_size=1)
    averaging = AnchorAveraging()
    trainer = make_trainer(callbacks=[averaging], strategy=strategy)
    with pytest.raises(ValueError, match="`strategy` must leave weights whole with AnchorAvera"):
        averaging.setup(trainer, module, "fit")


def test_pruning_is_refused_before_training(make_trainer):
    module, pruning = ByFrankWolfe(), ModelPruning("l1_unstructured", amount=0.3)
    with pytest.raises(ValueError, match="`callbacks` must hold no callback that prunes .* got "):
        make_trainer(callbacks=[AnchorAveraging(), pruning], max_epochs=2).fit(module)
    assert module.seen == []


class CarriesState(ByFrankWolfe):
    """Keeps a state in a buffer, of another length in each batch."""

    def training_step(self, batch, batch_idx):
        self.register_buffer("state", torch.zeros(batch_idx + 2))
        return super().training_step(batch, batch_idx)


def test_a_buffer_of_another_length_does_not_make_an_average_begin_anew(make_trainer):
    trainer = make_trainer(callbacks=[AnchorAveraging(power=0.0)], max_epochs=1)
    with pytest.raises(RuntimeError, match="size of tensor"):
        trainer.fit(CarriesState())


def test_one_of_the_other_namespace_is_named_with_where_to_find_the_right_one():
    trainer = pytorch_lightning.Trainer(accelerator="cpu", logger=False)
    with pytest.raises(TypeError, match=r"Import it from lightning_fw\.pytorch_lightning\.$"):
        AnchorAveraging().setup(trainer, None, "fit")
    other = lightning_fw.pytorch_lightning.AnchorAveraging()
    with pytest.raises(TypeError, match=r"Import it from lightning_fw\.$"):
        other.setup(L.Trainer(accelerator="cpu", logger=False), None, "fit")
