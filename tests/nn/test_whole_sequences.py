"""Inner steps of sequences in chunks: the radius is to follow slopes of the same parts of them."""

from __future__ import annotations

import warnings

import lightning as L
import pytest

from lightning_fw.data import AddingProblem, InChunks
from lightning_fw.nn import FrankWolfeRegressor


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
    return [str(warning.message) for warning in told if "chunks" in str(warning.message)]


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 6}, {"steps": 4}])
def test_steps_that_end_within_them_are_told_with_what_to_pass(settings):
    (message,) = fit_in_chunks(5, **settings)
    got = settings.get("accumulate_grad_batches", 1)
    assert message.startswith(f"`accumulate_grad_batches` should be 4, got {got}: sequences come")
    assert message.endswith("Pass accumulate_grad_batches=4.")


def test_a_last_chunk_that_is_shorter_counts():
    (message,) = fit_in_chunks(7)
    assert message.startswith("`accumulate_grad_batches` should be 3")


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_length": 5, "accumulate_grad_batches": 4},
        {"chunk_length": 5, "accumulate_grad_batches": 8},
        {"chunk_length": 20},
        {"chunk_length": 7, "preset": "paper"},
        {"chunk_length": 5, "steps": 1},
    ],
)
def test_other_steps_are_not(settings):
    assert fit_in_chunks(**settings) == []
