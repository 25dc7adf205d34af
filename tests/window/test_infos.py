"""What a window is told of its parameters, in a list of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, SpectralBall
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window


def test_parameters_keep_their_infos_beside_empty_and_tied_ones():
    empty, gates, head = (nn.Parameter(torch.randn(s)) for s in ((0, 2), (8, 2), (2, 4)))
    infos = [ParameterInfo(name) for name in ("empty", "weight_hh", "tied", "head")]
    window = Window(InnerLoop(ball=SpectralBall()), [empty, gates, gates, head], infos)
    assert all(x is y for x, y in zip(window.parameters, (gates, head), strict=True))
    assert [info.name for info in window.infos] == ["weight_hh", "head"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_infos_of_more_or_fewer_parameters_are_refused(count):
    parameters = [nn.Parameter(torch.randn(2, 2)) for _ in range(2)]
    with pytest.raises(ValueError, match=f"`infos` must tell of each of 2 .* got {count}. Pass"):
        Window(InnerLoop(), parameters, [ParameterInfo("weight")] * count)


def test_gates_that_do_not_divide_the_rows_are_refused():
    weight = nn.Parameter(torch.randn(10, 4))
    window = Window(InnerLoop(ball=SpectralBall()), [weight], [ParameterInfo("weight_hh", gates=4)])
    with window.displaced():
        weight.square().sum().backward()
    with pytest.raises(ValueError, match=r"`gates` of weight_hh must divide its rows, got 4 for"):
        window.step()


@pytest.mark.parametrize(("gates", "error"), [(0, ValueError), (2.0, TypeError)])
def test_gates_are_counted(gates, error):
    with pytest.raises(error, match="`gates` must be"):
        ParameterInfo("weight_hh", gates=gates)
