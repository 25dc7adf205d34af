"""The networks that Frank-Wolfe trains, and the presets that they take by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import lightning as L
import pytest
from torch.optim import SGD

from lightning_fw import InnerLoop, SpectralBall
from lightning_fw.data import AddingProblem, CopyMemory, InChunks, TextData
from lightning_fw.nn import FrankWolfeClassifier, FrankWolfeLanguageModel, FrankWolfeRegressor
from lightning_fw.nn.frank_wolfe import preset_loop

SIZES = {"input_size": 3, "output_size": 2, "hidden_size": 4}


@pytest.mark.parametrize(
    ("settings", "loop"),
    [
        ({"preset": "spectral"}, InnerLoop.spectral()),
        ({"preset": "paper"}, InnerLoop.paper()),
        ({"preset": "authors", "lr": 0.25}, InnerLoop.authors(0.25)),
        (
            {"accumulate_grad_batches": 3},
            replace(InnerLoop.spectral(), accumulate_grad_batches=3),
        ),
        ({"sync": "restart", "steps": 5}, replace(InnerLoop.spectral(), sync="restart", steps=5)),
        # One step has no second slope.
        ({"steps": 1}, replace(InnerLoop.spectral(), steps=1, radius_rule=None)),
    ],
)
@pytest.mark.parametrize(
    "network", [FrankWolfeRegressor, FrankWolfeClassifier, FrankWolfeLanguageModel]
)
def test_a_preset_is_the_inner_loops(network, settings, loop):
    model = network(**settings, **SIZES)
    assert model.configure_frank_wolfe() == loop
    (group,) = model.configure_optimizers().param_groups
    assert group["lr"] == loop.outer(model.parameters()).param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": "x"}, ValueError, "`preset` must be one of .*, got 'x'"),
        ({"sync": "x"}, ValueError, "`sync` must be one of .*, got 'x'"),
        ({"steps": 0}, ValueError, "`steps` must be at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "`steps` must be an int, got 2.0"),
        (
            {"accumulate_grad_batches": 0},
            ValueError,
            "`accumulate_grad_batches` must be at least 1, got 0",
        ),
        ({"lr": 0.1}, ValueError, '`lr` must be None with preset="spectral", got 0.1'),
        ({"preset": "authors"}, ValueError, '`lr` must be given with preset="authors", got None'),
        ({"preset": "authors", "lr": -1.0}, ValueError, "`lr` must be positive, got -1.0"),
    ],
)
def test_a_mistake_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        preset_loop(**{"preset": "spectral", **arguments})
    with pytest.raises(error, match=message):
        FrankWolfeRegressor(**SIZES, **arguments)


def test_an_optimizer_beside_the_presets_own_is_refused():
    with pytest.raises(TypeError, match="`optimizer` must be left out, got .*SGD"):
        FrankWolfeRegressor(optimizer=SGD, **SIZES)


def fit(model, data):
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=6,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return trainer


def test_it_trains_on_data_of_its_kind(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 300)
    data = TextData(text, chunk_length=5)
    sizes = {"input_size": data.input_size, "output_size": data.output_size}
    for model, its_data in (
        (FrankWolfeRegressor("gru", input_size=2, output_size=1), AddingProblem(6)),
        (FrankWolfeClassifier("gru", per_step=True, input_size=10, output_size=9), CopyMemory(3)),
        (FrankWolfeLanguageModel("gru", embedding_size=4, **sizes), data),
    ):
        trainer = fit(model, its_data)
        assert trainer.global_step == 3
        assert {"train_loss", "val_metric"} <= set(trainer.callback_metrics)


class OfSymbols(FrankWolfeRegressor):
    """Says itself what its data do not say."""

    reads_symbols = True


@pytest.mark.parametrize(
    ("model", "data", "read"),
    [
        (partial(FrankWolfeClassifier, per_step=True), CopyMemory(3), {"rnn.weight_ih_l0"}),
        (
            partial(FrankWolfeClassifier, per_step=True, accumulate_grad_batches=2),
            InChunks(CopyMemory(3), 12),
            {"rnn.weight_ih_l0"},
        ),
        (FrankWolfeRegressor, AddingProblem(6), set()),
        (OfSymbols, AddingProblem(6), {"rnn.weight_ih_l0"}),
    ],
)
def test_its_ball_knows_of_data_that_are_symbols(model, data, read, monkeypatch):
    seen = set()
    answer = SpectralBall.atoms

    def atoms(ball, gradients, infos, norms=None):
        seen.update(info.name for info in infos if info.reads_symbols)
        return answer(ball, gradients, infos, norms)

    monkeypatch.setattr(SpectralBall, "atoms", atoms)
    sizes = {"input_size": data.input_size, "output_size": data.output_size}
    fit(model("gru", hidden_size=4, **sizes), data)
    assert seen == read


def test_it_refuses_data_of_another_kind():
    model = FrankWolfeLanguageModel("rnn", **SIZES)
    with pytest.raises(ValueError, match='"language" for FrankWolfeLanguageModel, got AddingPro'):
        fit(model, AddingProblem(6))
