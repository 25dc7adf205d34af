"""Whitening before the oracle: U L⁻¹ m of input weights, from the formula once more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, OpenLoop, SpectralBall
from lightning_fw.balls._polar import polar_newton_schulz
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window, whitening
from lightning_fw.window.whitening import _cholesky

LOOP = InnerLoop(
    ball=SpectralBall(radius=0.1, oracle="svd"),
    steps=2,
    step_size=OpenLoop(),
    momentum=0.9,
    recurrent_momentum=0.6,
    nesterov=True,
    direction="displacement",
    whitening=True,
)
INFOS = [
    ParameterInfo("rnn.weight_ih_l0", gates=2),
    ParameterInfo("rnn.weight_hh_l0", gates=2),
    ParameterInfo("rnn.bias_ih_l0"),
    ParameterInfo("head.weight"),
]
SHAPES = [(8, 3), (8, 4), (8,), (3, 4)]


def polar(matrices):
    u, _, vh = torch.linalg.svd(matrices)
    return u @ vh


@pytest.fixture
def exact_rotations(monkeypatch):
    monkeypatch.setattr(whitening, "polar_newton_schulz", polar)


def make(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]


def gradients(step, scale=1.0):
    generator = torch.Generator().manual_seed(100 + step)
    return [
        scale
        * torch.randn(s, generator=generator, dtype=torch.float64)
        @ torch.diag(torch.logspace(0, -1, s[-1], dtype=torch.float64))
        for s in SHAPES
    ]


def run(window, parameters, steps, start=0, missing=(), scale=1.0):
    """Directions of the windows that these steps close."""
    found = []
    for step in range(start, start + steps):
        window.drop_direction()
        for index, (p, g) in enumerate(zip(parameters, gradients(step, scale), strict=True)):
            p.grad = None if (index, step) in missing else g.to(p.dtype)
        window.step()
        if window.is_full:
            window.close()
            found.append([None if p.grad is None else p.grad.clone() for p in parameters])
    return found


def atoms_by_formula(steps, missing=()):
    """Unit atoms of the input weights, gate by gate, at each step of windows of two."""
    found = []
    m, c, rotation = 0, 0, None
    for step in range(steps):
        if step % 2 == 0:
            rotation = None
        if step in missing:
            found.append(torch.zeros(2, 4, 3, dtype=torch.float64))
            continue
        g = gradients(step)[0].reshape(2, 4, 3)
        m = 0.9 * m + 0.1 * g
        c = 0.9 * c + 0.1 * g @ g.mT
        ridge = 1e-7 * c.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        factors = torch.linalg.cholesky(c + ridge * torch.eye(4))
        if rotation is None:
            rotation = polar(factors)
        white = rotation @ torch.linalg.inv(factors) @ (0.9 * m + 0.1 * g)
        u, s, vh = torch.linalg.svd(white, full_matrices=False)
        found.append(-(u * (s > 1e-9)[:, None]) @ vh)
    return found


@pytest.mark.parametrize(
    "missing", [(), (0,), (1,), (2,)], ids=["none", "first", "second", "third"]
)
def test_every_window_goes_by_the_formula(missing, exact_rotations):
    parameters = make()
    absent = [(0, step) for step in missing]
    directions = run(Window(LOOP, parameters, INFOS), parameters, 6, missing=absent)
    atoms = atoms_by_formula(6, missing)
    for restart, direction in enumerate(directions):
        d = torch.zeros(2, 4, 3, dtype=torch.float64)
        for k in (0, 1):
            d = d + 2 / (k + 2) * (atoms[2 * restart + k] - d)
        torch.testing.assert_close(direction[0], -0.1 * d.reshape(8, 3), rtol=1e-6, atol=1e-8)


def test_the_first_step_of_a_window_has_the_symmetric_root(exact_rotations):
    parameters = make()
    (direction,) = run(Window(replace(LOOP, steps=1), parameters, INFOS), parameters, 1)
    g = gradients(0)[0].reshape(2, 4, 3)
    # Whitened, the first gradient is its own polar factor.
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    torch.testing.assert_close(direction[0], 0.1 * (u @ vh).reshape(8, 3), rtol=1e-5, atol=1e-6)


def test_all_else_goes_as_without_it():
    white, plain = make(), make()
    (found,) = run(Window(LOOP, white, INFOS), white, 2)
    (expected,) = run(Window(replace(LOOP, whitening=False), plain, INFOS), plain, 2)
    for index in (1, 2, 3):
        assert torch.equal(found[index], expected[index])
    assert not torch.allclose(found[0], expected[0], rtol=0.01)


def test_input_weights_of_units_that_recur_on_themselves_alone_go_as_without_it():
    infos = [INFOS[0], ParameterInfo("mixing"), ParameterInfo("rnn.weight_hh_l0"), INFOS[3]]
    white, plain = make(), make()
    (found,) = run(Window(LOOP, white, infos), white, 2)
    (expected,) = run(Window(replace(LOOP, whitening=False), plain, infos), plain, 2)
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize(
    ("index", "info"),
    [
        (0, ParameterInfo("rnn.weight_ih_l0", gates=2, reads_symbols=True)),
        (2, ParameterInfo("rnn.weight_ih_l0")),
    ],
    ids=["of symbols", "vectors"],
)
def test_other_input_weights_go_as_without_it(index, info):
    infos = [info if i == index else known for i, known in enumerate(INFOS)]
    white, plain = make(), make()
    (found,) = run(Window(LOOP, white, infos), white, 2)
    (expected,) = run(Window(replace(LOOP, whitening=False), plain, infos), plain, 2)
    assert torch.equal(found[index], expected[index])


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
    symbols = [replace(INFOS[0], reads_symbols=True), *INFOS[1:]]
    state = Window(LOOP, make(), symbols).state_dict()
    with pytest.raises(
        ValueError, match=r"has a covariance of shapes \[\], expected \[\(2, 4, 4\)\]"
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


def test_it_needs_to_know_the_parameters():
    with pytest.raises(ValueError, match="what recurrent_momentum, whitening goes by, got None"):
        Window(LOOP, make())


def test_gates_that_do_not_divide_the_rows_are_told_before_training():
    infos = [replace(info, gates=3) if info.gates > 1 else info for info in INFOS]
    with pytest.raises(ValueError, match="`gates` of rnn.weight_ih_l0 must divide its rows, got 3"):
        Window(LOOP, make(), infos)


def test_a_layer_that_joins_starts_without_a_past():
    parameters = make()
    first = Window(LOOP, parameters[2:], INFOS[2:])
    for p, g in zip(parameters[2:], gradients(0)[2:], strict=True):
        p.grad = g
    first.step()
    joined = Window(LOOP, parameters, INFOS)
    joined.succeed(first)
    (found,) = run(joined, parameters, 1, start=1)
    alone = make()
    window = Window(replace(LOOP, steps=1), alone, INFOS)
    (expected,) = run(window, alone, 1, start=1)
    # The second of two steps goes 2/3 of the way to its atom.
    torch.testing.assert_close(found[1], expected[1] * 2 / 3)


def test_under_autocast_it_goes_the_same_way():
    plain, rough = make(torch.float32), make(torch.float32)
    (expected,) = run(Window(LOOP, plain, INFOS), plain, 2)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = run(Window(LOOP, rough, INFOS), rough, 2)
    for index in (0, 1):
        assert torch.equal(found[index], expected[index])


def test_a_parameter_in_front_that_has_no_gradient_changes_nothing():
    missing, found = [(2, step) for step in range(4)], []
    for order in ([0, 1, 2, 3], [2, 0, 1, 3]):
        parameters = make()
        window = Window(LOOP, [parameters[i] for i in order], [INFOS[i] for i in order])
        found.append(run(window, parameters, 4, missing=missing)[-1][0])
    assert torch.equal(*found)
