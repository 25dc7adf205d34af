"""A memory of their own for recurrent weights: each tensor as if it were alone with its β."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, OpenLoop, ProductBall, SpectralBall
from lightning_fw.nn.cells import CELLS, make_cell
from lightning_fw.parameters import ParameterInfo, trainable
from lightning_fw.window import Window

INFOS = [
    ParameterInfo("rnn.weight_ih_l0", gates=2),
    ParameterInfo("rnn.weight_hh_l0", gates=2),
    ParameterInfo("head.weight"),
    ParameterInfo("head.bias"),  # has a gradient at every step, so that each of them is one
]
LOOP = InnerLoop(
    ball=SpectralBall(radius=0.1, oracle="svd"),
    steps=3,
    step_size=OpenLoop(),
    momentum=0.9,
    recurrent_momentum=0.6,
    direction="displacement",
)


def directions(loop, shapes, infos, missing=()):
    """What two windows hand over on gradients that depend on the tensor's place in them alone."""
    parameters = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
    window = Window(loop, parameters, infos)
    found = []
    for restart in range(2):
        for k in range(loop.steps):
            for p, info in zip(parameters, infos, strict=True):
                seed = 100 * restart + 10 * k + INFOS.index(info)
                gradient = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
                p.grad = None if (INFOS.index(info), k) in missing else gradient.double()
            window.step()
        window.close()
        found.append([p.grad.clone() for p in parameters])
    return found


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("ball", [LOOP.ball, L2Ball(radius=0.1)], ids=["spectral", "l2"])
@pytest.mark.parametrize("missing", [(), ((1, 1), (0, 2))], ids=["all", "some"])
def test_each_tensor_goes_where_it_would_alone(nesterov, ball, missing):
    shapes = [(6, 2), (6, 3), (2, 3), (2,)]
    loop = replace(LOOP, nesterov=nesterov, ball=ball)
    together = directions(loop, shapes, INFOS, missing)
    for index, beta in enumerate((0.9, 0.6, 0.9)):
        mine = replace(loop, momentum=beta, recurrent_momentum=None)
        alone = directions(mine, [shapes[index], shapes[-1]], [INFOS[index], INFOS[-1]], missing)
        for several, (one, _) in zip(together, alone, strict=True):
            torch.testing.assert_close(several[index], one, rtol=1e-12, atol=1e-15)


def test_a_recurrent_momentum_of_zero_answers_the_gradients():
    loop = replace(LOOP, recurrent_momentum=0.0)
    (ours,) = directions(loop, [(6, 3)], INFOS[1:2])[0]
    (plain,) = directions(
        replace(LOOP, momentum=0.0, recurrent_momentum=None), [(6, 3)], INFOS[1:2]
    )[0]
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("loop", "named"),
    [
        (LOOP, "recurrent_momentum"),
        (
            InnerLoop.spectral(),
            "gate_radius, input_power, input_radius, input_limit, symbol_radius, head_radius, "
            "recurrent_momentum, whitening",
        ),
        (InnerLoop(ball=L2Ball(scope="group")), 'scope="group"'),
        (InnerLoop(ball=ProductBall({"*": SpectralBall(gate_radius=3.0)})), "gate_radius"),
        (InnerLoop(ball=ProductBall({"b*": L2Ball(), "*": L2Ball()})), r"the pattern 'b\*'"),
    ],
    ids=["momentum", "spectral", "group", "within a product", "patterns"],
)
def test_settings_that_go_by_names_or_groups_need_them(loop, named):
    with pytest.raises(ValueError, match=f"`infos` must tell of parameters what {named} goes by"):
        Window(loop, [nn.Parameter(torch.zeros(6, 3))])


def test_a_pattern_may_wait_only_for_parameters_that_a_successor_brings():
    loop = InnerLoop(ball=ProductBall({"rnn*": L2Ball(), "*": L2Ball()}))
    weight, infos = [nn.Parameter(torch.zeros(6, 3))], [ParameterInfo("head.weight")]
    with pytest.raises(ValueError, match=r"the pattern 'rnn\*', which gets no parameter of head"):
        Window(loop, weight, infos)
    assert Window(loop, weight, infos, may_grow=True).is_fresh


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_of_every_cell_are_known(cell):
    module = nn.ModuleDict({"rnn": make_cell(cell, 3, 4), "head": nn.Linear(4, 2)})
    _, infos = trainable([{"params": list(module.parameters())}], module)
    recurrent = {info.name for info in infos if info.is_recurrent}
    assert recurrent == {info.name for info in infos if "weight_hh" in info.name}
    assert recurrent
