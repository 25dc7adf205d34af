"""What a checkpoint is to fits that differ from the one that wrote it, and to those without one."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from dataclasses import replace

import lightning as L
import pytest
import torch
from torch.optim import SGD

from lightning_fw import (
    FrankWolfeMixin,
    GapFraction,
    InnerLoop,
    L2Ball,
    LinfBall,
    OpenLoop,
    SlopeRatio,
)
from lightning_fw.manual.saved_state import describe, differences, put_anchor
from lightning_fw.parameters import ParameterInfo
from lightning_fw.radius_rules import CosineDecay
from lightning_fw.restarts import RestartRule
from tests.manual.interrupted import Batches, Module, Plain, SaveAfter, told, weights_in

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD")

WITHOUT = "The checkpoint was written without FrankWolfeMixin"
OTHER = "The checkpoint's Frank-Wolfe window was made with other settings"
LOOP = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)


def save_after(batch, module, make_trainer, folder):
    """The path of a checkpoint made after a batch of the first epoch."""
    save = SaveAfter(folder, [batch])
    make_trainer(callbacks=[save]).fit(module, Batches())
    return save.path(batch)


def resume(path, module, make_trainer, **settings):
    trainer = make_trainer(**{"max_epochs": 2, **settings})
    trainer.fit(module, Batches(), ckpt_path=path)
    return trainer


class TestWithAndWithoutTheMixin:
    @pytest.mark.parametrize("batch", [4, 6])
    def test_a_plain_checkpoint_opens_a_new_window_with_a_warning(
        self, batch, make_trainer, tmp_path
    ):
        path = save_after(batch, Plain(), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.warns(UserWarning, match=WITHOUT):
            trainer = resume(path, module, make_trainer)
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert torch.equal(module.seen[0][1], weights_in({"state_dict": weights}))
        shorter = [2] if batch == 4 else []
        assert [record.steps for record in module.records] == [*shorter, 3, 3, 1]
        assert module.records[0].restart == 0
        # Every batch was an optimizer's step before, every restart is one now.
        assert trainer.global_step == batch + 1 + len(module.records)

    def test_a_plain_checkpoint_counts_towards_max_steps(self, make_trainer, tmp_path):
        path = save_after(6, Plain(), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.warns(UserWarning, match=WITHOUT):
            trainer = resume(path, module, make_trainer, max_steps=9)
        assert trainer.global_step == 9
        assert len(module.records) == 2

    @pytest.mark.parametrize("batch", [4, 6])
    def test_a_plain_module_goes_on_from_the_anchor(self, batch, make_trainer, tmp_path):
        path = save_after(batch, Module(LOOP), make_trainer, tmp_path)
        module = Plain()
        trainer = resume(path, module, make_trainer)
        restarts, left = {4: (1, 9), 6: (3, 7)}[batch]
        assert trainer.global_step == restarts + left
        expected = Plain()
        expected.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        straight = Batches()
        straight.batches = straight.batches[7 - (left - 7) :] + straight.batches
        make_trainer(max_epochs=1).fit(expected, straight)
        for mine, other in zip(module.parameters(), expected.parameters(), strict=True):
            assert torch.equal(mine, other)

    def test_steps_add_up_however_often_the_mixin_comes_and_goes(self, make_trainer, tmp_path):
        path, steps = None, []
        for epochs, module in enumerate((Module(LOOP), Plain(), Module(LOOP), Plain()), start=1):
            trainer = make_trainer(max_epochs=epochs)
            with pytest.warns(UserWarning, match=WITHOUT) if epochs == 3 else nullcontext():
                trainer.fit(module, Batches(), ckpt_path=path)
            path = tmp_path / f"{epochs}.ckpt"
            trainer.save_checkpoint(path)
            steps.append(trainer.global_step)
        assert steps == [3, 10, 13, 20]

    def test_nothing_but_a_fit_warns(self, make_trainer, tmp_path):
        class Tested(Module):
            def predict_step(self, batch, batch_idx):
                self.tested = self.weights()
                return self.tested.sum()

            test_step = predict_step

        plain = save_after(4, Plain(), make_trainer, tmp_path / "plain")
        own = save_after(4, Tested(LOOP), make_trainer, tmp_path / "own")
        for path in (plain, own):
            held = weights_in(torch.load(path, weights_only=True))
            for run in ("test", "predict"):
                module, trainer = Tested(LOOP), make_trainer()
                getattr(trainer, run)(module, Batches(), ckpt_path=path)
                assert torch.equal(module.tested, held)
            loaded = Tested.load_from_checkpoint(path, inner_loop=LOOP)
            assert torch.equal(loaded.weights(), held)
            # A window takes several times the memory of the weights.
            assert loaded._saved_driver_state is None


class TestNoFitToGoOnWith:
    def test_a_module_loaded_from_a_checkpoint_starts_a_fit_of_its_own(
        self, make_trainer, tmp_path
    ):
        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        loaded, fresh = Module.load_from_checkpoint(path, inner_loop=LOOP), Module(LOOP)
        fresh.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        for module in (loaded, fresh):
            make_trainer().fit(module, Batches())
        assert told(loaded.records) == told(fresh.records)
        assert torch.equal(loaded.weights(), fresh.weights())

    def test_what_a_failed_resume_left_does_not_reach_the_next_fit(self, make_trainer, tmp_path):
        class Fails(L.Callback):
            def on_train_start(self, trainer, module):
                raise ConnectionError

        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.raises(ConnectionError):
            resume(path, module, make_trainer, callbacks=[Fails()])
        make_trainer().fit(module, Batches())
        assert [(record.restart, record.steps) for record in module.records] == [
            (0, 3),
            (1, 3),
            (2, 1),
        ]

    def test_a_checkpoint_of_weights_alone_holds_the_anchor(self, make_trainer, tmp_path):
        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if batch_idx == 4:
                    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
                    self.weights = module.weights()

        save = Save()
        make_trainer(callbacks=[save]).fit(Module(LOOP), Batches())
        loaded = Module.load_from_checkpoint(tmp_path / "weights.ckpt", inner_loop=LOOP)
        assert torch.equal(loaded.weights(), save.weights)


class Stubborn(RestartRule):
    """Has no representation of its own, and never asks for a restart."""

    def __call__(self, progress):
        return False


def halve(outer_step):
    return 0.5


OTHERS = {
    "ball": LinfBall(radius=0.05),
    "steps": 4,
    "step_size": OpenLoop(),
    "batches": "split",
    "trajectory": "cumulative",
    "momentum": 0.5,
    "radius_rule": halve,
    "direction": "displacement",
    "restart_when": GapFraction(0.01),
    "accumulate_grad_batches": 2,
}


class TestOtherSettings:
    @pytest.mark.parametrize("name", OTHERS)
    def test_every_setting_opens_a_new_window_and_is_named(self, name, make_trainer, tmp_path):
        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        other = replace(LOOP, **{name: OTHERS[name]})
        module = Module(other)
        alone = f"{OTHER}: {name} was [^;]+, is [^;]+[.] A new window opens"
        with pytest.warns(UserWarning, match=alone):
            resume(path, module, make_trainer)

        # Nothing of the old window is in the new one: a file without it gives the same.
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["frank_wolfe"]
        torch.save(checkpoint, tmp_path / "without.ckpt")
        without = Module(other)
        with pytest.warns(UserWarning, match=WITHOUT):
            resume(tmp_path / "without.ckpt", without, make_trainer)
        assert torch.equal(module.weights(), without.weights())
        assert [r.steps for r in module.records] == [r.steps for r in without.records]

    def test_restarts_and_costs_count_on(self, make_trainer, tmp_path):
        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        module = Module(replace(LOOP, momentum=0.5))
        with pytest.warns(UserWarning, match=OTHER):
            resume(path, module, make_trainer)
        assert [record.restart for record in module.records] == [1, 2, 3, 4]
        # Two evaluations of the window that was dropped were paid for.
        assert [record.gradient_evaluations for record in module.records] == [4, 3, 3, 1]
        assert [record.batches for record in module.records] == [4, 3, 3, 1]

    def test_a_schedule_goes_on_from_the_outer_step(self, make_trainer, tmp_path):
        schedule = CosineDecay(total_steps=5)
        path = save_after(4, Module(replace(LOOP, radius_rule=schedule)), make_trainer, tmp_path)
        module = Module(replace(LOOP, radius_rule=schedule, momentum=0.5))
        with pytest.warns(UserWarning, match=OTHER):
            resume(path, module, make_trainer)
        assert [record.radius for record in module.records] == [
            0.05 * schedule(outer_step) for outer_step in (1, 2, 3, 4)
        ]

    def test_other_parameters_open_a_new_window_and_are_named(self, make_trainer, tmp_path):
        class Frozen(Module):
            def __init__(self, loop):
                super().__init__(loop)
                self.head.weight.requires_grad_(False)

        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        module = Frozen(LOOP)
        with pytest.warns(
            UserWarning, match=r": parameters that are gone: head\.weight \(1, 4\)\. A"
        ) as caught:
            resume(path, module, make_trainer)
        assert "rnn" not in "".join(str(w.message) for w in caught if OTHER in str(w.message))
        assert [record.steps for record in module.records] == [2, 3, 3, 1]
        back = Module(LOOP)
        path = save_after(4, Frozen(LOOP), make_trainer, tmp_path)
        with pytest.warns(UserWarning, match=r": new parameters: head\.weight \(1, 4\)\. A"):
            resume(path, back, make_trainer)


class TestDescriptions:
    def test_settings_without_a_representation_of_their_own_are_the_same_in_another_process(self):
        one, other = (
            InnerLoop(
                steps=2,
                restart_when=Stubborn(),
                radius_rule=functools.partial(halve),
            )
            for _ in range(2)
        )
        assert repr(one) != repr(other)
        assert differences(describe(one, [], []), describe(other, [], [])) == []
        assert "0x" not in "".join(describe(one, [], []).values())

    def test_two_functions_are_told_apart(self):
        one, other = (InnerLoop(radius_rule=rule) for rule in (halve, CosineDecay(total_steps=2)))
        [difference] = differences(describe(one, [], []), describe(other, [], []))
        assert "halve" in difference
        assert "CosineDecay(total_steps=2" in difference

    def test_an_order_of_parameters_is_told_apart(self):
        weights = [torch.zeros(2), torch.zeros(3)]
        infos = [ParameterInfo(name="a"), ParameterInfo(name="b")]
        one = describe(LOOP, weights, infos)
        other = describe(LOOP, weights[::-1], infos[::-1])
        assert differences(one, one) == []
        assert differences(one, other) == ["the optimizer holds its parameters in another order"]


class TestHooks:
    def test_a_modules_own_hooks_need_not_call_super(self, make_trainer, tmp_path):
        class Own(Module):
            def on_save_checkpoint(self, checkpoint):
                checkpoint["mine"] = 7

            def on_load_checkpoint(self, checkpoint):
                self.loaded = checkpoint["mine"]

        straight = Own(LOOP)
        save = SaveAfter(tmp_path, [4])
        make_trainer(max_epochs=2, callbacks=[save]).fit(straight, Batches())
        resumed = Own(LOOP)
        resume(save.path(4), resumed, make_trainer)
        assert resumed.loaded == 7
        assert torch.equal(resumed.weights(), straight.weights())

    def test_state_that_is_not_a_tensor_is_saved(self, make_trainer, tmp_path):
        class Extra(Module):
            def get_extra_state(self):
                return {"vocabulary": ["a", "b"]}

            def set_extra_state(self, state):
                self.vocabulary = state["vocabulary"]

            def training_step(self, batch, batch_idx):
                if batch_idx == 4:
                    self.trainer.save_checkpoint(tmp_path / "mid.ckpt")
                    with self.frank_wolfe.at_anchor():
                        self.anchor = self.weights()
                return super().training_step(batch, batch_idx)

        module = Extra(LOOP)
        path = save_after(4, module, make_trainer, tmp_path)
        for file in (path, tmp_path / "mid.ckpt"):
            loaded = Extra.load_from_checkpoint(file, inner_loop=LOOP)
            assert loaded.vocabulary == ["a", "b"]
            assert torch.equal(loaded.weights(), module.anchor)

    def test_the_anchor_takes_the_place_of_tied_weights_too(self):
        weight, other = torch.ones(2), torch.ones(2)
        anchor = torch.zeros(2)
        checkpoint = {"state_dict": {"in": weight, "out": weight, "other": other, "extra": None}}
        put_anchor(checkpoint, {weight.data_ptr(): anchor})
        held = checkpoint["state_dict"]
        assert held["in"] is anchor
        assert held["out"] is anchor
        assert held["other"] is other


def test_a_fit_resumes_where_the_monitor_comes_only_then(make_trainer, tmp_path):
    """Statistics that the first part did not keep are missing, not wrong."""

    class Silent(FrankWolfeMixin, Plain):
        def configure_frank_wolfe(self):
            return replace(LOOP, radius_rule=SlopeRatio(), direction="displacement")

        def configure_optimizers(self):
            return SGD(self.parameters(), lr=1.0)

    class Heard(Silent):
        def on_restart(self, record):
            self.records = [*getattr(self, "records", []), record]

    save = SaveAfter(tmp_path, [4])
    straight, heard = Silent(), Heard()
    make_trainer(max_epochs=2, callbacks=[save]).fit(straight, Batches())
    resume(save.path(4), heard, make_trainer)
    assert torch.equal(heard.weights(), straight.weights())
    first, second, *_ = heard.records
    assert first.gap_first != first.gap_first
    assert first.cosine != first.cosine
    assert first.gap_last > 0
    assert -1 <= second.cosine <= 1
