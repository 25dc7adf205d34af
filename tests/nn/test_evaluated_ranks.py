"""Two gloo processes: what is evaluated is the mean over both ranks' sequences."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch

from lightning_fw.data import AddingProblem, TextData
from lightning_fw.nn import FrankWolfeRegressor, LanguageModel, SequenceRegressor

from .test_networks import QUIET

# Here all ranks have as many sequences, so that none counts twice.
pytestmark = pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")


class Report(L.Callback):
    """Leaves behind what each rank knows."""

    def __init__(self, folder):
        self.folder = folder

    def _save(self, trainer, name):
        found = {key: value.item() for key, value in trainer.callback_metrics.items()}
        torch.save(found, self.folder / f"{name}-{trainer.global_rank}.pt")

    def on_validation_end(self, trainer, pl_module):
        self._save(trainer, "val")

    def on_test_end(self, trainer, pl_module):
        self._save(trainer, "test")


def evaluated(model, data, folder):
    strategy = L.pytorch.strategies.DDPStrategy(start_method="fork")
    trainer = L.Trainer(**QUIET, strategy=strategy, devices=2, callbacks=[Report(folder)])
    trainer.validate(model, data, verbose=False)
    trainer.test(model, data, verbose=False)
    stages = [
        [torch.load(folder / f"{stage}-{rank}.pt") for rank in (0, 1)] for stage in ("val", "test")
    ]
    for of_both in stages:
        assert of_both[0] == of_both[1]
    return stages[0][0] | stages[1][0]


@pytest.mark.parametrize("network", [SequenceRegressor, FrankWolfeRegressor])
def test_a_metric_is_that_of_all_sequences(network, tmp_path):
    data = AddingProblem(6, train_size=8, val_size=10, test_size=14, batch_size=4)
    model = network("gru", input_size=2, output_size=1, hidden_size=4)
    found = evaluated(model, data, tmp_path)
    for stage in ("val", "test"):
        x, y = data.split(stage).tensors
        assert found[f"{stage}_metric"] == pytest.approx(model.metric((x, y)), rel=1e-5)


def test_perplexity_is_that_of_the_loss_of_all_ranks(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 60)
    data = TextData(text, batch_size=4, chunk_length=4)
    model = LanguageModel(
        "gru", input_size=data.input_size, output_size=data.output_size, hidden_size=4
    )
    found = evaluated(model, data, tmp_path)
    assert found["val_loss"] == found["val_metric"]
    assert found["val_perplexity"] == pytest.approx(math.exp(found["val_loss"]), rel=1e-5)
