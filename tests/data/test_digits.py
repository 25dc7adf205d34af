"""The digits of scikit-learn, by row and by pixel."""

from __future__ import annotations

import sys

import pytest
import torch

from lightning_fw.data import SequentialDigits
from lightning_fw.data.sequences import drawn

pytest.importorskip("sklearn", reason="needs the extra `data`")


@pytest.mark.parametrize(("by", "shape"), [("row", (8, 8)), ("pixel", (64, 1))])
def test_shapes_range_and_sizes(by, shape):
    data = SequentialDigits(by)
    sizes = {split: len(data.split(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 1197, "val": 200, "test": 400}
    x, y = data.split("train").tensors
    assert x.shape[1:] == shape and x.shape[2] == data.input_size
    assert (x.min(), x.max()) == (0, 1)
    assert y.unique().tolist() == list(range(10))


def test_splits_do_not_overlap():
    data = SequentialDigits()
    images = torch.cat(
        [data.split(split).tensors[0].flatten(1) for split in ("train", "val", "test")]
    )
    assert len(images) == 1797
    assert len(images.unique(dim=0)) == len(torch.tensor(_all().data).unique(dim=0))


def test_splits_are_the_same_in_each_release_and_for_each_seed():
    parts = {split: drawn(10, split, val=2, test=3).tolist() for split in ("train", "val", "test")}
    assert parts == {"test": [4, 1, 7], "val": [5, 3], "train": [9, 0, 8, 6, 2]}
    zero, one = (SequentialDigits(seed=seed).split("train").tensors[0] for seed in (0, 1))
    assert torch.equal(zero, one)


def test_labels_are_those_of_their_images():
    chosen = drawn(1797, "train", val=200, test=400)
    x, y = SequentialDigits("pixel").split("train").tensors
    torch.testing.assert_close(16 * x.flatten(1), torch.tensor(_all().data).float()[chosen])
    assert torch.equal(y, torch.tensor(_all().target)[chosen])


def _all():
    from sklearn.datasets import load_digits

    return load_digits()


def test_rows_and_pixels_are_the_same_images():
    rows = SequentialDigits("row").split("test").tensors
    pixels = SequentialDigits("pixel").split("test").tensors
    assert torch.equal(rows[0].flatten(1), pixels[0].flatten(1))
    assert torch.equal(rows[1], pixels[1])


def test_an_unknown_reading_is_named():
    with pytest.raises(ValueError, match="`by` must be one of 'row', 'pixel', got 'column'"):
        SequentialDigits("column")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-fw\[data\]'"):
        SequentialDigits().split("train")
