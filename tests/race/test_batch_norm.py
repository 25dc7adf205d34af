"""Batch norm beside weights that are measured in the place of those that train."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import AnchorAveraging
from lightning_fw.race.contestant import contestant, measured
from lightning_fw.race.entrants import Entrant
from lightning_fw.race.methods import METHODS
from tests.manual.twins import trainer

INPUTS = [torch.randn(8, 5, 3, generator=torch.Generator().manual_seed(n)) for n in range(3)]


class Look(L.Callback):
    """Notes the statistics in training, in measuring, and by hand of the same weights."""

    def on_train_batch_end(self, _, model, *rest):
        before, generator = list_of(model), torch.get_rng_state()
        with measured(model, INPUTS):
            assert not model.training
            self.inside = list_of(model)
            # The masks of training stay what they are, however often one measures.
            assert torch.equal(torch.get_rng_state(), generator)
            update_bn(INPUTS, model)
            self.by_hand = list_of(model)
            for buffer, found in zip(model.buffers(), self.inside, strict=True):
                buffer.copy_(found)
        torch.set_rng_state(generator)
        self.outside = before
        assert same(list_of(model), before)
        assert model.training


def list_of(model):
    return [buffer.clone() for buffer in model.buffers()]


def same(one, other):
    return all(map(torch.equal, one, other))


def look(name):
    method = METHODS[name]
    callback = Look()
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(24, 5, 3), torch.randn(24, 1)), 8)
    model = contestant(
        Entrant(method, dict(method.usual)),
        "regression",
        cell="indrnn-stack",
        input_size=3,
        output_size=1,
        hidden_size=4,
        num_layers=2,
        dropout=0.3,
    )
    averages = [AnchorAveraging()] if method.averaged else []
    trainer([callback, *averages], max_epochs=2).fit(model, loader, loader)
    return callback


@pytest.mark.parametrize("name", ["spectral", "schedule-free", "lookahead"])
def test_the_statistics_measured_are_those_of_the_weights_measured(name):
    if name != "spectral":
        pytest.importorskip("schedulefree", reason="needs the extra `race`")
    seen = look(name)
    assert len(seen.inside) == 6
    assert same(seen.inside, seen.by_hand)
    assert not same(seen.inside, seen.outside)


def test_latest_weights_are_measured_with_the_statistics_of_training():
    seen = look("adam")
    assert same(seen.inside, seen.outside)
    assert not same(seen.by_hand, seen.outside)
