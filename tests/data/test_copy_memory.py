"""Copy memory is what its definition says, and a network without a memory cannot do it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional
from torch.optim import Adam

from lightning_fw.data import CopyMemory
from lightning_fw.nn import SequenceClassifier


def test_symbols_silence_delimiter_and_again():
    x, y = CopyMemory(7, train_size=500).split("train").tensors
    assert x.shape == (500, 27, 10) and x.dtype == torch.float32
    assert y.shape == (500, 27) and y.dtype == torch.int64
    assert (x.sum(-1) == 1).all()
    read = x.argmax(-1)
    assert read[:, :10].unique().tolist() == list(range(8))
    assert (read[:, 10:16] == 8).all() and (read[:, 16] == 9).all() and (read[:, 17:] == 8).all()
    assert (y[:, :17] == 8).all()
    assert torch.equal(y[:, 17:], read[:, :10])


def test_with_the_shortest_delay_the_delimiter_follows_at_once():
    x, y = CopyMemory(1, train_size=3).split("train").tensors
    assert (x.argmax(-1)[:, 10] == 9).all()
    assert (y[:, :11] == 8).all()


def test_without_a_memory_cross_entropy_and_accuracy_are_the_documented_ones():
    delay = 20
    data = CopyMemory(delay, train_size=20_000)
    _, y = data.split("train").tensors
    logits = torch.full((*y.shape, data.output_size), -math.inf)
    logits[:, : delay + 10, 8] = 0.0
    logits[:, delay + 10 :, :8] = 0.0
    loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten()).item()
    assert loss == pytest.approx(10 * math.log(8) / (delay + 20), rel=1e-5)
    accuracy = (logits.argmax(-1) == y).float().mean().item()
    assert accuracy == pytest.approx((delay + 11.25) / (delay + 20), abs=1e-3)


def test_splits_and_seeds_differ_and_repeat():
    def first(split, seed):
        return tuple(CopyMemory(2, train_size=5, seed=seed).split(split).tensors[1][0].tolist())

    drawn = {first(split, seed) for split in ("train", "val", "test") for seed in (0, 1, 2)}
    assert len(drawn) == 9
    assert first("train", 1) == first("train", 1)


def test_a_network_answers_at_every_step_and_learns():
    data = CopyMemory(1, train_size=64, batch_size=64)
    without_memory = 12.25 / 21
    batch = next(iter(data.train_dataloader()))
    model = SequenceClassifier(
        "rnn",
        per_step=True,
        input_size=data.input_size,
        output_size=data.output_size,
        hidden_size=64,
        optimizer=partial(Adam, lr=1e-2),
    )
    assert model(batch[0]).shape == (64, 21, 9)
    optimizer = model.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    assert model.metric(batch) > without_memory + 0.15
    assert model.loss(batch).item() < 0.7 * 10 * math.log(8) / 21


def test_the_loss_is_the_mean_over_sequences_and_steps():
    x, y = CopyMemory(3, train_size=4).split("train").tensors
    model = SequenceClassifier(per_step=True, input_size=10, output_size=9)
    logits = model(x).log_softmax(-1)
    expected = -logits.gather(-1, y.unsqueeze(-1)).mean()
    torch.testing.assert_close(model.loss((x, y)), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay": 0}, "`delay` must be at least 1, got 0. Pass delay >= 1"),
        ({"test_size": 0}, "`test_size` must be at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        CopyMemory(**settings)


def test_a_delay_is_an_int():
    with pytest.raises(TypeError, match="`delay` must be an int, got 1.5"):
        CopyMemory(1.5)
