"""Precision: what is kept in which dtype, and a direction that survives the loss scale."""

from __future__ import annotations

import re
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.optim import SGD, Adam, AdamW

from lightning_fw import InnerLoop, L2Ball, OpenLoop, ShortStep, SlopeRatio
from tests.manual.interrupted import Batches, Module, counts, monitor, told

# Small fits of tests, whatever they train with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD"),
    pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped"),
]

LOOP = InnerLoop(ball=L2Ball(radius=0.05), steps=3)
FIRST = 2.0**20


class Scaling(MixedPrecision):
    """The loss scaler of 16-mixed with float32 inside.

    A scale that is a power of two then changes no digit, so that a fit must equal one without it
    to the last bit.
    """

    def __init__(self, scale=FIRST, **settings):
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", scale, **settings))

    def autocast_context_manager(self):
        return torch.autocast("cpu", enabled=False)


def fit(make_trainer, loop=LOOP, outer=None, loader=None, kind=Module, **settings):
    """Fit for two epochs of seven batches.

    Returns:
        The module, its trainer and the monitor.
    """
    module, watch = kind(loop, outer), monitor()
    callbacks = [watch, *settings.pop("callbacks", [])]
    trainer = make_trainer(**{"max_epochs": 2, "callbacks": callbacks, **settings})
    trainer.fit(module, Batches() if loader is None else loader)
    return module, trainer, watch


def assert_same_fit(scaled, unscaled):
    assert torch.equal(scaled[0].weights(), unscaled[0].weights())
    assert told(scaled[2].records) == told(unscaled[2].records)
    assert counts(scaled[2].summary()) == counts(unscaled[2].summary())
    assert scaled[1].global_step == unscaled[1].global_step


def with_bad(*indices):
    """Batches of which some hold an infinity."""
    loader = Batches()
    for index in indices:
        x, y = loader.batches[index]
        loader.batches[index] = (x, torch.full_like(y, float("inf")))
    return loader


class TestDtypes:
    @pytest.mark.parametrize(
        ("precision", "weight", "displacement"),
        [
            ("32-true", torch.float32, torch.float32),
            ("64-true", torch.float64, torch.float64),
            ("bf16-mixed", torch.float32, torch.float32),
            ("bf16-true", torch.bfloat16, torch.float32),
            ("16-true", torch.float16, torch.float32),
        ],
    )
    def test_displacements_have_the_weights_dtype_but_never_less_than_float32(
        self, precision, weight, displacement, make_trainer, tmp_path
    ):
        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if batch_idx == 4:
                    trainer.save_checkpoint(tmp_path / "mid.ckpt")

        class Noting(Module):
            def on_before_optimizer_step(self, optimizer):
                self.directions = {p.grad.dtype for p in self.parameters()}

        loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)
        adam = partial(Adam, lr=0.01, eps=1e-3)
        module, *_ = fit(
            make_trainer, loop, adam, kind=Noting, precision=precision, callbacks=[Save()]
        )
        window = torch.load(tmp_path / "mid.ckpt", weights_only=True)["frank_wolfe"]["window"]
        assert {p.dtype for p in module.parameters()} == {weight}
        assert module.directions == {weight}
        assert {d.dtype for d in window["displacement"]["tensors"]} == {displacement}
        assert {m.dtype for m in window["momentum"]} == {displacement}
        assert [record.steps for record in module.records] == [3, 3, 1] * 2

    @pytest.mark.parametrize(
        ("precision", "tolerance"), [("64-true", 1e-6), ("bf16-mixed", 0.02), ("bf16-true", 0.06)]
    )
    def test_other_precisions_train_as_float32_does(self, precision, tolerance, make_trainer):
        loop = InnerLoop(ball=L2Ball(radius=0.1, scope="global"), steps=3)
        outer = partial(SGD, lr=0.1)
        expected, *_ = fit(make_trainer, loop, outer)
        module, *_ = fit(make_trainer, loop, outer, precision=precision)
        start = Module().weights()
        way, mine = expected.weights() - start, module.weights().float() - start
        assert (mine - way).norm() <= tolerance * way.norm()

    def test_displacements_below_half_an_ulp_add_up(self, make_trainer):
        """Weights in bfloat16 cannot show them: d_K must be the mean of the atoms all the same."""

        class Noting(Module):
            def on_after_backward(self):
                gradients = [p.grad.double() for p in self.parameters()]
                self.atoms = [
                    *getattr(self, "atoms", []),
                    [-gradient / gradient.norm() for gradient in gradients],
                ]

            def on_before_optimizer_step(self, optimizer):
                self.directions = [p.grad.double() for p in self.parameters()]

        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, *args):
                window = module._driver.window.state_dict()["displacement"]
                if window["k"] == 6:
                    self.found = [window["factor"] * d.double() for d in window["tensors"]]

        save = Save()
        loop = InnerLoop(ball=L2Ball(radius=1e-6), steps=7)
        module, *_ = fit(
            make_trainer, loop, kind=Noting, precision="bf16-true", max_epochs=1, callbacks=[save]
        )
        first, last = module.seen[0][1], module.seen[-1][1]
        moved = (first != last).float().mean()
        assert moved < 0.2  # a weight next to zero may show it
        for found, *atoms in zip(save.found, *module.atoms[:6], strict=True):
            torch.testing.assert_close(found, sum(atoms) / 6, rtol=1e-5, atol=1e-6)
        for direction, *atoms in zip(module.directions, *module.atoms, strict=True):
            torch.testing.assert_close(direction, -sum(atoms) / 7, rtol=2**-8, atol=1e-6)


OUTERS = {
    "SGD": partial(SGD, lr=0.05),
    "SGD with momentum": partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
    "fused SGD": partial(SGD, lr=0.05, momentum=0.9, fused=True),
    "Adam": partial(Adam, lr=0.01),
    "fused Adam": partial(Adam, lr=0.01, fused=True),
    "AdamW": partial(AdamW, lr=0.01, weight_decay=0.1),
}
LOOPS = {
    "paper": LOOP,
    "momentum": InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9, step_size=OpenLoop()),
    "slope ratio": InnerLoop(
        ball=L2Ball(radius=0.05), steps=3, radius_rule=SlopeRatio(), direction="displacement"
    ),
    "spectral": InnerLoop.spectral(),
    "short steps": InnerLoop(
        ball=L2Ball(radius=0.05), steps=3, momentum=0.5, step_size=ShortStep(lipschitz=2.0)
    ),
    "cumulative": InnerLoop(ball=L2Ball(radius=0.05), steps=3, trajectory="cumulative"),
    "accumulation": InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=2),
    "same": InnerLoop(ball=L2Ball(radius=0.05), steps=2, batches="same"),
    "split": InnerLoop(ball=L2Ball(radius=0.05), steps=2, batches="split", momentum=0.9),
}


class TestLossScale:
    @pytest.mark.parametrize("name", OUTERS)
    def test_no_outer_optimizer_feels_the_scale(self, name, make_trainer):
        scaled = fit(make_trainer, outer=OUTERS[name], plugins=[Scaling()])
        assert_same_fit(scaled, fit(make_trainer, outer=OUTERS[name]))

    @pytest.mark.parametrize("name", LOOPS)
    def test_no_inner_loop_feels_the_scale(self, name, make_trainer):
        scaled = fit(make_trainer, LOOPS[name], OUTERS["SGD"], plugins=[Scaling()])
        assert_same_fit(scaled, fit(make_trainer, LOOPS[name], OUTERS["SGD"]))

    def test_a_scale_that_changes_in_mid_window_is_not_felt(self, make_trainer):
        plugin, scales = Scaling(growth_interval=2, growth_factor=4.0), []

        class Watch(L.Callback):
            def on_train_batch_end(self, *args):
                scales.append(plugin.scaler.get_scale())

        scaled = fit(
            make_trainer, LOOPS["momentum"], OUTERS["Adam"], plugins=[plugin], callbacks=[Watch()]
        )
        assert_same_fit(scaled, fit(make_trainer, LOOPS["momentum"], OUTERS["Adam"]))
        assert len(set(scales)) > 4

    def test_hooks_before_the_outer_step_see_the_direction_unscaled(self, make_trainer):
        class Noting(Module):
            def on_before_optimizer_step(self, optimizer):
                self.norms = [p.grad.norm().item() for p in self.parameters()]

        module, *_ = fit(make_trainer, kind=Noting, plugins=[Scaling()])
        # One step in the last window: the direction is an atom of each ball.
        assert module.norms == pytest.approx([1.0] * 6, rel=1e-5)

    @pytest.mark.parametrize("outer", ["SGD", "fused Adam"])
    def test_an_evaluation_that_is_not_finite_is_skipped_and_backs_the_scale_off(
        self, outer, make_trainer
    ):
        plugin = Scaling()
        scaled = fit(
            make_trainer,
            LOOPS["momentum"],
            OUTERS[outer],
            with_bad(1, 3),
            plugins=[plugin],
            max_epochs=1,
        )
        plain = fit(make_trainer, LOOPS["momentum"], OUTERS[outer], with_bad(1, 3), max_epochs=1)
        assert_same_fit(scaled, plain)
        records = scaled[0].records
        assert [(r.steps, r.skipped) for r in records] == [(2, 1), (2, 1), (1, 0)]
        assert plugin.scaler.get_scale() == FIRST / 4

    def test_a_window_without_a_finite_evaluation_makes_no_outer_step(self, make_trainer):
        plugin = Scaling()
        start = Module().weights()
        module, trainer, watch = fit(
            make_trainer,
            outer=OUTERS["AdamW"],
            loader=with_bad(*range(7)),
            plugins=[plugin],
            max_epochs=1,
        )
        assert trainer.global_step == 0
        assert torch.equal(module.weights(), start)
        assert [r.skipped for r in watch.records] == [3, 3, 1]
        assert plugin.scaler.get_scale() == FIRST / 2**7
        assert trainer.optimizers[0].state == {}

    @pytest.mark.parametrize("accumulate", [2, 3])
    def test_a_group_with_an_evaluation_that_is_not_finite_is_skipped(
        self, accumulate, make_trainer
    ):
        plugin, loop = Scaling(), InnerLoop(steps=2, accumulate_grad_batches=accumulate)
        scaled = fit(make_trainer, loop, OUTERS["SGD"], with_bad(0), plugins=[plugin], max_epochs=1)
        plain = fit(make_trainer, loop, OUTERS["SGD"], with_bad(0), max_epochs=1)
        assert_same_fit(scaled, plain)
        assert (scaled[0].records[0].steps, scaled[0].records[0].skipped) == (1, 1)
        assert plugin.scaler.get_scale() == FIRST / 2

    def test_a_batch_without_a_loss_leaves_the_scale_alone(self, make_trainer):
        class Picky(Module):
            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                return None if batch_idx in (1, 6) else loss

        plugin = Scaling()
        scaled = fit(make_trainer, kind=Picky, plugins=[plugin])
        assert_same_fit(scaled, fit(make_trainer, kind=Picky))
        assert plugin.scaler.get_scale() == FIRST

    def test_a_resumed_fit_goes_on_with_the_scale(self, make_trainer, tmp_path):
        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if trainer.current_epoch == 0 and batch_idx == 4:
                    trainer.save_checkpoint(tmp_path / "mid.ckpt")

        def start(**settings):
            plugin = Scaling(growth_interval=6)
            fitted = fit(
                make_trainer,
                LOOPS["spectral"],
                OUTERS["SGD"],
                with_bad(1),
                plugins=[plugin],
                **settings,
            )
            return fitted, plugin.scaler.state_dict()

        straight, scale = start(callbacks=[Save()])
        checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
        assert checkpoint["Scaling"]["scale"] == FIRST / 2
        module, watch, plugin = (
            Module(LOOPS["spectral"], OUTERS["SGD"]),
            monitor(),
            Scaling(growth_interval=6),
        )
        trainer = make_trainer(max_epochs=2, callbacks=[watch], plugins=[plugin])
        trainer.fit(module, with_bad(1), ckpt_path=tmp_path / "mid.ckpt")
        assert_same_fit((module, trainer, watch), straight)
        assert plugin.scaler.state_dict() == scale


class Dense(Module):
    """Layers that autocast to float16 on a CPU; its gradients overflow there at a large scale."""

    def __init__(self, inner_loop=None, outer=None):
        super().__init__(inner_loop, outer)
        torch.manual_seed(0)
        self.rnn = None
        self.body = torch.nn.Linear(10, 4)

    def forward(self, x):
        y = self.head(torch.tanh(self.body(x.flatten(1))))
        self.dtype_seen = y.dtype
        return y.float()


class TestHalf:
    def test_gradients_that_overflow_back_the_scale_off_until_they_fit(self, make_trainer):
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**24))
        loop = InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3)
        outer = OUTERS["SGD"]
        module, trainer, watch = fit(make_trainer, loop, outer, kind=Dense, plugins=[plugin])
        assert module.dtype_seen == torch.float16
        skipped = sum(record.skipped for record in watch.records)
        assert 0 < skipped < 14
        assert plugin.scaler.get_scale() == 2.0 ** (24 - skipped)
        assert trainer.global_step == sum(record.steps > 0 for record in watch.records)

    def test_it_trains_as_float32_does(self, make_trainer):
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**10))
        loop = InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3, momentum=0.9)
        outer = OUTERS["SGD"]
        module, _, watch = fit(make_trainer, loop, outer, kind=Dense, plugins=[plugin])
        expected, _, other = fit(make_trainer, loop, outer, kind=Dense)
        start = Dense().weights()
        way = expected.weights() - start
        assert (module.weights() - start - way).norm() <= 0.01 * way.norm()
        for mine, theirs in zip(watch.records, other.records, strict=True):
            assert mine.gap_first == pytest.approx(theirs.gap_first, rel=0.02)
            assert mine.loss_first == pytest.approx(theirs.loss_first, rel=0.02)

    def test_weights_in_half_precision_under_a_scaler_are_refused_by_torch(self, make_trainer):
        class Halved(Module):
            def __init__(self, *args):
                super().__init__(*args)
                self.half()

            def training_step(self, batch, batch_idx):
                return sum(p.sum() for p in self.parameters()).float()

        message = re.escape("Attempting to unscale FP16 gradients.")
        with pytest.raises(ValueError, match=message):
            fit(make_trainer, kind=Halved, plugins=[Scaling()])
