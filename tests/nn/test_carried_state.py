"""A chunk starts from the state, detached, at which the one before it ended."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import get_args

import lightning as L
import pytest
import torch
from torch.nn import functional
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from lightning_fw.data import InChunks
from lightning_fw.nn import (
    FrankWolfeClassifier,
    LanguageModel,
    SequenceClassifier,
    SequenceRegressor,
)
from lightning_fw.nn.carried_state import CarriedState
from lightning_fw.nn.cells import Cell
from tests.nn.chunked import A_BATCH, CHUNK, STEPS, Few, Watch, assert_same_weights, fit

# What they look at is the state, not where a window ends.
pytestmark = pytest.mark.filterwarnings("ignore:`accumulate_grad_batches` should be")

SIZES = {"input_size": 2, "output_size": 3, "hidden_size": 4}
sgd = partial(SGD, lr=0.1)


def chunked(kind="classification", **settings):
    return InChunks(Few(kind, **settings), CHUNK)


def put(model, weights):
    for parameter, value in zip(model.parameters(), weights, strict=True):
        parameter.data.copy_(value)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize(
    ("cell", "num_layers"), [("rnn", 1), ("lstm", 2), ("gru", 1), ("indrnn", None)]
)
def test_gradients_are_those_of_chunks_run_by_hand(cell, num_layers, per_step):
    watch = Watch()
    model = SequenceClassifier(
        cell, num_layers=num_layers, per_step=per_step, optimizer=sgd, **SIZES
    )
    fit(model, chunked("classification_per_step" if per_step else "classification"), watch)
    assert len(watch.gradients) == 2 * 3 * A_BATCH
    by_hand, state = copy.deepcopy(model), None
    for batch, weights, gradients in zip(
        watch.batches, watch.weights, watch.gradients, strict=True
    ):
        put(by_hand, weights)
        states, end = by_hand.rnn(batch.x) if batch.starts else by_hand.rnn(batch.x, state)
        logits = by_hand.head(states if per_step else states[:, -1])
        loss = functional.cross_entropy(logits.flatten(0, -2), batch.y.flatten())
        expected = torch.autograd.grad(loss, list(by_hand.parameters()))
        torch.testing.assert_close(gradients, list(expected), rtol=1e-5, atol=1e-7)
        # What the next chunk starts from was run with these weights, and is not gone back through.
        state = tuple(s.detach() for s in end) if isinstance(end, tuple) else end.detach()
    assert {chunk.x.shape[1] for chunk in watch.batches} == {3, 1}


@pytest.mark.parametrize("chunk_length", [STEPS, 100])
@pytest.mark.parametrize("network", [SequenceClassifier, FrankWolfeClassifier])
def test_one_chunk_a_sequence_is_plain_back_propagation(network, chunk_length):
    models = []
    for data in (Few(), InChunks(Few(), chunk_length)):
        torch.manual_seed(0)
        models.append(fit(network("lstm", **SIZES), data))
    assert_same_weights(*models)


# Batch norm takes its statistics over what it reads: a chunk's are not those of the sequences.
@pytest.mark.parametrize("cell", [cell for cell in get_args(Cell) if cell != "indrnn-stack"])
def test_with_fixed_weights_the_states_of_chunks_are_those_of_the_sequences(cell):
    chunks, whole = Watch(), Watch()
    model = SequenceClassifier(cell, optimizer=partial(SGD, lr=0.0), **SIZES)
    fit(model, chunked(), chunks)
    fit(model, Few(), whole)
    joined = [
        torch.cat(chunks.states[i : i + A_BATCH], dim=1)
        for i in range(0, len(chunks.states), A_BATCH)
    ]
    torch.testing.assert_close(joined, whole.states)


def test_the_state_of_a_stack_is_that_of_all_its_layers():
    watch = Watch()
    model = SequenceClassifier("indrnn-stack", num_layers=2, optimizer=sgd, **SIZES)
    fit(model, chunked(), watch)
    assert watch.starts[1].shape == (2, 4, 4)
    assert torch.equal(watch.starts[1], watch.ends[0])


class Paper(FrankWolfeMixin, SequenceRegressor):
    """Lands where a window ended."""

    radius, steps, batches = 0.05, 4, "successive"

    def configure_frank_wolfe(self):
        ball = L2Ball(radius=self.radius)
        return InnerLoop(ball=ball, steps=self.steps, batches=self.batches)

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=self.radius)


def test_a_window_goes_across_batches_as_one_written_by_hand():
    watch = Watch()
    model = Paper("gru", **SIZES)
    by_hand = copy.deepcopy(model).double()
    fit(model, chunked("regression"), watch, precision="64-true")
    parameters, state = list(by_hand.parameters()), None
    # Nine chunks an epoch, of three batches: windows of four, four and one.
    for epoch in (watch.batches[:9], watch.batches[9:]):
        for window in (epoch[:4], epoch[4:8], epoch[8:]):
            anchor = [p.detach().clone() for p in parameters]
            d = [torch.zeros_like(p) for p in parameters]
            for k, batch in enumerate(window, start=1):
                put(by_hand, [a + e for a, e in zip(anchor, d, strict=True)])
                start = torch.zeros(1, len(batch.x), 4).double() if batch.starts else state
                states, end = by_hand.rnn(batch.x, start)
                loss = (by_hand.head(states[:, -1]) - batch.y).square().mean()
                gradients = torch.autograd.grad(loss, parameters)
                atoms = [-0.05 * g / g.norm() for g in gradients]
                d = [(1 - 1 / k) * e + s / k for e, s in zip(d, atoms, strict=True)]
                state = end.detach()
            put(by_hand, [a + e for a, e in zip(anchor, d, strict=True)])
    for mine, expected in zip(model.parameters(), parameters, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-9)


def test_repeated_evaluations_of_a_batch_start_from_the_same_state():
    watch = Watch()
    model = Paper("lstm", **SIZES)
    model.batches, model.steps = "same", 3
    fit(model, chunked("regression"), watch, epochs=1)
    assert len(watch.starts) == 3 * len(watch.batches)
    for index, batch in enumerate(watch.batches):
        starts = watch.starts[3 * index : 3 * index + 3]
        if batch.starts:
            assert starts == [None] * 3
            continue
        # Where the last evaluation of the batch before it ended.
        last = watch.ends[3 * index - 1]
        assert not torch.equal(last, watch.ends[3 * index - 2])
        assert all(torch.equal(start, last) for start in starts)


def test_split_batches_and_a_carried_state_do_not_go_together():
    message = '`batches` must be "successive" or "same" with a state carried .* got "split"'
    model = Paper("rnn", **SIZES)
    model.batches, model.steps = "split", 2
    with pytest.raises(ValueError, match=message):
        fit(model, chunked("regression"))
    # Whole sequences are split as before.
    fit(model, Few("regression", batch_size=11), epochs=1)


def test_both_directions_and_chunks_do_not_go_together():
    model = SequenceClassifier("gru", bidirectional=True, **SIZES)
    with pytest.raises(ValueError, match="`bidirectional` must be False to train on chunks"):
        fit(model, chunked())
    fit(model, Few(), epochs=1)


class Outsider(L.Callback):
    """Measures in the middle of training."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.measure(pl_module, batch[0])

    def on_before_backward(self, trainer, pl_module, loss):
        self.measure(pl_module, torch.randn_like(pl_module.seen.float()))

    def measure(self, model, x):
        states, _ = model.rnn(x)
        with torch.no_grad():
            # From zeros, whatever is carried.
            torch.testing.assert_close(model(x), model.head(states[:, -1]))
        model.metric((x, torch.zeros(len(x), dtype=torch.int64)))


@pytest.mark.parametrize("network", [SequenceClassifier, FrankWolfeClassifier])
def test_measuring_in_mid_training_leaves_the_carried_state(network):
    class Seen(network):
        def training_step(self, batch, batch_idx):
            self.seen = batch[0]
            return super().training_step(batch, batch_idx)

    models = []
    for callbacks in ([], [Outsider()]):
        torch.manual_seed(0)
        models.append(fit(Seen("gru", **SIZES), chunked(), *callbacks))
    assert_same_weights(*models)


@pytest.mark.parametrize("network", [SequenceClassifier, FrankWolfeClassifier])
def test_validation_in_mid_sequence_leaves_the_carried_state(network):
    models = []
    for settings in ({}, {"limit_val_batches": 2, "val_check_interval": 2}):
        torch.manual_seed(0)
        models.append(fit(network("gru", **SIZES), chunked(), **settings))
    assert_same_weights(*models)


def test_a_batch_of_another_size_starts_from_zeros():
    tokens = torch.randint(5, (4, 13))
    batches = [(tokens, tokens), (tokens, tokens), (tokens[:2], tokens[:2]), (tokens, tokens)]
    model, watch = LanguageModel(input_size=5, output_size=5), Watch()
    loader = DataLoader(batches, batch_size=None)
    fit(model, loader, watch, val=loader, epochs=1)
    assert [start is None for start in watch.starts] == [True, False, True, True]


def test_a_sample_that_is_not_finite_does_not_stay_in_the_state():
    class Poisoned(Few):
        def make_split(self, split):
            x, y = super().make_split(split)
            x[:, 0] = float("nan")
            return x, y

    watch = Watch()
    model = FrankWolfeClassifier("gru", preset="paper", **SIZES)
    fit(model, InChunks(Poisoned(), CHUNK), watch, epochs=1)
    assert watch.states[0].isnan().all()
    assert torch.equal(watch.starts[1], torch.zeros(1, 4, 4))
    assert watch.states[1].isfinite().all()
    assert all(p.isfinite().all() for p in model.parameters())


def test_an_infinite_state_is_not_carried_as_a_huge_one():
    carried = CarriedState()
    carried.advance(starts=True)
    carried.keep(torch.tensor([[[math.inf, -math.inf, math.nan, 2.0]]]))
    carried.advance(starts=False)
    assert carried.start.tolist() == [[[0, 0, 0, 2]]]


def test_a_state_goes_to_where_the_inputs_are():
    carried = CarriedState()
    carried.end = torch.zeros(1, 4, 3)
    carried.advance(starts=False)
    assert carried.start_of(torch.zeros(4, 5, 2, device="meta")).device.type == "meta"


def test_adam_on_chunks_learns():
    batch = Few().split("train").tensors
    model = SequenceClassifier("gru", optimizer=partial(Adam, lr=0.03), **SIZES)
    first = model.loss(batch).item()
    fit(model, InChunks(Few(), 4), epochs=30)
    assert model.loss(batch).item() < 0.5 * first


class SkipsEpochs(L.LightningModule):
    """As a base behind a network: Lightning skips the epoch."""

    def on_train_batch_start(self, batch, batch_idx):
        return -1


@pytest.mark.parametrize("data", [Few, chunked])
@pytest.mark.parametrize("network", [SequenceClassifier, FrankWolfeClassifier])
def test_a_base_behind_the_network_may_skip_an_epoch(network, data):
    class Skipping(network, SkipsEpochs):
        pass

    assert fit(Skipping("gru", **SIZES), data()).trainer.global_step == 0
