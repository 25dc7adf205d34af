"""The mixin as a class: order of bases, what it wraps, what it refuses."""

from __future__ import annotations

import copy
import pickle

import lightning as L
import numpy as np
import pytest
import pytorch_lightning
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball, ProductBall, SlopeRatio
from lightning_fw.manual.batches import batch_length
from tests.mixin.conftest import Recurrent, make_loader


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


def test_the_default_optimizer_is_the_inner_loops(loader, make_trainer):
    class Bare(FrankWolfeMixin, L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def configure_frank_wolfe(self):
            return InnerLoop.spectral()

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

    trainer = make_trainer()
    trainer.fit(Bare(), loader)
    assert trainer.optimizers[0].param_groups[0]["momentum"] == 0.5


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


@pytest.mark.parametrize(
    ("configured", "error", "message"),
    [
        (
            lambda p: [torch.optim.SGD(p[:1], lr=1.0), torch.optim.Adam(p[1:])],
            ValueError,
            "`configure_optimizers` must return one outer optimizer, got 2: SGD, Adam",
        ),
        (lambda p: None, ValueError, "must return one outer optimizer, got 0: none"),
        (lambda p: {"optimizer": torch.optim.LBFGS(p)}, TypeError, "got LBFGS, which evaluates"),
    ],
)
def test_wrong_optimizers_are_named_before_training(
    configured, error, message, loader, make_trainer
):
    class Wrong(Recurrent):
        def configure_optimizers(self):
            return configured(list(self.parameters()))

    module = Wrong()
    with pytest.raises(error, match=message):
        make_trainer().fit(module, loader)
    assert module.seen == []


@pytest.mark.parametrize(
    "form",
    [
        lambda o, s: o,
        lambda o, s: [o],
        lambda o, s: ([o], [s]),
        lambda o, s: ([o], [{"scheduler": s, "interval": "step"}]),
        lambda o, s: {"optimizer": o, "lr_scheduler": s},
        lambda o, s: ({"optimizer": o, "lr_scheduler": {"scheduler": s}},),
    ],
)
def test_every_form_of_one_optimizer_is_accepted(form, loader, make_trainer):
    class Forms(Recurrent):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
            return form(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1))

    trainer = make_trainer()
    trainer.fit(Forms(), loader)
    assert trainer.global_step == 3


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: torch.optim.Adam(p, lr=1.0), "Adam with lr 1"),
        (lambda p: torch.optim.SGD(p, lr=0.01), "SGD with lr 0.01"),
    ],
)
def test_an_optimizer_that_shortens_displacements_is_warned_of(make, found, loader, make_trainer):
    class Slow(Recurrent):
        def configure_optimizers(self):
            return make(self.parameters())

    module = Slow(InnerLoop(steps=3, direction="displacement"))
    with pytest.warns(UserWarning, match=f'gave {found} for direction="displacement"'):
        make_trainer().fit(module, loader)


def test_a_ball_that_leaves_a_parameter_out_is_named_before_training(loader, make_trainer):
    module = Recurrent(InnerLoop(ball=ProductBall({"rnn.*": L2Ball()})))
    with pytest.raises(ValueError, match="no pattern for the parameter 'head.weight'"):
        make_trainer().fit(module, loader)
    assert module.seen == []


def test_a_pattern_that_matches_nothing_is_named_before_training(loader, make_trainer):
    module = Recurrent(InnerLoop(ball=ProductBall({"lstm.*": L2Ball(), "*": L2Ball()})))
    with pytest.raises(ValueError, match="`balls` has the pattern 'lstm.*', which gets no"):
        make_trainer().fit(module, loader)


def test_other_settings_than_an_inner_loop_are_named_before_training(loader, make_trainer):
    module = Recurrent()
    module.inner_loop = {"steps": 3}
    with pytest.raises(TypeError, match="`configure_frank_wolfe` must return an InnerLoop, got {"):
        make_trainer().fit(module, loader)


def test_nothing_to_train_is_named_before_training(loader, make_trainer):
    module = Recurrent().requires_grad_(False)
    with pytest.raises(ValueError, match="`parameters` must hold at least one trainable tensor"):
        make_trainer().fit(module, loader)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda loss: loss.repeat(4), r"a loss of one entry, got shape \(4,\). Return its mean"),
        (lambda loss: {"loss": loss.detach()}, "a loss that depends on the parameters, got one"),
    ],
)
def test_a_loss_without_a_gradient_is_named(broken, message, loader, make_trainer):
    class Wrong(Recurrent):
        def training_step(self, batch, batch_idx):
            return broken(super().training_step(batch, batch_idx))

    with pytest.raises(ValueError, match=message):
        make_trainer().fit(Wrong(), loader)


@pytest.mark.parametrize("output", [3.0, {"nll": 1.0}, "loss"])
def test_an_output_without_a_loss_is_named(output, loader, make_trainer):
    class Wrong(Recurrent):
        def training_step(self, batch, batch_idx):
            return output

    with pytest.raises(TypeError, match="`training_step` must return the loss, a dict with"):
        make_trainer().fit(Wrong(), loader)


@pytest.mark.parametrize("settings", [{}, {"fast_dev_run": True}, {"limit_train_batches": 1}])
def test_more_steps_than_samples_cannot_be_split(settings, loader, make_trainer):
    module = Recurrent(InnerLoop(steps=5, batches="split"))
    with pytest.raises(
        ValueError, match=r'`steps` must be at most the batch size with batches="split", got 5 for'
    ):
        make_trainer(**settings).fit(module, loader)
    assert module.seen == []


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([torch.ones(4, 5, 2), torch.ones(3)], ValueError, r"first dimensions \[4, 3\]"),
        ([torch.ones(4, 5, 2), torch.tensor(1.0)], ValueError, r"first dimensions \[4, 0\]"),
        ([torch.ones(4, 5, 2), ["a", "b"]], TypeError, "must hold tensors alone .* got a str"),
        (
            [pack_sequence([torch.ones(3, 2)])],
            TypeError,
            "got a PackedSequence. Override split_batch",
        ),
        ([1, 2], TypeError, "got a list"),
        ([torch.ones(4, 5, 2), [1, 2, 3, 4]], TypeError, "got a list"),
        ({}, ValueError, r"first dimensions \[\]"),
    ],
)
def test_a_batch_that_cannot_be_split_is_named(batch, error, message, make_trainer):
    module = Recurrent(InnerLoop(steps=2, batches="split"))
    with pytest.raises(error, match=message):
        make_trainer().fit(module, DataLoader([batch] * 4, batch_size=None))
    assert module.seen == []


def test_an_array_is_no_tensor_to_split():
    with pytest.raises(TypeError, match="must hold tensors alone .* got a ndarray"):
        batch_length({"x": torch.ones(4), "lengths": np.ones(4)})


def test_a_module_may_split_batches_its_own_way(make_trainer):
    class Own(Recurrent):
        def split_batch(self, batch, chunks):
            x, y = batch
            return [(x[i::chunks], y[i::chunks]) for i in range(chunks)]

    module = Own(InnerLoop(steps=2, batches="split"))
    make_trainer().fit(module, make_loader())
    assert [length for length, _ in module.seen] == [2] * 14


def test_the_live_window_can_be_read(loader, make_trainer):
    seen = []

    class Watched(Recurrent):
        def training_step(self, batch, batch_idx):
            with self.frank_wolfe.at_anchor():
                anchor = self.weights()
            view = self.frank_wolfe
            seen.append((view.restart, view.k, view.radius, torch.equal(anchor, self.weights())))
            return super().training_step(batch, batch_idx)

    module = Watched()
    with pytest.raises(RuntimeError, match="`frank_wolfe` is the live window of a fit"):
        _ = module.frank_wolfe
    make_trainer().fit(module, loader)
    assert [(restart, k) for restart, k, _, _ in seen] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0),
    ]  # fmt: skip
    assert [at_anchor for *_, at_anchor in seen] == [k == 0 for _, k, _, _ in seen]


def test_callbacks_with_on_restart_get_the_records(loader, make_trainer):
    class Listener(L.Callback):
        def __init__(self):
            self.records = []

        def on_restart(self, trainer, module, record):
            self.records.append((trainer.global_step, record))

    listener, module = Listener(), Recurrent()
    make_trainer(callbacks=[listener, L.pytorch.callbacks.Timer()]).fit(module, loader)
    assert [step for step, _ in listener.records] == [1, 2, 3]
    assert [record for _, record in listener.records] == module.records


def test_costs_add_up(loader, make_trainer):
    module = Recurrent()
    make_trainer().fit(module, loader)
    for record in module.records:
        assert record.gradient_seconds > 0
        assert record.oracle_seconds > 0
        assert record.outer_seconds > 0


def test_a_second_fit_starts_with_a_fresh_window(loader, make_trainer):
    module = Recurrent()
    make_trainer().fit(module, loader)
    make_trainer().fit(module, loader)
    assert [record.restart for record in module.records] == [0, 1, 2, 0, 1, 2]


def test_a_module_in_mid_fit_can_be_copied_and_pickled(loader, make_trainer):
    copied = []

    class Copy(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                copied.append(copy.deepcopy(module))
                pickle.dumps(module.frank_wolfe)

    module = Recurrent()
    make_trainer(callbacks=[Copy()]).fit(module, loader)
    assert not torch.equal(copied[0].weights(), module.weights())


STATEFUL = InnerLoop(
    ball=L2Ball(radius=0.02),
    steps=3,
    momentum=0.9,
    radius_rule=SlopeRatio(),
    direction="displacement",
)


def test_a_checkpoint_in_mid_window_holds_the_anchor_and_the_window(loader, make_trainer, tmp_path):
    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")
                self.weights = module.weights()

    save, module = Save(), Recurrent(STATEFUL, lr=1.0)
    make_trainer(callbacks=[save]).fit(module, loader)
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    held = nn.utils.parameters_to_vector(checkpoint["state_dict"].values())
    assert torch.equal(held, save.weights)
    assert checkpoint["frank_wolfe"]["window"]["displacement"]["k"] == 2
    assert checkpoint["frank_wolfe"]["tally"]["batches"] == 2


def test_a_fit_resumes_with_momentum_and_radius(loader, make_trainer, tmp_path):
    straight = Recurrent(STATEFUL, lr=1.0)
    make_trainer(max_epochs=2).fit(straight, loader)

    saved = Recurrent(STATEFUL, lr=1.0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(saved, loader)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    resumed = Recurrent(STATEFUL, lr=1.0)
    make_trainer(max_epochs=2).fit(resumed, loader, ckpt_path=tmp_path / "epoch.ckpt")
    assert torch.equal(resumed.weights(), straight.weights())
    assert [record.restart for record in resumed.records] == [3, 4, 5]
    assert [r.radius for r in resumed.records] == [r.radius for r in straight.records[3:]]


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_other_precisions_train(precision, make_trainer):
    loader = make_loader()
    if precision == "bf16-true":
        loader.dataset.tensors = tuple(t.bfloat16() for t in loader.dataset.tensors)
    elif precision == "64-true":
        loader.dataset.tensors = tuple(t.double() for t in loader.dataset.tensors)
    module = Recurrent(InnerLoop(ball=L2Ball(radius=0.1), steps=3), lr=0.1)
    before = module.weights()
    make_trainer(precision=precision).fit(module, loader)
    assert not torch.equal(module.weights().to(before), before)
    assert all(record.steps == 3 for record in module.records[:2])
