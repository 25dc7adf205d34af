"""A fit with other settings than its checkpoint's opens a new window and names them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import pytest
import torch

from lightning_fw import GapFraction, InnerLoop, LinfBall, OpenLoop
from lightning_fw.manual.saved_state import describe, differences
from lightning_fw.parameters import ParameterInfo
from lightning_fw.radius_rules import CosineDecay, SlopeRatio
from lightning_fw.restarts import RestartRule
from lightning_fw.window.saved_settings import changes
from tests.manual.interrupted import Batches, Module
from tests.manual.saved_fits import LOOP, OTHER, WITHOUT, resume, save_after

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD")


SELF_SETTING = replace(LOOP, momentum=0.9, radius_rule=SlopeRatio(own_share=0.5))


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
    @pytest.mark.filterwarnings("ignore:The checkpoint's optimizer state went with")
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
        class Renamed(Module):
            strict_loading = False

            def __init__(self, loop):
                super().__init__(loop)
                self.top = self.head
                del self.head

            def forward(self, x):
                return self.top(self.rnn(x)[0][:, -1])

        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        module = Renamed(LOOP)
        gone = r": parameters that are gone: head\.weight \(1, 4\), head\.bias \(1,\); "
        new = r"new parameters: top\.weight \(1, 4\), top\.bias \(1,\)\. A"
        with pytest.warns(UserWarning, match=gone + new) as caught:
            resume(path, module, make_trainer)
        assert "rnn" not in "".join(str(w.message) for w in caught if OTHER in str(w.message))
        assert [record.steps for record in module.records] == [2, 3, 3, 1]

    @pytest.mark.parametrize(
        ("hook", "batches"),
        [(hook, b) for hook in ("training_step", "on_train_batch_start") for b in (3, 4, 5)],
    )
    def test_parameters_that_are_frozen_now_and_then_are_no_other_ones(
        self, hook, batches, make_trainer, tmp_path
    ):
        class Freezing(Module):
            pass

        def freeze(self, *arguments):
            self.head.weight.requires_grad_(self.trainer.fit_loop.batch_idx % 2 == 0)
            return getattr(super(Freezing, self), hook)(*arguments)

        setattr(Freezing, hook, freeze)
        straight = Freezing(SELF_SETTING)
        make_trainer(max_epochs=2).fit(straight, Batches())
        path = save_after(batches, Freezing(SELF_SETTING), make_trainer, tmp_path)
        resumed = Freezing(SELF_SETTING)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=OTHER)
            resume(path, resumed, make_trainer)
        assert torch.equal(resumed.weights(), straight.weights())


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


def test_of_parameters_that_differ_five_are_named():
    weights = [torch.zeros(1)] * 7
    all_seven = [ParameterInfo(name=name) for name in "abcdefg"]

    def told(count):
        found = describe(LOOP, weights[:count], all_seven[:count])
        (phrase,) = differences(found, describe(LOOP, weights[:1], all_seven[6:]))[:1]
        return phrase

    five = "parameters that are gone: a (1,), b (1,), c (1,), d (1,), e (1,)"
    assert told(5) == five
    assert told(6) == f"{five} and 1 more"


def test_a_parameter_that_changed_its_group_is_another():
    infos = [ParameterInfo(name="a", group=group) for group in (0, 1)]
    one, other = (describe(LOOP, [torch.zeros(1)], [info]) for info in infos)
    assert differences(one, other) == [
        "parameters that are gone: a (1,)",
        "new parameters: a (1,) of group 1",
    ]


def test_settings_that_only_one_version_has_are_told():
    assert changes({"old": "1", "kept": "2"}, {"kept": "2", "new": "3"}) == [
        "old was 1, is not there",
        "new was not there, is 3",
    ]


def test_a_digit_after_a_zero_after_the_point_counts():
    assert changes({"radius": "1.05"}, {"radius": "15"}) == ["radius was 1.05, is 15"]
