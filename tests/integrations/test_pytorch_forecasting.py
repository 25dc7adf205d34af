"""pytorch-forecasting's recurrent networks, on its own generated data, with the mixin in front."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from lightning_fw import FrankWolfeMixin, InnerLoop

pytest.importorskip("pytorch_forecasting", reason="needs the test group: make test-integrations")

from pytorch_forecasting import DeepAR, RecurrentNetwork, TimeSeriesDataSet
from pytorch_forecasting.data import NaNLabelEncoder
from pytorch_forecasting.data.examples import generate_ar_data

from .page import run_block

# Warnings of that package's own, under newer pandas and torchmetrics.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def series():
    data = generate_ar_data(seasonality=10.0, timesteps=120, n_series=20, seed=42)
    data["series"] = data["series"].astype(str)
    return TimeSeriesDataSet(
        data,
        time_idx="time_idx",
        target="value",
        group_ids=["series"],
        max_encoder_length=30,
        max_prediction_length=10,
        time_varying_unknown_reals=["value"],
        categorical_encoders={"series": NaNLabelEncoder().fit(data.series)},
    )


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))


def fitted(module, series):
    losses = Losses()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=6,
        limit_train_batches=30,
        callbacks=[losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        module,
        series.to_dataloader(train=True, batch_size=32, num_workers=0),
        series.to_dataloader(train=False, batch_size=64, num_workers=0),
    )
    return trainer, torch.tensor(losses.values)


@pytest.mark.parametrize("network", [RecurrentNetwork, DeepAR])
def test_the_loss_falls_and_its_plateau_scheduler_is_stepped(network, series):
    class ByFrankWolfe(FrankWolfeMixin, network):
        def configure_frank_wolfe(self):
            return InnerLoop.spectral()

    pl.seed_everything(0)
    module = ByFrankWolfe.from_dataset(
        series, learning_rate=1.0, hidden_size=16, optimizer="sgd", reduce_on_plateau_patience=0
    )
    trainer, losses = fitted(module, series)
    assert trainer.global_step == 90  # two batches a window
    assert losses[-30:].mean() < 0.8 * losses[:30].mean()
    (config,) = trainer.lr_scheduler_configs
    assert config.monitor == "val_loss"
    # One step an epoch, with the validation loss.
    assert config.scheduler.last_epoch == 6
    assert config.scheduler.best < float("inf")


def test_the_page_trains_what_it_builds(series):
    pl.seed_everything(0)
    module = run_block("RecurrentNetwork")["Forecaster"].from_dataset(series, hidden_size=16)
    trainer, losses = fitted(module, series)
    assert trainer.global_step == 90  # two batches a window
    assert losses[-30:].mean() < 0.8 * losses[:30].mean()
