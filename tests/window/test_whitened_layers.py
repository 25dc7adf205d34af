"""Which weights whitening is of, and which of them share their spread."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window

from .recurrent_layer import INFOS, LOOP, gradients, make, run


@pytest.mark.parametrize("longer", [0, 1])
def test_a_layer_of_two_precisions_has_the_longer(longer):
    exact, mixed = make(), make()
    mixed[1 - longer] = nn.Parameter(mixed[1 - longer].detach().float())
    (expected,) = run(Window(LOOP, exact, INFOS), exact, 2)
    (found,) = run(Window(LOOP, mixed, INFOS), mixed, 2)
    for index in (0, 1):
        torch.testing.assert_close(found[index].double(), expected[index], rtol=1e-4, atol=1e-5)


def with_and_without(infos):
    """Directions of one window with whitening, and of one without."""
    white, plain = make(), make()
    (found,) = run(Window(LOOP, white, infos), white, 2)
    (expected,) = run(Window(replace(LOOP, whitening=None), plain, infos), plain, 2)
    return found, expected


def test_all_else_goes_as_without_it():
    found, expected = with_and_without(INFOS)
    for index in (2, 3):
        assert torch.equal(found[index], expected[index])
    for index in (0, 1):
        assert not torch.allclose(found[index], expected[index], rtol=0.01)


def test_a_layer_that_reads_symbols_goes_as_without_it():
    found, expected = with_and_without([replace(INFOS[0], reads_symbols=True), *INFOS[1:]])
    for index in (0, 1):
        assert torch.equal(found[index], expected[index])


def test_input_weights_of_units_that_recur_on_themselves_alone_go_as_without_it():
    infos = [INFOS[0], ParameterInfo("mixing"), ParameterInfo("rnn.weight_hh_l0"), INFOS[3]]
    found, expected = with_and_without(infos)
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize(
    ("index", "info"),
    [
        (2, ParameterInfo("other.weight_ih_l0")),
        (1, ParameterInfo("rnn.weight_hh_left")),
        (1, ParameterInfo("rnn.weight_hh_l0_left")),
        (1, ParameterInfo("rnn.parametrizations.weight_hh_left.original")),
        (0, ParameterInfo("rnn.weight_ih_right")),
        (1, ParameterInfo("rnn.weight_hr_l0")),
        (3, ParameterInfo("rnn.weight_hh_l0.head.weight")),
    ],
    ids=[
        "vectors",
        "left factors",
        "of a layer",
        "parametrized",
        "right factors",
        "projections",
        "other names",
    ],
)
def test_other_weights_go_as_without_it(index, info):
    infos = [info if i == index else known for i, known in enumerate(INFOS)]
    found, expected = with_and_without(infos)
    assert torch.equal(found[index], expected[index])


def test_matrices_of_other_heights_share_nothing():
    infos = [ParameterInfo("weight_ih"), ParameterInfo("weight_hh")]
    tall, low = make()[:2]
    low = nn.Parameter(low.detach()[:4].clone())
    alone = nn.Parameter(tall.detach().clone())
    g = gradients(0)
    for parameters in ([tall, low], [alone]):
        window = Window(replace(LOOP, steps=1), parameters, infos[: len(parameters)])
        for p, gradient in zip(parameters, g[:2], strict=False):
            p.grad = gradient[: len(p)].clone()
        window.step()
        window.close()
    torch.testing.assert_close(tall.grad, alone.grad)


@pytest.mark.parametrize(
    "other",
    [
        ParameterInfo("rnn.weight_hh_l1", gates=2),
        ParameterInfo("rnn.weight_hh_l0_reverse", gates=2),
        ParameterInfo("decoder.weight_hh_l0", gates=2),
        ParameterInfo("rnn.weight_hh_l0"),
    ],
    ids=["layer", "way", "module", "gates"],
)
def test_other_layers_have_a_spread_of_their_own(other):
    alone, beside, joint = make(), make(), make()
    recurrent = [(1, 0), (1, 1)]
    (expected,) = run(Window(LOOP, alone, INFOS), alone, 2, missing=recurrent)
    (found,) = run(Window(LOOP, beside, [INFOS[0], other, *INFOS[2:]]), beside, 2)
    torch.testing.assert_close(found[0], expected[0])
    (found,) = run(Window(LOOP, joint, INFOS), joint, 2)
    assert not torch.allclose(found[0], expected[0], rtol=0.01)


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


def test_a_weight_that_thaws_joins_the_spread_of_its_layer():
    parameters, whole = make(), make()
    before = Window(LOOP, parameters[:1], INFOS[:1])
    window = Window(LOOP, whole, INFOS)
    missing = [(index, step) for index in (1, 2, 3) for step in (0, 1)]
    run(window, whole, 2, missing=missing)
    for step in (0, 1):
        before.drop_direction()
        parameters[0].grad = gradients(step)[0]
        before.step()
    before.close()
    after = Window(LOOP, parameters, INFOS)
    after.succeed(before)
    for found, expected in zip(run(after, parameters, 2, 2), run(window, whole, 2, 2), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_parameter_in_front_that_has_no_gradient_changes_nothing():
    missing, found = [(2, step) for step in range(4)], []
    for order in ([0, 1, 2, 3], [2, 0, 1, 3]):
        parameters = make()
        window = Window(LOOP, [parameters[i] for i in order], [INFOS[i] for i in order])
        found.append(run(window, parameters, 4, missing=missing)[-1][0])
    assert torch.equal(*found)
