"""The network that races."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_fw import InnerLoop
from lightning_fw.nn import FrankWolfeSequenceModel, SequenceModel


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_answer_is_the_head_on_the_last_state(cell):
    model = SequenceModel(cell, input_size=3, output_size=2, hidden_size=5)
    x = torch.randn(4, 7, 3)
    _, last = model.rnn(x)
    last = last[0] if cell == "lstm" else last
    torch.testing.assert_close(model(x), model.head(last[-1]))


def test_the_metric_of_a_classification_is_its_accuracy():
    model = SequenceModel("rnn", input_size=3, output_size=2, kind="classification", hidden_size=5)
    x = torch.randn(50, 7, 3)
    right = model(x).argmax(1)
    wrong = torch.cat([1 - right[:10], right[10:]])
    assert model.metric((x, right)) == 1.0
    assert model.metric((x, wrong)) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("preset", "loop"),
    [
        ("spectral", InnerLoop.spectral()),
        ("paper", InnerLoop.paper()),
        ("authors", InnerLoop.authors(0.25)),
    ],
)
def test_a_preset_is_the_inner_loops(preset, loop):
    model = FrankWolfeSequenceModel(preset=preset, input_size=3, output_size=2, lr=0.25)
    assert model.configure_frank_wolfe() == loop
    (group,) = model.configure_optimizers().param_groups
    assert group["lr"] == loop.outer(model.parameters()).param_groups[0]["lr"]


def test_steps_and_sync_are_the_inner_loops():
    sizes = {"input_size": 3, "output_size": 2}
    local = FrankWolfeSequenceModel(sync="restart", steps=5, **sizes).configure_frank_wolfe()
    assert local == replace(InnerLoop.spectral(), sync="restart", steps=5)
    # One step has no second slope.
    one = FrankWolfeSequenceModel(steps=1, **sizes).configure_frank_wolfe()
    assert one == replace(InnerLoop.spectral(), steps=1, radius_rule=None)


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (0, ValueError, "`steps` must be at least 1, got 0"),
        (2.0, TypeError, "`steps` must be an int, got 2.0"),
    ],
)
def test_steps_are_checked(steps, error, message):
    with pytest.raises(error, match=message):
        FrankWolfeSequenceModel(input_size=3, output_size=2, steps=steps)


@pytest.mark.parametrize("name", ["cell", "kind", "preset", "sync"])
def test_an_unknown_choice_is_named(name):
    with pytest.raises(ValueError, match=f"`{name}` must be one of .*, got 'x'"):
        FrankWolfeSequenceModel(**{"input_size": 3, "output_size": 2, name: "x"})
