"""neuralforecast's LSTM, which imports pytorch_lightning, with the mixin in front."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_fw import FrankWolfeMixin, InnerLoop

pytest.importorskip("neuralforecast", reason="needs the test group: make test-integrations")

import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM

from .page import run_block

# Warnings of that package's own, under newer pandas and ray.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def waves() -> pd.DataFrame:
    steps, rng = np.arange(200), np.random.default_rng(0)
    days = pd.date_range("2020-01-01", periods=len(steps), freq="D")
    return pd.concat(
        pd.DataFrame(
            {
                "unique_id": index,
                "ds": days,
                "y": np.sin(2 * np.pi * steps / 12 + index) + 0.1 * rng.normal(size=len(steps)),
            }
        )
        for index in range(6)
    )


class ByFrankWolfe(FrankWolfeMixin, LSTM):
    def configure_frank_wolfe(self) -> InnerLoop:
        return InnerLoop.spectral()

    def on_restart(self, record) -> None:
        self.rates = [*getattr(self, "rates", []), self.optimizers().param_groups[0]["lr"]]


def test_the_loss_falls_and_its_step_scheduler_counts_restarts():
    model = ByFrankWolfe(
        h=12,
        input_size=36,
        encoder_hidden_size=16,
        encoder_n_layers=1,
        decoder_hidden_size=16,
        max_steps=120,
        learning_rate=1.0,
        num_lr_decays=2,
        optimizer=torch.optim.SGD,
        optimizer_kwargs={"momentum": 0.5, "nesterov": True},
        random_seed=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    forecast = NeuralForecast(models=[model], freq="D")
    forecast.fit(waves())
    (trained,) = forecast.models
    losses = [loss for _, loss in trained.train_trajectories]
    assert np.mean(losses[-12:]) < 0.5 * np.mean(losses[:12])
    assert trained.rates == [1.0] * 60 + [0.5] * 60
    assert not forecast.predict()["ByFrankWolfe"].isna().any()


def test_the_page_trains_what_it_builds():
    model = run_block("neuralforecast")["model"]
    forecast = NeuralForecast(models=[model], freq="D")
    forecast.fit(waves())
    losses = [loss for _, loss in forecast.models[0].train_trajectories]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
