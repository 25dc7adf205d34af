"""A ball of the user's own: what it answers first is compared with what it must hold."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch

from lightning_fw import InnerLoop, L2Ball, NoiseFloor, ProductBall
from lightning_fw.balls import Atoms, Ball
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors import scalars as scalars_module
from lightning_fw.window import Window
from lightning_fw.window import displacement as displacement_module


class Own(Ball):
    """An l2 ball of each tensor."""

    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-1 / max(g.norm().item(), 1e-30) for g in gradients])

    def block_norms(self, tensors, infos=None):
        return torch.stack([t.norm() for t in tensors])

    block_dual_norms = block_norms


class Uphill(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [1 / g.norm().item() for g in gradients])


class Backwards(L2Ball):
    """Of another package, with the wrong sign."""

    def atoms(self, gradients, infos=None, norms=None):
        atoms = super().atoms(gradients, infos, norms)
        return atoms._replace(scales=[-scale for scale in atoms.scales])


class Unclamped(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms([-g / g.norm() for g in gradients], [1.0] * len(gradients))


class Unnormalized(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-1.0] * len(gradients))


class HalfAgainTooLong(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-1.5 / g.norm().item() for g in gradients])


class InPlace(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms([g.neg_().sign_().div_(g.numel() ** 0.5) for g in gradients], [1.0, 1.0])


class Bare(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return [-g / g.norm() for g in gradients]


class OneScale(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms([-g / g.norm() for g in gradients], [1.0])


class ScalarScale(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms([-g / g.norm() for g in gradients], 1.0)


class Listed(Own):
    def block_norms(self, tensors, infos=None):
        return [t.norm() for t in tensors]


class Total(Own):
    def block_dual_norms(self, gradients, infos=None):
        return sum(t.norm().item() for t in gradients)


class Flat(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms([-g.flatten() / g.norm() for g in gradients], [1.0] * len(gradients))


class OfRadius(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-self.radius / g.norm().item() for g in gradients])


class MixedScales(Own):
    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-1 / g.norm() if g.any() else 0.0 for g in gradients])


@dataclass(frozen=True, kw_only=True)
class Rough(Own):
    length: float = 1.0

    def atoms(self, gradients, infos=None, norms=None):
        return Atoms(list(gradients), [-self.length / g.norm().item() for g in gradients])


def one_step(ball, *, zero=False, restart_when=None, infos=None):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,))]
    window = Window(InnerLoop(ball=ball, steps=2, restart_when=restart_when), parameters, infos)
    with window.displaced():
        loss = parameters[0].square().sum() + (0 if zero else 3) * parameters[1].square().sum()
        loss.backward()
    window.step()
    return window


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Uphill, ValueError, "minus sign"),
        (Unnormalized, ValueError, "ball of radius one, got one of norm"),
        (HalfAgainTooLong, ValueError, "ball of radius one, got one of norm 1.5 by"),
        (InPlace, ValueError, "changed in place"),
        (Bare, TypeError, "must give an Atoms, got list"),
        (OneScale, ValueError, "got 2 and 1"),
        (ScalarScale, TypeError, "lists of tensors and scales, got list and float"),
        (Flat, ValueError, r"got \(12,\) for \(3, 4\) of parameter 0"),
    ],
)
def test_a_wrong_oracle_is_named_at_its_first_answer(kind, error, message):
    with pytest.raises(error, match=rf"`atoms` of {kind.__name__} .*{message}"):
        one_step(kind(radius=0.1))


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [(Listed, "block_norms", "list"), (Total, "block_dual_norms", "float")],
)
def test_norms_that_are_no_tensor_are_named(kind, name, found):
    message = rf"`{name}` of {kind.__name__} must give a tensor of shape \(blocks,\), got {found}\."
    with pytest.raises(TypeError, match=message):
        one_step(kind(radius=0.1))


def test_the_atom_of_a_zero_gradient_must_be_finite():
    one_step(Own(radius=0.1), zero=True)
    with pytest.raises(ValueError, match="parameter 1, whose gradient has the largest entry 0"):
        one_step(Unclamped(radius=0.1), zero=True)


def test_what_raises_at_a_zero_gradient_may_train_where_there_is_none():
    class Refusing(Own):
        def atoms(self, gradients, infos, norms):
            assert all(g.any() for g in gradients)
            return super().atoms(gradients, infos, norms)

    assert one_step(Refusing(radius=0.1)).k == 1


def test_so_must_one_of_which_there_is_none_at_first():
    with pytest.raises(ValueError, match="parameter 0, whose gradient has the largest entry 0"):
        one_step(Unclamped(radius=0.1))


def test_a_parameter_is_told_by_its_name():
    infos = [ParameterInfo(name="weight"), ParameterInfo(name="bias")]
    with pytest.raises(ValueError, match=r"got \(12,\) for \(3, 4\) of weight\."):
        one_step(Flat(radius=0.1), infos=infos)


# Of an iteration that was stopped, or of rounding.
@pytest.mark.parametrize("length", [0.6, 1.005])
@pytest.mark.parametrize("part_of", [False, True])
def test_a_rough_answer_is_told_nothing(length, part_of):
    ball = Rough(radius=0.1, length=length)
    if part_of:
        ball = ProductBall({"weight": ball, "*": L2Ball(radius=0.001)})
    infos = [ParameterInfo(name="weight"), ParameterInfo(name="bias")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = one_step(ball, infos=infos).close()
    assert record.ball_usage == pytest.approx((length + (1 if part_of else length)) / 2)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("restart_when", [None, NoiseFloor()])
def test_scales_may_be_floats_and_tensors_in_one_answer(zero, restart_when):
    records = []
    for kind in (Own, MixedScales):
        window = one_step(kind(radius=0.1), zero=zero, restart_when=restart_when)
        assert not window.wants_restart()
        records.append(window.close())
    assert records[0].gap_first == pytest.approx(records[1].gap_first)


def test_atoms_far_shorter_than_the_dual_norm_are_warned_of():
    with pytest.warns(UserWarning, match="whatever `radius` is"):
        one_step(OfRadius(radius=0.1))


def test_a_right_one_is_told_nothing_and_later_answers_are_its_own_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        window = one_step(Own(radius=0.1))
    object.__setattr__(window.inner_loop.ball, "atoms", Uphill(radius=0.1).atoms)
    with window.displaced():
        sum(p.square().sum() for p in window.parameters).backward()
    window.step()
    record = window.close()
    assert (record.steps, record.skipped) == (2, 0)
    assert record.gap_last == 0 < record.gap_first


def test_it_is_found_as_a_part_of_a_product_too():
    ball = ProductBall({"0*": Uphill(radius=0.1), "*": L2Ball(radius=0.1)})
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))]
    infos = [ParameterInfo(name="0"), ParameterInfo(name="1")]
    window = Window(InnerLoop(ball=ball), parameters, infos)
    with window.displaced():
        (parameters[0].sum() + 0.1 * parameters[1].sum()).backward()
    with pytest.raises(ValueError, match="minus sign"):
        window.step()


@pytest.mark.parametrize("first", [0.0, math.inf, math.nan])
def test_it_is_asked_again_where_its_first_gradient_was_no_test(first, monkeypatch):
    for module in (scalars_module, displacement_module):
        monkeypatch.setattr(module, "on_host", lambda device: False)
    weight = torch.nn.Parameter(torch.ones(3))
    window = Window(InnerLoop(ball=Backwards(), steps=2), [weight])
    weight.grad = torch.full((3,), first)
    window.step()
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match="must minimize the inner product with the gradients"):
        window.step()
