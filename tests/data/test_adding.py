"""The adding problem is what its definition says, and repeats itself."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.data import AddingProblem
from tests.data.test_chunks import Odd


def test_one_mark_stands_in_each_half():
    x, y = AddingProblem(21, train_size=500).split("train").tensors
    values, marks = x.unbind(-1)
    assert marks.unique().tolist() == [0.0, 1.0]
    assert (marks[:, :10].sum(1) == 1).all() and (marks[:, 10:].sum(1) == 1).all()
    assert (marks.sum(0) > 0).all()
    assert values.min() >= 0 and values.max() < 1
    torch.testing.assert_close(y, (values * marks).sum(1, keepdim=True))


def test_predicting_one_has_an_error_of_a_sixth():
    _, y = AddingProblem(10, train_size=50_000).split("train").tensors
    assert (y - 1).square().mean().item() == pytest.approx(1 / 6, rel=0.02)


def test_splits_and_seeds_differ_and_repeat():
    def first(split, seed):
        return AddingProblem(10, train_size=5, seed=seed).split(split).tensors[0][0, 0, 0].item()

    drawn = {first(split, seed) for split in ("train", "val", "test") for seed in (0, 1, 2)}
    assert len(drawn) == 9
    assert first("train", 1) == first("train", 1)


@pytest.mark.parametrize(
    ("seed", "error"), [(1.5, TypeError), (True, TypeError), (-1, ValueError), (2**61, ValueError)]
)
def test_a_seed_that_is_none_is_named(seed, error):
    with pytest.raises(error, match=f"`seed` must be .* got {seed}"):
        AddingProblem(4, train_size=4, seed=seed)


def test_the_largest_seed_is_one():
    data = AddingProblem(4, train_size=4, val_size=4, test_size=4, seed=2**61 - 1)
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [4, 4, 4]
    assert len(next(iter(data.train_dataloader()))[0]) == 4


def test_the_order_of_batches_follows_from_the_seed_alone():
    def batches(seed):
        loader = AddingProblem(10, train_size=100, seed=seed).train_dataloader()
        torch.rand(7)
        return [x for x, _ in loader]

    assert all(map(torch.equal, batches(1), batches(1)))
    loader = AddingProblem(10, train_size=100).train_dataloader()
    assert not torch.equal(next(iter(loader))[0], next(iter(loader))[0])


def test_another_seed_orders_the_same_sequences_otherwise():
    orders = [torch.cat([y for _, y in Odd(seed=seed).train_dataloader()]) for seed in (0, 1)]
    assert not torch.equal(*orders)
    assert torch.equal(*(order.sort(0).values for order in orders))


def test_a_split_is_made_once():
    data = AddingProblem(10, train_size=5)
    assert data.split("train") is data.split("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 1}, "`sequence_length` must be at least 2, got 1"),
        ({"train_size": 0}, "`train_size` must be at least 1, got 0"),
        ({"val_size": -1}, "`val_size` must be at least 1, got -1"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0. Pass batch_size >= 1"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        AddingProblem(**settings)
