"""Settings without use are named before training, and losses without a gradient at once."""

from __future__ import annotations

import re

import lightning as L
import pytest
import torch

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball, ProductBall
from lightning_fw.parameters import trainable
from lightning_fw.window import Window
from tests.mixin.conftest import Recurrent


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
    for wrong, told in (
        (InnerLoop.paper, "got <bound method .*Take InnerLoop.* or a preset, called"),
        ({"steps": 3}, "got {'steps': 3}. LightningCLI's hparams hold its fields alone: keep the"),
    ):
        module.inner_loop = wrong
        with pytest.raises(TypeError, match=rf"`configure_.*` must be an InnerLoop, {told}"):
            make_trainer().fit(module, loader)
    module.configure_frank_wolfe = InnerLoop()
    with pytest.raises(TypeError, match="`configure_frank_wolfe` must be a method, got InnerLoop"):
        make_trainer().fit(module, loader)


def test_an_inner_loop_that_nobody_returns_is_told(loader, make_trainer):
    class Forgetful(FrankWolfeMixin, L.LightningModule):
        def __init__(self, inner_loop):
            super().__init__()
            self.chosen, self.head = inner_loop, torch.nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return (self.head(batch[0].mean(1)) - batch[1]).square().mean()

    told = "`configure_frank_wolfe` should return the InnerLoop in `chosen`, got the paper's"
    with pytest.warns(UserWarning, match=told):
        make_trainer().fit(Forgetful(InnerLoop.spectral()), loader)
    make_trainer().fit(Forgetful(InnerLoop.paper()), loader)


@pytest.mark.parametrize("kind", [torch.nn.Embedding, torch.nn.EmbeddingBag])
def test_an_embedding_that_changes_its_weights_is_named_before_training(kind, loader, make_trainer):
    def made(steps, **settings):
        module = Recurrent(InnerLoop(steps=steps, **settings))
        module.words = kind(3, 2, max_norm=0.5)
        return module

    for steps in (2, 3):
        with pytest.raises(ValueError, match="`max_norm` of words must be None .*, got 0.5: it sh"):
            make_trainer().fit(made(steps), loader)
    # With one step a window every batch is at the anchor.
    make_trainer().fit(made(1), loader)
    make_trainer().fit(made(3, trajectory="fixed"), loader)
    frozen = made(3)
    frozen.words.requires_grad_(False)
    make_trainer().fit(frozen, loader)


def test_nothing_to_train_is_named_before_training(loader, make_trainer):
    class Frozen(Recurrent):
        def on_train_start(self):
            raise AssertionError("came too far")

    with pytest.raises(ValueError, match="`parameters` must hold at least one trainable tensor"):
        make_trainer().fit(Frozen().requires_grad_(False), loader)


def test_weights_that_no_window_moves_are_named_before_training(loader, make_trainer):
    complex_ones = Recurrent()
    complex_ones.phase = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"got phase of torch.complex64. Keep its numbers in a re"):
        make_trainer().fit(complex_ones, loader)


def test_weights_elsewhere_are_named():
    module = Recurrent()
    module.head.to("meta")
    with pytest.raises(ValueError, match=r"got head.weight on meta beside rnn.weight_ih_l0 on cpu"):
        Window(InnerLoop(), *trainable([{"params": list(module.parameters())}], module))


def test_a_layer_that_waits_for_its_shape_is_named_before_training(loader, make_trainer):
    class Lazy(Recurrent):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.LazyLinear(1)

    with pytest.raises(ValueError, match=r"`parameters` must have shapes before training, got h"):
        make_trainer().fit(Lazy(), loader)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda loss: loss.repeat(4), r"a loss of one entry, got shape \(4,\). Return its mean"),
        (lambda loss: loss.repeat(0), r"a loss of one entry, got shape \(0,\). Return its mean"),
        (lambda loss: {"loss": loss.detach()}, "a loss that depends on the parameters, got one"),
    ],
)
def test_a_loss_without_a_gradient_is_named(broken, message, loader, make_trainer):
    class Wrong(Recurrent):
        def training_step(self, batch, batch_idx):
            return broken(super().training_step(batch, batch_idx))

    with pytest.raises(ValueError, match=message):
        make_trainer().fit(Wrong(), loader)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (3.0, "3.0"),
        ("loss", "'loss'"),
        ({"nll": 1.0}, "a dict with the keys ['nll']"),
        ({"loss": 1.0}, "1.0 under 'loss'"),
        ({"loss": None}, "None under 'loss'"),
    ],
)
def test_an_output_without_a_loss_is_named(output, found, loader, make_trainer):
    class Wrong(Recurrent):
        def training_step(self, batch, batch_idx):
            return output

    message = f"`training_step` must return the loss, a dict with .* got {re.escape(found)}\\."
    with pytest.raises(TypeError, match=message):
        make_trainer().fit(Wrong(), loader)
