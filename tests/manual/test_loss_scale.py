"""A direction that survives the loss scale: no optimizer and no inner loop feels it."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from lightning_fw import InnerLoop, L2Ball, OpenLoop, ShortStep, SlopeRatio
from tests.manual.interrupted import Batches, Module, counts, monitor, told
from tests.manual.scaled_fits import FIRST, LOOP, OUTERS, Scaling, fit

# Small fits of tests, whatever they train with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD"),
    pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped"),
]


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
        assert trainer.global_step == 3
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

    def test_a_parameter_without_a_gradient_is_left_alone(self, make_trainer):
        class Wide(Module):
            def __init__(self, *settings):
                super().__init__(*settings)
                self.unused = torch.nn.Parameter(torch.ones(2))

        plugin = Scaling()
        scaled = fit(make_trainer, LOOPS["momentum"], None, with_bad(1), Wide, plugins=[plugin])
        assert_same_fit(scaled, fit(make_trainer, LOOPS["momentum"], None, with_bad(1), Wide))
        assert plugin.scaler.get_scale() == FIRST / 4
        assert torch.equal(scaled[0].unused, torch.ones(2))

    def test_a_batch_that_gives_no_parameter_a_gradient_leaves_the_scale_alone(self, make_trainer):
        class Aside(Module):
            def __init__(self, *settings):
                super().__init__(*settings)
                self.other = torch.nn.Linear(1, 1)
                self.own = [id(p) for p in self.other.parameters()]

            def configure_optimizers(self):
                return OUTERS["SGD"](p for p in self.parameters() if id(p) not in self.own)

            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                return self.other.weight.sum() if batch_idx in (1, 6) else loss

        plugin = Scaling()
        scaled = fit(make_trainer, kind=Aside, plugins=[plugin])
        assert_same_fit(scaled, fit(make_trainer, kind=Aside))
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
