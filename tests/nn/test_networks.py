"""What the networks answer, and what they are judged by."""

from __future__ import annotations

import math
import pickle
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw.data import AddingProblem, CopyMemory, SequentialDigits, TextData
from lightning_fw.nn import (
    FrankWolfeClassifier,
    FrankWolfeRegressor,
    LanguageModel,
    SequenceClassifier,
    SequenceRegressor,
)

SIZES = {"input_size": 3, "output_size": 2, "hidden_size": 5}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "irnn"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_answer_is_the_head_on_the_last_states_of_all_directions(
    cell, num_layers, bidirectional
):
    model = SequenceRegressor(cell, num_layers=num_layers, bidirectional=bidirectional, **SIZES)
    x = torch.randn(4, 7, 3)
    _, last = model.rnn(x)
    last = last[0] if cell == "lstm" else last
    # The last layer's directions are the last of h_n.
    last = torch.cat(list(last[-2:] if bidirectional else last[-1:]), dim=-1)
    torch.testing.assert_close(model(x), model.head(last))


def test_a_seed_gives_the_weights_of_the_layer_and_then_the_heads():
    torch.manual_seed(3)
    rnn, head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)
    for make in (SequenceRegressor, SequenceClassifier, partial(LanguageModel, embedding_size=3)):
        torch.manual_seed(3)
        model = make(**SIZES)
        for mine, expected in ((model.rnn, rnn), (model.head, head)):
            for p, q in zip(mine.parameters(), expected.parameters(), strict=True):
                assert torch.equal(p, q)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_per_step_every_state_is_answered(bidirectional):
    model = SequenceClassifier("gru", per_step=True, bidirectional=bidirectional, **SIZES)
    x = torch.randn(4, 7, 3)
    assert model.kind == "classification_per_step"
    torch.testing.assert_close(model(x), model.head(model.rnn(x)[0]))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "irnn"])
def test_the_backward_directions_last_state_is_at_the_first_step(cell):
    model = SequenceRegressor(cell, bidirectional=True, **SIZES)
    states = torch.randn(4, 7, 10)
    expected = model.head(torch.cat([states[:, -1, :5], states[:, 0, 5:]], dim=-1))
    torch.testing.assert_close(model.answer(states), expected)


@pytest.mark.parametrize("num_layers", [None, 2])
def test_a_stack_has_layers_and_dropout_of_its_own(num_layers):
    model = SequenceRegressor("indrnn-stack", num_layers=num_layers, dropout=0.25, **SIZES)
    assert len(model.rnn.layers) == (num_layers or 6)
    assert (model.rnn.dropout, model.dropout.p) == (0.25, 0)


@pytest.mark.parametrize("cell", ["indrnn", "fastrnn", "fastgrnn", "sbo-rnn", "equilibrium"])
def test_what_a_cell_does_not_take_is_refused(cell):
    assert SequenceRegressor(cell, num_layers=1, dropout=0.5, **SIZES).dropout.p == 0.5
    with pytest.raises(ValueError, match=f'`num_layers` must be 1 with cell="{cell}", got 2'):
        SequenceRegressor(cell, num_layers=2, **SIZES)
    for name in (cell, "indrnn-stack"):
        message = f'`bidirectional` must be False with cell="{name}", got True'
        with pytest.raises(ValueError, match=message):
            SequenceRegressor(name, bidirectional=True, **SIZES)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cell": "x"}, ValueError, "`cell` must be one of .*, got 'x'"),
        ({"hidden_size": 0}, ValueError, "`hidden_size` must be at least 1, got 0"),
        ({"input_size": 1.5}, TypeError, "`input_size` must be an int, got 1.5"),
        ({"output_size": 0}, ValueError, "`output_size` must be at least 1, got 0"),
        ({"num_layers": 0}, ValueError, "`num_layers` must be at least 1, got 0"),
        ({"embedding_size": 3, "input_size": 0}, ValueError, "`input_size` must be at least 1, go"),
        ({"dropout": "0"}, TypeError, "`dropout` must be a number, got '0'"),
        ({"dropout": 1.0}, ValueError, r"`dropout` must be in \[0, 1\), got 1.0"),
        ({"embedding_size": 0}, ValueError, "`embedding_size` must be at least 1, got 0"),
        ({"bidirectional": True}, ValueError, "`bidirectional` must be False for a language mod"),
    ],
)
def test_a_wrong_setting_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        LanguageModel(**{**SIZES, **settings})


@pytest.mark.parametrize("per_step", [False, True])
def test_accuracy_is_the_metric_of_a_classification(per_step):
    model = SequenceClassifier("rnn", per_step=per_step, **SIZES)
    x = torch.randn(50, 7, 3)
    right = model(x).argmax(-1)
    wrong = torch.cat([1 - right[:10], right[10:]])
    assert model.metric((x, right)) == 1.0
    assert model.metric((x, wrong)) == pytest.approx(0.8)
    chances = model(x).log_softmax(-1).gather(-1, wrong.unsqueeze(-1))
    torch.testing.assert_close(model.loss((x, wrong)), -chances.mean())
    # Equal chances for two classes.
    nn.init.zeros_(model.head.weight)
    nn.init.constant_(model.head.bias, 3.0)
    assert model.loss((x, right)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("network", "shape", "wanted"),
    [
        (SequenceClassifier, (50, 1), r"\(50,\)"),
        (SequenceRegressor, (50,), r"\(50, 2\)"),
    ],
)
def test_targets_that_would_broadcast_are_refused(network, shape, wanted):
    model = network("rnn", **SIZES)
    batch = torch.randn(50, 7, 3), torch.zeros(shape, dtype=torch.long)
    for measure in (model.loss, model.metric):
        with pytest.raises(ValueError, match=rf"`y` must have the shape {wanted}, as the network"):
            measure(batch)


def test_tokens_of_the_transposed_shape_are_refused():
    model, x = LanguageModel(input_size=6, output_size=6), torch.randint(6, (3, 9))
    for measure in (model.loss, model.metric):
        with pytest.raises(ValueError, match=r"`y` must have the shape \(3, 9\), .* got \(9, 3\)"):
            measure((x, x.mT))


def test_mean_squared_error_is_loss_and_metric_of_a_regression():
    model = SequenceRegressor("rnn", **SIZES)
    x, y = torch.randn(50, 7, 3), torch.randn(50, 2)
    expected = (model(x) - y).square().mean()
    torch.testing.assert_close(model.loss((x, y)), expected)
    assert model.metric((x, y)) == pytest.approx(expected.item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_squared_errors_in_half_precision_are_added_up_in_float32(dtype):
    model = SequenceRegressor("lstm", **SIZES)
    y, predictions = (torch.randn(300, 2).to(dtype) for _ in range(2))
    expected = (predictions.double() - y.double()).square().mean().item()
    for measure in (model.criterion, model.score):
        assert measure(predictions, y).item() == pytest.approx(expected, rel=1e-6)
    predictions.requires_grad_()
    model.criterion(predictions, y).backward()
    torch.testing.assert_close(predictions.grad, (predictions - y).detach() / 300)


@pytest.mark.parametrize("embedding_size", [None, 4])
def test_nats_a_token_are_loss_and_metric_of_a_language_model(embedding_size):
    model = LanguageModel(input_size=6, output_size=6, embedding_size=embedding_size)
    x, y = torch.randint(6, (2, 3, 9))
    table = torch.eye(6) if embedding_size is None else model.embedding.weight
    logits = model.head(model.rnn(table[x])[0]).log_softmax(-1)
    expected = -logits.gather(-1, y.unsqueeze(-1)).mean()
    torch.testing.assert_close(model.loss((x, y)), expected)
    assert model.metric((x, y)) == pytest.approx(expected.item())
    assert model.double().loss((x, y)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_perplexity_is_that_of_the_mean_over_all_tokens(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 60)
    data = TextData(text, batch_size=3, chunk_length=4)
    model = LanguageModel(input_size=data.input_size, output_size=data.output_size)
    logged = L.Trainer(**QUIET).validate(model, data, verbose=False)[0]
    assert logged["val_loss"] == logged["val_metric"]
    assert logged["val_perplexity"] == pytest.approx(math.exp(logged["val_loss"]))
    # Chunks of 4, 4, …, and a last one that is shorter.
    batches = list(data.val_dataloader())
    sizes = [y.numel() for _, y in batches]
    assert sizes[-1] < sizes[0]
    # Read with the state carried, they are one row each.
    x, y = (torch.cat(parts, dim=1) for parts in zip(*batches, strict=True))
    assert logged["val_loss"] == pytest.approx(model.metric((x, y)), rel=1e-5)
    tested = L.Trainer(**QUIET).test(model, data, verbose=False)[0]["test_metric"]
    x, y = (torch.cat(parts, dim=1) for parts in zip(*data.test_dataloader(), strict=True))
    assert tested == pytest.approx(model.metric((x, y)), rel=1e-5)


@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        (SequenceRegressor, CopyMemory(1, train_size=4), "got CopyMemory of .*per_step=True"),
        (FrankWolfeClassifier, AddingProblem(5, train_size=4), "Pass it to a SequenceRegressor or"),
        (
            partial(SequenceClassifier, per_step=True),
            SequentialDigits(),
            '"classification_per_step" for SequenceClassifier, got SequentialDigits',
        ),
        (FrankWolfeRegressor, TextData("none.txt"), "Pass it to a LanguageModel"),
    ],
)
def test_data_of_another_kind_is_refused(network, data, message):
    with pytest.raises(ValueError, match=f"`datamodule` must be of the kind .*{message}"):
        L.Trainer(max_steps=1, **QUIET).fit(network(**SIZES), data)


def test_more_symbols_or_classes_than_the_network_knows_are_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 50)
    trainer = L.Trainer(max_steps=1, **QUIET)
    data = TextData(text, level="character", chunk_length=5)
    for size in (None, 12):
        model = LanguageModel(input_size=8, output_size=9, embedding_size=size)
        with pytest.raises(ValueError, match="`input_size` must be at least 9, that of TextDat"):
            trainer.fit(model, data)
    with pytest.raises(ValueError, match="`output_size` must be at least 10, that of Sequential"):
        trainer.fit(SequenceClassifier(input_size=8, output_size=9), SequentialDigits(by="row"))


def test_every_network_can_be_pickled():
    for network in (SequenceRegressor, SequenceClassifier, LanguageModel, FrankWolfeClassifier):
        model = network(**SIZES)
        weights = pickle.loads(pickle.dumps(model)).state_dict()
        torch.testing.assert_close(weights, model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("network", "data"),
    [
        (SequenceRegressor("rnn", input_size=2, output_size=1), AddingProblem(6)),
        # There may be more classes than in the data.
        (SequenceClassifier("rnn", input_size=8, output_size=12), SequentialDigits()),
        (
            SequenceClassifier("rnn", per_step=True, input_size=10, output_size=9),
            CopyMemory(3),
        ),
    ],
)
def test_every_network_trains_on_data_of_its_kind(network, data):
    few = {"limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    trainer = L.Trainer(max_epochs=1, **few, **QUIET)
    trainer.fit(network, data)
    assert {"train_loss", "val_metric"} <= set(trainer.callback_metrics)
    trainer.test(network, data, verbose=False)
    assert "test_metric" in trainer.callback_metrics


def test_the_optimizer_is_the_one_asked_for():
    model = SequenceRegressor(optimizer=partial(torch.optim.SGD, lr=0.5), **SIZES)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.5
    default = SequenceRegressor(**SIZES).configure_optimizers()
    assert (type(default), default.param_groups[0]["lr"]) == (torch.optim.Adam, 1e-3)


def test_loss_and_metric_stand_in_the_progress_bar():
    few = {"limit_train_batches": 2, "limit_val_batches": 1}
    trainer = L.Trainer(max_epochs=1, **few, **QUIET)
    trainer.fit(SequenceRegressor("rnn", input_size=2, output_size=1), AddingProblem(6))
    assert {"train_loss", "val_metric"} <= set(trainer.progress_bar_metrics)
