"""Whitening before the oracle: U L⁻¹ m of a recurrent layer, from the formula once more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw import L2Ball
from lightning_fw.balls._polar import polar_newton_schulz
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window, whitening
from lightning_fw.window.whitening import _cholesky

from .recurrent_layer import INFOS, LOOP, SHAPES, gradients, make, run


def polar(matrices):
    u, _, vh = torch.linalg.svd(matrices)
    return u @ vh


@pytest.fixture
def exact_rotations(monkeypatch):
    monkeypatch.setattr(whitening, "polar_newton_schulz", polar)


def atoms_by_formula(steps, missing=()):
    """Unit atoms of input and recurrent weights, gate by gate, at each step of windows of two."""
    found = []
    averages, c, rotation = [0, 0], 0, None
    for step in range(steps):
        if step % 2 == 0:
            rotation = None
        g = [g.reshape(2, 4, -1) for g in gradients(step)[:2]]
        here = [index for index in (0, 1) if (index, step) not in missing]
        atoms = [torch.zeros_like(part) for part in g]
        found.append(atoms)
        if not here:
            continue
        c = 0.8 * c + 0.2 * sum(g[index] @ g[index].mT for index in here)
        ridge = 1e-7 * c.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        factors = torch.linalg.cholesky(c + ridge * torch.eye(4))
        if rotation is None:
            rotation = polar(factors)
        for index in here:
            beta = (0.9, 0.6)[index]
            averages[index] = beta * averages[index] + (1 - beta) * g[index]
            ahead = beta * averages[index] + (1 - beta) * g[index]
            white = rotation @ torch.linalg.inv(factors) @ ahead
            u, s, vh = torch.linalg.svd(white, full_matrices=False)
            atoms[index] = -(u * (s > 1e-9)[:, None]) @ vh
    return found


@pytest.mark.parametrize(
    "missing",
    [(), [(0, 0)], [(0, 1)], [(1, 2)], [(0, 2), (1, 2)]],
    ids=["none", "first", "second", "recurrent", "both"],
)
def test_every_window_goes_by_the_formula(missing, exact_rotations):
    parameters = make()
    directions = run(Window(LOOP, parameters, INFOS), parameters, 6, missing=missing)
    atoms = atoms_by_formula(6, missing)
    for restart, direction in enumerate(directions):
        for index in (0, 1):
            d = torch.zeros_like(atoms[0][index])
            for k in (0, 1):
                d = d + 2 / (k + 2) * (atoms[2 * restart + k][index] - d)
            expected = -0.1 * d.reshape(SHAPES[index])
            torch.testing.assert_close(direction[index], expected, rtol=1e-6, atol=1e-8)


def test_the_first_step_of_a_window_has_the_symmetric_root(exact_rotations):
    parameters = make()
    (direction,) = run(Window(replace(LOOP, steps=1), parameters, INFOS), parameters, 1)
    g = [g.reshape(2, 4, -1) for g in gradients(0)[:2]]
    values, vectors = torch.linalg.eigh(sum(part @ part.mT for part in g))
    root = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
    for index in (0, 1):
        u, _, vh = torch.linalg.svd(root @ g[index], full_matrices=False)
        expected = 0.1 * (u @ vh).reshape(SHAPES[index])
        torch.testing.assert_close(direction[index], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_it_needs_no_momentum(dtype):
    found = []
    for changes in ({}, {"momentum": 0.0, "recurrent_momentum": None, "nesterov": False}):
        parameters = make(dtype)
        loop = replace(LOOP, steps=1, **changes)
        found.append(run(Window(loop, parameters, INFOS), parameters, 1)[0])
    # An average of one gradient points where that does.
    for index in (0, 1):
        torch.testing.assert_close(found[0][index], found[1][index])


def test_products_find_the_root_to_three_percent():
    torch.manual_seed(0)
    factors = torch.randn(3, 32, 64, dtype=torch.float64)
    factors *= torch.logspace(0, -2, 32, dtype=torch.float64)[:, None]
    covariances = factors @ factors.mT
    scales = covariances.diagonal(dim1=-2, dim2=-1).sum(-1).rsqrt()[:, None, None]
    values, vectors = torch.linalg.eigh(covariances)
    exact = vectors @ torch.diag_embed(values.sqrt()) @ vectors.mT
    factor = _cholesky(covariances)
    inverse_root = polar_newton_schulz(factor) @ torch.linalg.inv(factor)
    identity = inverse_root * scales @ exact
    apart = torch.linalg.matrix_norm(identity - torch.eye(32), 2)
    assert apart.max() < 0.03 + 1e-3  # the ridge


def test_a_direction_does_not_depend_on_the_scale_of_gradients():
    plain, small = make(), make()
    (expected,) = run(Window(LOOP, plain, INFOS), plain, 2)
    (found,) = run(Window(LOOP, small, INFOS), small, 2, scale=1e-20)
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_gradients_that_are_zero_move_nothing():
    parameters = make()
    (found,) = run(Window(LOOP, parameters, INFOS), parameters, 2, scale=0.0)
    assert all(torch.equal(direction, torch.zeros_like(direction)) for direction in found)


def test_a_skipped_step_leaves_no_trace():
    parameters, straight = make(), make()
    loop = replace(LOOP, steps=3)
    window = Window(loop, parameters, INFOS)
    run(window, parameters, 2)
    for p in parameters:
        p.grad = torch.full_like(p, torch.nan)
    window.step()
    window.close()
    after = run(window, parameters, 3, start=2)
    other = Window(loop, straight, INFOS)
    run(other, straight, 2)
    other.close()
    expected = run(other, straight, 3, start=2)
    for ours, theirs in zip(after[0], expected[0], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steps_before", [1, 2, 3])
def test_a_saved_window_and_a_successor_go_on_to_the_last_bit(steps_before, tmp_path):
    straight, saved, known = make(), make(), make()
    expected = run(Window(LOOP, straight, INFOS), straight, 6)
    window = Window(LOOP, saved, INFOS)
    run(window, saved, steps_before)
    torch.save(window.state_dict(), tmp_path / "state.pt")
    resumed = make()
    again = Window(LOOP, resumed, INFOS)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    before = Window(LOOP, known, INFOS)
    run(before, known, steps_before)
    successor = Window(LOOP, known, INFOS)
    successor.succeed(before)
    for window, parameters in ((again, resumed), (successor, known)):
        found = run(window, parameters, 6 - steps_before, start=steps_before)
        for ours, theirs in zip(found, expected[-len(found) :], strict=True):
            assert all(map(torch.equal, ours, theirs))


def test_a_state_of_other_weights_is_refused():
    apart = [INFOS[0], ParameterInfo("other.weight_hh", gates=1), *INFOS[2:]]
    state = Window(LOOP, make(), apart).state_dict()
    found = r"\[\(2, 4, 4\), \(1, 8, 8\)\]"
    with pytest.raises(
        ValueError, match=rf"has a covariance of shapes {found}, expected \[\(2, 4, 4\)\]"
    ):
        Window(LOOP, make(), INFOS).load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_other_precisions_go_about_the_same_way(dtype):
    exact, rough = make(), make(dtype)
    (expected,) = run(Window(LOOP, exact, INFOS), exact, 2)
    (found,) = run(Window(LOOP, rough, INFOS), rough, 2)
    for index in (0, 1):
        cosine = nn.functional.cosine_similarity(
            found[index].double().flatten(), expected[index].flatten(), dim=0
        )
        assert cosine > 0.99


def test_the_gap_is_that_along_what_the_ball_answered():
    weight = [nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))]
    loop = replace(LOOP, ball=L2Ball(radius=0.1), nesterov=False, recurrent_momentum=None)
    window = Window(loop, weight, [ParameterInfo("weight_ih")])
    gradient = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    weight[0].grad = gradient.clone()
    window.step(last=True)
    record = window.close()
    # Whitened, the first gradient has singular values of one length: the atom is −δ I / 2.
    assert record.gap_first == pytest.approx(0.1 * 0.1 * 10.0 / 2, rel=0.03)


def test_under_autocast_it_goes_the_same_way():
    plain, rough = make(torch.float32), make(torch.float32)
    (expected,) = run(Window(LOOP, plain, INFOS), plain, 2)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = run(Window(LOOP, rough, INFOS), rough, 2)
    for index in (0, 1):
        assert torch.equal(found[index], expected[index])
