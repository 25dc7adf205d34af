"""batches="split": what can be split, by whom, and what cannot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

from lightning_fw import CosineDecay, InnerLoop, SlopeRatio
from lightning_fw.manual.batches import batch_length, split_evenly
from tests.mixin.conftest import Recurrent, make_loader


@pytest.mark.parametrize("settings", [{}, {"fast_dev_run": True}, {"limit_train_batches": 1}])
def test_more_steps_than_samples_cannot_be_split(settings, loader, make_trainer):
    module = Recurrent(InnerLoop(steps=5, batches="split"))
    with pytest.raises(
        ValueError, match=r'`steps` must be at most the batch size with batches="split", got 5 for'
    ):
        make_trainer(**settings).fit(module, loader)
    assert module.seen == []


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([torch.ones(4, 5, 2), torch.ones(3)], ValueError, r"first dimensions \[4, 3\]"),
        ([torch.ones(4, 5, 2), torch.tensor(1.0)], ValueError, r"first dimensions \[4, 0\]"),
        ([torch.tensor(1.0)], ValueError, r"first dimensions \[0\]"),
        ([torch.ones(4, 5, 2), b"abcd"], TypeError, "got a bytes"),
        ([torch.ones(4, 5, 2), ["a", "b"]], TypeError, "must hold tensors alone .* got a str"),
        (
            [pack_sequence([torch.ones(3, 2)])],
            TypeError,
            "got a PackedSequence. Override split_batch",
        ),
        ([1, 2], TypeError, "got a list"),
        ([torch.ones(4, 5, 2), [1, 2, 3, 4]], TypeError, "got a list"),
        ({}, ValueError, r"first dimensions \[\]"),
    ],
)
def test_a_batch_that_cannot_be_split_is_named(batch, error, message, make_trainer):
    module = Recurrent(InnerLoop(steps=2, batches="split"))
    with pytest.raises(error, match=message):
        make_trainer().fit(module, DataLoader([batch] * 4, batch_size=None))
    assert module.seen == []


def test_an_array_is_no_tensor_to_split():
    with pytest.raises(TypeError, match="must hold tensors alone .* got a ndarray"):
        batch_length({"x": torch.ones(4), "lengths": np.ones(4)})


@dataclass(slots=True)
class Measured:
    x: torch.Tensor
    lengths: object


@pytest.mark.parametrize(
    ("lengths", "kind"),
    [([3, 5, 5, 2], "list"), ((3, 5, 5, 2), "tuple"), (np.ones(4), "ndarray")],
)
def test_no_chunk_of_a_dataclass_gets_the_numbers_of_all_samples(lengths, kind):
    with pytest.raises(TypeError, match=f"must hold tensors alone .* got a {kind}"):
        batch_length(Measured(torch.ones(4, 5), lengths))
    assert batch_length(Measured(torch.ones(4, 5), torch.ones(4))) == 4


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_list_holds_no_numbers_to_split(empty):
    assert batch_length({"x": torch.ones(4, 5), "notes": empty}) == 4


def test_a_number_beside_tensors_is_one_for_all_chunks():
    assert split_evenly([torch.ones(4), 3], 2, may_be_short=False)[1][1] == 3


def test_a_module_may_split_batches_its_own_way(make_trainer):
    class Own(Recurrent):
        def split_batch(self, batch, chunks):
            x, y = batch
            return [(x[i::chunks], y[i::chunks]) for i in range(chunks)]

    module = Own(InnerLoop(steps=2, batches="split"))
    make_trainer().fit(module, make_loader())
    assert [length for length, _ in module.seen] == [2] * 14


def test_chunks_may_come_from_a_generator(loader, make_trainer):
    class Generated(Recurrent):
        def split_batch(self, batch, steps):
            yield from super().split_batch(batch, steps)

    module = Generated(InnerLoop(steps=2, batches="split"))
    make_trainer().fit(module, loader)
    assert {record.steps for record in module.records} == {2}


@pytest.mark.parametrize("chunks", [[], None, torch.ones(2), {"x": torch.ones(2)}, "ab"])
def test_what_is_no_list_of_batches_is_named(chunks, loader, make_trainer):
    class Wrong(Recurrent):
        def split_batch(self, batch, steps):
            return chunks

    with pytest.raises(TypeError, match="`split_batch` must return a list of batches, got "):
        make_trainer().fit(Wrong(InnerLoop(steps=2, batches="split")), loader)


def test_more_chunks_than_a_window_has_steps_are_counted(loader, make_trainer):
    class Wrong(Recurrent):
        def split_batch(self, batch, steps):
            return super().split_batch(batch, steps + 1)

    with pytest.raises(ValueError, match="`split_batch` must return at most 2 batches, got 3: "):
        make_trainer().fit(Wrong(InnerLoop(steps=2, batches="split")), loader)


class Whole(Recurrent):
    def split_batch(self, batch, chunks):
        return [batch]


def test_one_chunk_which_leaves_the_radius_as_it_is_is_told(loader, make_trainer):
    loop = InnerLoop(steps=2, batches="split", radius_rule=SlopeRatio())
    with pytest.warns(UserWarning, match="should return a batch for each of 2 inner steps, got 1"):
        make_trainer().fit(Whole(loop), loader)


@pytest.mark.parametrize(
    "settings", [{"steps": 2}, {"steps": 1, "radius_rule": CosineDecay(total_steps=9)}]
)
def test_one_chunk_is_no_matter_where_the_radius_stands_anyway(settings, loader, make_trainer):
    module = Whole(InnerLoop(batches="split", **settings))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_trainer().fit(module, loader)
    assert not [each for each in told if "split_batch" in str(each.message)]
    assert {record.steps for record in module.records} == {1}


def test_a_later_batch_may_be_one_chunk(loader, make_trainer):
    class AtTimes(Recurrent):
        def split_batch(self, batch, chunks):
            whole = len(self.seen) == 4
            return [batch] if whole else super().split_batch(batch, chunks)

    module = AtTimes(InnerLoop(steps=2, batches="split", radius_rule=SlopeRatio()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_trainer().fit(module, loader)
    assert not [each for each in told if "split_batch" in str(each.message)]
    assert [record.steps for record in module.records[:4]] == [2, 2, 1, 2]
