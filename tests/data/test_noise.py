"""Noise depends on the seed, the sequence and the number of readings, and on nothing else."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from lightning_fw.data.noise import (
    NoisySequences,
    require_deviation,
    with_noise,
    with_noise_after,
)
from lightning_fw.nn import SequenceRegressor
from tests.data.test_chunks import Noisy


def added(x, generator):
    return x + torch.randn(x.shape, generator=generator)


def make(seed=0, *, redrawn=False, size=200):
    clean = torch.arange(size).float().reshape(size, 1, 1).expand(size, 30, 2)
    return NoisySequences(clean, torch.arange(size), noisy=added, seed=seed, redrawn=redrawn)


def test_fixed_noise_is_the_same_at_each_reading_and_in_any_order():
    data, backwards = make(), make()
    forwards = [data[i][0] for i in range(len(data))]
    again = [data[i][0] for i in range(len(data))]
    reverse = [backwards[i][0] for i in reversed(range(len(data)))][::-1]
    assert all(map(torch.equal, forwards, again))
    assert all(map(torch.equal, forwards, reverse))


def test_redrawn_noise_follows_from_the_number_of_readings_alone():
    data, backwards = make(redrawn=True), make(redrawn=True)
    first = [data[i][0] for i in range(len(data))]
    second = [data[i][0] for i in range(len(data))]
    assert not any(map(torch.equal, first, second))
    for _ in range(2):
        reverse = [backwards[i][0] for i in reversed(range(len(data)))][::-1]
    assert all(map(torch.equal, second, reverse))


def test_ranks_share_no_reading():
    readings = []
    for rank in (0, 1):
        data = make(redrawn=True, size=5)
        data.rank = rank
        readings.extend(data[3][0] for _ in range(4))
    assert len(torch.stack(readings).flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("redrawn", [False, True])
def test_sequences_that_are_passed_over_count_as_read(redrawn):
    reading, passing = (make(redrawn=redrawn, size=5) for _ in range(2))
    read = [3, 1, 3]
    for index in read:
        reading[index]
    passing.pass_over(read)
    assert all(torch.equal(reading[i][0], passing[i][0]) for i in range(5))


def test_steps_are_counted_without_a_reading():
    counted, fresh = (make(redrawn=True, size=3) for _ in range(2))
    assert counted.time_steps == 30
    assert torch.equal(counted[0][0], fresh[0][0])


def test_a_new_loader_starts_over_with_its_noise_as_with_its_order():
    data = Noisy()
    first, second = (torch.cat([x for x, _ in data.train_dataloader()]) for _ in range(2))
    assert torch.equal(first, second)


def test_a_loader_of_each_epoch_draws_noise_anew_and_a_second_fit_the_same():
    seen = []

    class Reading(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(batch[0].sum().item())

    data = Noisy()
    for _ in range(2):
        trainer = L.Trainer(
            max_epochs=2,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[Reading()],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(SequenceRegressor("rnn", input_size=2, output_size=1, hidden_size=2), data)
    assert len(seen) == 12
    assert seen[:6] == seen[6:]
    assert seen[:3] != seen[3:6]


@pytest.mark.parametrize("redrawn", [False, True])
def test_noise_is_standard_normal_and_unrelated_between_sequences_and_seeds(redrawn):
    drawn = []
    for seed in (0, 1):
        data = make(seed, redrawn=redrawn)
        drawn.append(data.tensors[0] - torch.arange(200.0).reshape(200, 1, 1))
    noise = torch.stack(drawn).flatten(2).flatten(0, 1)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    correlation = torch.corrcoef(noise).fill_diagonal_(0)
    assert correlation.abs().max() < 0.75
    assert correlation.mean().item() == pytest.approx(0, abs=1e-3)


def test_targets_are_the_clean_ones():
    assert make().tensors[1].tolist() == list(range(200))
    assert make()[7][1].item() == 7


def test_noise_comes_after_the_sequence():
    sequence = torch.full((3, 4), 9.0)
    padded = with_noise_after(sequence, 50, torch.Generator().manual_seed(0))
    assert padded.shape == (50, 4)
    assert torch.equal(padded[:3], sequence)
    assert padded[3:].abs().max() < 6


def test_noise_has_the_deviation_that_is_asked_for():
    sequence = torch.full((1000, 4), 9.0)
    found = with_noise(sequence, torch.Generator().manual_seed(0), deviation=0.5)
    assert (found - sequence).std().item() == pytest.approx(0.5, rel=0.05)
    require_deviation("noise", 0)
