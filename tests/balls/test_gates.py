"""Matrix balls answer per gate of a recurrent weight; vectors get a ball of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_fw.balls import NuclearBall, RMSBall, RowBall, SpectralBall, _matrix
from lightning_fw.balls._matrix import MatrixBall
from lightning_fw.nn import SBORNN, IndRNN
from lightning_fw.parameters import ParameterInfo, trainable

HIDDEN = 6

MODULES: dict[str, tuple[nn.Module, int]] = {
    "LSTM": (nn.LSTM(3, HIDDEN, num_layers=2, bidirectional=True), 4),
    "GRU": (nn.GRU(3, HIDDEN, bidirectional=True), 3),
    "LSTMCell": (nn.LSTMCell(3, HIDDEN), 4),
    "GRUCell": (nn.GRUCell(3, HIDDEN), 3),
    "RNN": (nn.RNN(3, HIDDEN), 1),
    "Linear": (nn.Linear(3, HIDDEN), 1),
}

BALLS: tuple[MatrixBall, ...] = (
    SpectralBall(radius=0.2, oracle="svd"),
    SpectralBall(radius=0.2),
    RowBall(radius=0.2),
    NuclearBall(radius=0.2),
)
every_ball = pytest.mark.parametrize(
    "ball", BALLS, ids=lambda ball: type(ball).__name__ + getattr(ball, "oracle", "")
)


def gradients_of(module: nn.Module) -> tuple[list[torch.Tensor], list[ParameterInfo]]:
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    parameters, infos = trainable(optimizer.param_groups, module)
    torch.manual_seed(0)
    return [torch.randn(parameter.shape) for parameter in parameters], infos


@every_ball
@pytest.mark.parametrize("kind", MODULES)
def test_atom_stacks_the_atoms_of_the_gates(ball: MatrixBall, kind: str) -> None:
    module, gates = MODULES[kind]
    gradients, infos = gradients_of(module)
    for atom, gradient in zip(ball.lmo(gradients, infos), gradients, strict=True):
        parts = gradient.chunk(gates) if gradient.ndim == 2 else (gradient,)
        alone = [ball.lmo([part])[0] for part in parts]
        torch.testing.assert_close(atom, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_each_gate_of_a_spectral_atom_is_orthogonal(kind: str) -> None:
    module, gates = MODULES[kind]
    gradients, infos = gradients_of(module)
    atom = SpectralBall(radius=0.2, oracle="svd").lmo(gradients, infos)[1]
    for gate in atom.chunk(gates):
        torch.testing.assert_close(gate @ gate.mT, 0.04 * torch.eye(HIDDEN), atol=1e-6, rtol=0)


@every_ball
def test_without_split_gates_the_weight_is_one_matrix(ball: MatrixBall) -> None:
    gradients, infos = gradients_of(MODULES["LSTM"][0])
    stacked = replace(ball, split_gates=False)
    torch.testing.assert_close(
        stacked.lmo(gradients, infos), stacked.lmo(gradients), rtol=0, atol=0
    )
    # Rows are rows of a gate and of the whole.
    of_rows = isinstance(ball, RowBall)
    atom, apart = stacked.lmo(gradients, infos)[1], ball.lmo(gradients, infos)[1]
    assert torch.allclose(atom, apart) == of_rows


@pytest.mark.parametrize(
    ("shape", "info", "reach"),
    [
        ((12, 3), ParameterInfo(), 2.0),
        ((3, 12), ParameterInfo(), 1.0),
        ((12, 3), ParameterInfo(gates=4), 1.0),
        ((24, 3), ParameterInfo(gates=4), math.sqrt(2)),
        ((4, 9), ParameterInfo(reads_symbols=True), 2.0),
        ((16, 9), ParameterInfo(gates=4, reads_symbols=True), 2.0),
    ],
)
def test_scale_by_shape_widens_the_ball_of_a_tall_matrix_and_of_one_that_reads_symbols(
    shape: tuple[int, int], info: ParameterInfo, reach: float
) -> None:
    torch.manual_seed(0)
    gradient, infos = torch.randn(shape), [info]
    for ball in BALLS:
        scaled = replace(ball, scale_by_shape=True)
        atom = ball.lmo([gradient], infos)[0]
        torch.testing.assert_close(scaled.lmo([gradient], infos)[0], reach * atom)
        torch.testing.assert_close(
            scaled.dual_norm([gradient], infos), reach * ball.dual_norm([gradient], infos)
        )
        torch.testing.assert_close(
            scaled.norm([gradient], infos), ball.norm([gradient], infos) / reach
        )


@every_ball
@pytest.mark.parametrize("split_gates", [True, False])
def test_gates_get_a_radius_of_their_own(ball: MatrixBall, split_gates: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 3)
    gradients = [weight, weight.clone(), torch.randn(12)]
    infos = [ParameterInfo(gates=4), ParameterInfo(gates=1), ParameterInfo()]
    ball = replace(ball, split_gates=split_gates)
    usual, wider = (b.lmo(gradients, infos) for b in (ball, replace(ball, gate_radius=3.0)))
    torch.testing.assert_close(wider, [3 * usual[0], usual[1], usual[2]])


@every_ball
@pytest.mark.parametrize("split_gates", [True, False])
def test_gates_that_read_the_input_get_a_radius_of_their_own(
    ball: MatrixBall, split_gates: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 3)
    infos = [
        ParameterInfo("rnn.weight_ih_l0", gates=4),
        ParameterInfo("rnn.weight_hh_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=1),
        ParameterInfo("rnn.weight_ih_l1", gates=4),
        ParameterInfo("rnn.weight_ih_l10_reverse", gates=4),
    ]
    ball = replace(ball, split_gates=split_gates)
    of_their_own = replace(ball, gate_radius=3.0, input_radius=2.0)
    usual, wider = (b.lmo([weight] * 5, infos) for b in (ball, of_their_own))
    expected = [factor * atom for factor, atom in zip((2, 3, 1, 3, 3), usual, strict=True)]
    torch.testing.assert_close(wider, expected)
    norms = of_their_own.norm([weight], infos[:1]), ball.norm([weight], infos[:1])
    torch.testing.assert_close(2 * norms[0], norms[1])


@every_ball
@pytest.mark.parametrize("scale_by_shape", [True, False])
@pytest.mark.parametrize(
    ("width", "reads_symbols", "ratio"), [(1, False, 1.0), (8, False, 0.25), (8, True, 1.0)]
)
def test_gates_that_read_a_wider_input_get_a_smaller_radius(
    ball: MatrixBall, width: int, reads_symbols: bool, ratio: float, scale_by_shape: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(32, width)
    infos = [
        ParameterInfo("rnn.weight_ih_l0", gates=4, reads_symbols=reads_symbols),
        ParameterInfo("rnn.weight_hh_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=1),
        ParameterInfo("head.weight"),
    ]
    ball = replace(ball, scale_by_shape=scale_by_shape)
    usual, less = (b.lmo([weight] * 4, infos) for b in (ball, replace(ball, input_power=2 / 3)))
    torch.testing.assert_close(less, [ratio * usual[0], *usual[1:]])


@every_ball
@pytest.mark.parametrize("scale_by_shape", [True, False])
def test_gates_that_read_little_get_no_more_than_the_limit(
    ball: MatrixBall, scale_by_shape: bool
) -> None:
    torch.manual_seed(0)
    narrow, wide = torch.randn(32, 2), torch.randn(32, 8)
    infos = [
        ParameterInfo("rnn.weight_ih_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=4, reads_symbols=True),
        ParameterInfo("rnn.weight_hh_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=1),
    ]
    weights = [narrow, wide, wide, narrow, narrow]
    unit = ball.lmo(weights, infos)
    ball = replace(ball, scale_by_shape=scale_by_shape, input_radius=8.0, input_power=1.0)
    free, limited = (b.lmo(weights, infos) for b in (ball, replace(ball, input_limit=1.5)))
    limit = 1.5 * (8**0.5 if scale_by_shape else 1.0)
    expected = [limit * unit[0], free[1], limit * unit[2], *free[3:]]
    torch.testing.assert_close(limited, expected)


@every_ball
@pytest.mark.parametrize("scale_by_shape", [True, False])
def test_gates_that_read_symbols_get_a_radius_of_their_own(
    ball: MatrixBall, scale_by_shape: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(32, 3)
    infos = [
        ParameterInfo("rnn.weight_ih_l0", gates=4, reads_symbols=True),
        ParameterInfo("rnn.weight_ih_l0", gates=4),
        ParameterInfo("rnn.weight_hh_l0", gates=4),
        ParameterInfo("rnn.weight_ih_l0", gates=1, reads_symbols=True),
    ]
    (unit,) = ball.lmo([weight], infos[1:2])
    ball = replace(ball, scale_by_shape=scale_by_shape, input_radius=5.0, input_limit=1.0)
    usual, own = (b.lmo([weight] * 4, infos) for b in (ball, replace(ball, symbol_radius=2.0)))
    radius = 2 * (8**0.5 if scale_by_shape else 1.0)
    torch.testing.assert_close(own, [radius * unit, *usual[1:]])


@every_ball
@pytest.mark.parametrize("scale_by_shape", [True, False])
def test_a_head_gets_a_radius_of_its_own(ball: MatrixBall, scale_by_shape: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 12)
    names = ("head.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "")
    infos = [ParameterInfo(name) for name in names]
    ball = replace(ball, scale_by_shape=scale_by_shape)
    of_its_own = replace(ball, head_radius=3.0)
    usual, wider = (b.lmo([weight] * 4, infos) for b in (ball, of_its_own))
    torch.testing.assert_close(wider, [1.5 * usual[0], *usual[1:]])
    norms = of_its_own.norm([weight], infos[:1]), ball.norm([weight], infos[:1])
    torch.testing.assert_close(1.5 * norms[0], norms[1])


@pytest.mark.parametrize("vector_radius", [0.1, 3.0])
def test_vectors_get_an_rms_ball(vector_radius: float) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(7), torch.randn(()), torch.randn(1)]
    expected = RMSBall(radius=vector_radius * 0.2).lmo(gradients)
    for ball in (
        SpectralBall(radius=0.2, vector_radius=vector_radius),
        NuclearBall(radius=0.2, vector_radius=vector_radius),
    ):
        torch.testing.assert_close(ball.lmo(gradients), expected)


@pytest.mark.parametrize("ball", BALLS[:3], ids=lambda ball: type(ball).__name__)
@pytest.mark.parametrize("layer", [IndRNN(2, 5), SBORNN(2, 5)])
def test_units_that_recur_on_themselves_get_what_their_matrix_would(
    ball: MatrixBall, layer: nn.Module
) -> None:
    gradients, infos = gradients_of(layer)
    ball = replace(ball, vector_radius=1.0)
    place = [info.is_recurrent for info in infos].index(True)
    own, info = [gradients[place]], [infos[place]]
    matrix = [torch.diag(*own)]
    expected = ball.lmo(matrix, info)[0]
    tolerance = {"atol": 0.03 * ball.radius, "rtol": 0.0}
    torch.testing.assert_close(torch.diag(ball.lmo(own, info)[0]), expected, **tolerance)
    for norm in (ball.norm, ball.dual_norm):
        torch.testing.assert_close(norm(own, info), norm(matrix, info))
    torch.testing.assert_close(ball.lmo(gradients, infos)[place], ball.lmo(own, info)[0])


def test_matrices_of_one_shape_do_not_mix() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(4, 3), torch.randn(5), 100 * torch.randn(4, 3), torch.randn(8, 3)]
    infos = [ParameterInfo(), ParameterInfo(), ParameterInfo(), ParameterInfo(gates=2)]
    for ball in BALLS:
        together = ball.lmo(gradients, infos)
        for index, gradient in enumerate(gradients):
            alone = ball.lmo([gradient], [infos[index]])[0]
            torch.testing.assert_close(together[index], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "ball", [SpectralBall(radius=0.3), NuclearBall(radius=0.3, iterations=300)]
)
def test_small_matrices_padded_to_one_stack_have_the_same_atoms(ball, monkeypatch):
    shapes = ((16, 2), (16, 4), (3, 16), (1, 4), (16,), (300, 300))
    gradients = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    infos = [ParameterInfo(str(index), gates=4 if index < 2 else 1) for index in range(len(shapes))]
    expected = ball.lmo(gradients, infos)
    stacks = []
    whole = _matrix._joined

    def joined(apart):
        stacks.append((len(apart), len(together := whole(apart))))
        return together

    monkeypatch.setattr(_matrix, "_is_small", lambda m: min(m.shape[1:]) > 1 and m.shape[1] < 256)
    monkeypatch.setattr(_matrix, "_joined", joined)
    torch.testing.assert_close(ball.lmo(gradients, infos), expected, rtol=1e-9, atol=1e-12)
    assert stacks == [(5, 3)]


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", MODULES)
def test_a_layer_that_torch_jit_compiled_stacks_the_gates_that_it_did(name: str) -> None:
    def gates(layer: Any) -> list[int]:
        _, infos = trainable([{"params": list(layer.parameters())}], nn.Sequential(layer))
        return [info.gates for info in infos]

    layer, stacked = MODULES[name]
    assert max(gates(layer)) == stacked
    assert gates(torch.jit.script(layer)) == gates(layer)
    assert gates(torch.jit.trace(layer, torch.zeros(2, 3))) == gates(layer)
