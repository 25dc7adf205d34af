"""Windows of sequences in chunks: the radius is to follow slopes of the same parts of them."""

from __future__ import annotations

import warnings

import lightning as L
import pytest

from lightning_fw import InnerLoop
from lightning_fw.data import AddingProblem, InChunks
from lightning_fw.nn import FrankWolfeRegressor
from lightning_fw.nn.whole_sequences import in_whole_sequences


@pytest.mark.parametrize(
    ("chunks", "steps", "accumulated"), [(1, 2, 1), (2, 2, 1), (4, 2, 2), (5, 2, 5), (4, 4, 1)]
)
def test_a_window_ends_with_the_sequences(chunks, steps, accumulated):
    loop = in_whole_sequences(InnerLoop.paper(), chunks)
    assert (loop.steps * loop.accumulate_grad_batches) % chunks == 0
    model = FrankWolfeRegressor(steps=steps, input_size=2, output_size=1)
    loop = in_whole_sequences(model.configure_frank_wolfe(), chunks)
    assert loop.accumulate_grad_batches == accumulated


def fit_in_chunks(chunk_length: int, **settings: object) -> list[str]:
    data = InChunks(AddingProblem(20, train_size=80, val_size=8, batch_size=8), chunk_length)
    model = FrankWolfeRegressor("gru", input_size=2, output_size=1, hidden_size=4, **settings)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        L.Trainer(
            max_steps=4,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(model, data)
    return [str(warning.message) for warning in told if "window" in str(warning.message)]


def test_a_window_that_ends_within_them_is_told_with_what_to_pass():
    (message,) = fit_in_chunks(5)
    assert message.startswith("`accumulate_grad_batches` should be 2, got 1: a window of 2 chunks")
    assert "which has 4" in message


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_length": 5, "accumulate_grad_batches": 2},
        {"chunk_length": 5, "steps": 4},
        {"chunk_length": 10},
        {"chunk_length": 10, "steps": 4},
        {"chunk_length": 7, "preset": "paper"},
    ],
)
def test_other_windows_are_not(settings):
    assert fit_in_chunks(**settings) == []
