"""One run: fair to every method, and honest about what it counts."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lightning_fw.data import AddingProblem
from lightning_fw.data.noise import NoisySequences, with_noise
from lightning_fw.race import referee
from lightning_fw.race.entrants import enter
from lightning_fw.race.methods import METHODS
from lightning_fw.race.run import Course, make_model, run
from lightning_fw.race.tasks import TASKS

ALONE = [name for name, method in METHODS.items() if not method.ranks_only]


def small_adding(seed, root, batch_size):
    return AddingProblem(
        10, train_size=100, val_size=60, test_size=50, batch_size=batch_size, seed=seed
    )


SHORT = replace(TASKS["adding"], make_data=small_adding, batch_size=20, chunk_length=4)


def entrant(name, **given):
    return enter(name, "adding", "gru", given=given)


def points_of(who, *, task=SHORT, seed=0, budget=12, every=4, network=None, **settings):
    points = []
    network = {"hidden_size": 4, **(network or {})}
    course = Course(task=task, cell="gru", network=network, every=every, root=Path("none"))
    run(who, course, seed, budget=budget, report=points.append, **settings)
    return points


class Recorder(Callback):
    """Writes down the first weights and all batches."""

    def __init__(self):
        self.weights, self.batches, self.shares = [], [], []

    def on_train_start(self, trainer, pl_module):
        self.weights = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch[0].clone())
        self.shares.append(batch[0].shape[1] / 10)


def recorded(name, seed):
    recorder = Recorder()
    points_of(entrant(name), seed=seed, callbacks=[recorder])
    return recorder


@pytest.fixture(scope="module")
def references():
    return {seed: recorded("adam", seed) for seed in (0, 1)}


def test_a_seed_is_of_weights_and_batches(references):
    first, second = references.values()
    assert len(first.batches) == len(second.batches) == 12
    assert not torch.equal(first.weights[0], second.weights[0])
    assert not torch.equal(first.batches[0], second.batches[0])


@pytest.mark.parametrize("name", ["spectral", "adam-clip"])
def test_an_average_of_the_weights_is_measured_and_training_does_not_see_it(name):
    averaged, last = {
        "spectral": ("spectral", "spectral-last-anchor"),
        "adam-clip": ("adam-clip-averaged", "adam-clip"),
    }[name]
    given = {"lr": 0.01, "clip": 1.0}
    ours, theirs = (points_of(entrant(each, **given), every=2) for each in (averaged, last))
    assert [p.train_loss for p in ours] == [p.train_loss for p in theirs]
    metrics = [[p.test_metric for p in points] for points in (ours, theirs)]
    # Of one step there is nothing to average; every method counts two evaluations a point.
    if name == "spectral":
        assert metrics[0][0] == metrics[1][0]
    assert metrics[0][1:] != metrics[1][1:]


def test_slow_weights_are_measured_and_training_does_not_see_it():
    METHODS["lookahead"].require_package()

    class Fast(Callback):
        def on_train_end(self, trainer, pl_module):
            self.weights = [p.detach().clone() for p in pl_module.parameters()]
            states = pl_module.optimizers(use_pl_optimizer=False).state
            self.slow = [states[p]["slow_params"] for p in pl_module.parameters()]

    fits, metrics = [Fast(), Fast()], []
    for fast, every in zip(fits, (2, 12), strict=True):
        points = points_of(entrant("lookahead"), every=every, callbacks=[fast])
        metrics.append([p.test_metric for p in points])
    assert all(map(torch.equal, fits[0].weights, fits[1].weights))
    assert not torch.equal(fits[0].weights[0], fits[0].slow[0])
    # Slow weights stand still up to the fifth step, and from it to the tenth.
    assert metrics[0][0] == metrics[0][1] and metrics[0][2] == metrics[0][3] != metrics[0][1]


def test_a_method_in_chunks_sees_the_same_noise_as_others():
    class Noisy(AddingProblem):
        def make_dataset(self, split):
            return NoisySequences(
                *self.make_split(split),
                noisy=partial(with_noise, deviation=1.0),
                seed=0,
                redrawn=True,
            )

    data = Noisy(10, train_size=5, val_size=5, test_size=5)
    course = Course(task=SHORT, cell="gru", every=4, root=Path("none"))
    first = Noisy(10, train_size=5, val_size=5, test_size=5).split("train")[0][0]
    make_model(entrant("adam-clip-tbptt"), course, data, seed=0)
    assert torch.equal(data.split("train")[0][0], first)


@pytest.mark.parametrize(("chunk_length", "chunks"), [(10, 1), (5, 2), (4, 3)])
def test_an_inner_step_reads_all_chunks_of_its_sequences(chunk_length, chunks):
    task = replace(SHORT, chunk_length=chunk_length)
    course = Course(task=task, cell="gru", every=4, root=Path("none"))
    data = small_adding(0, course.root, 20)
    model = make_model(entrant("spectral-tbptt"), course, data, seed=0)
    assert model.configure_frank_wolfe().accumulate_grad_batches == chunks
    assert entrant("spectral-tbptt").inner_loop.endswith(", a step a batch of whole sequences")


@pytest.mark.filterwarnings("ignore:`steps` makes windows of 10 batches")
@pytest.mark.parametrize("name", ALONE)
def test_a_seed_gives_every_method_the_same_weights_and_sequences(name, references):
    METHODS[name].require_package()
    if "muon" in name and not hasattr(torch.optim, "Muon"):
        pytest.skip("Muon came with torch 2.9")
    ours, reference = recorded(name, 1), references[1]
    assert all(map(torch.equal, ours.weights, reference.weights))
    sequences = ours.batches
    if METHODS[name].in_chunks:
        sequences = [torch.cat(ours.batches[i : i + 3], dim=1) for i in range(0, 36, 3)]
    assert len(sequences) == 12
    assert all(map(torch.equal, sequences, reference.batches))
    assert sum(ours.shares) == pytest.approx(12)


def test_the_training_loss_is_the_mean_since_the_point_before_and_measuring_draws_nothing():
    network = {"num_layers": 2, "dropout": 0.5}
    each, found = (
        [p.train_loss for p in points_of(entrant("adam"), every=every, network=network)]
        for every in (1, 4)
    )
    assert found == pytest.approx([statistics.mean(each[i : i + 4]) for i in (0, 4, 8)], rel=1e-5)


def test_the_training_loss_is_that_of_batches_where_several_make_a_step():
    (alone, *_), (joined, *_) = (
        points_of(entrant(name), every=1) for name in ("adam", "adam-accumulated")
    )
    assert joined.train_loss == pytest.approx(alone.train_loss)


def test_a_run_ends_at_a_budget_below_its_first_point():
    """That of a trial which can only just win."""
    assert [p.evaluations for p in points_of(entrant("adam"), budget=2)] == [2]


def test_seconds_are_those_of_training_alone(monkeypatch):
    clock = 0.0

    class Slow(Callback):
        def on_train_batch_start(self, *args):
            nonlocal clock
            clock += 1

    def slow_metric(model, batches):
        nonlocal clock
        clock += 1000
        return 0.1

    monkeypatch.setattr(referee, "perf_counter", lambda: clock)
    monkeypatch.setattr(referee, "mean_metric", slow_metric)
    for name in ("spectral", "adam"):
        clock = 0.0
        points = points_of(entrant(name), budget=10, callbacks=[Slow()])
        assert [(p.evaluations, p.seconds) for p in points] == [(4, 4.0), (8, 8.0), (10, 10.0)]


# AdamWScheduleFree 1.4.1 divides gradients in place, so that none can be read after a step.
CLIPPING = [n for n in ALONE if "clip" in METHODS[n].space and n != "schedule-free"]


@pytest.mark.parametrize("name", CLIPPING)
def test_clipping_bounds_the_gradient_of_the_baseline(name):
    norms = []

    class Watch(Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            norms.append(math.sqrt(sum(g.square().sum() for g in gradients)))

    points_of(entrant(name, clip=1e-3), callbacks=[Watch()])
    # There is none before the first step.
    assert norms[0] == 0
    assert norms[1:] == pytest.approx([1e-3] * len(norms[1:]), rel=1e-3)
    assert len(norms) > 3


def test_diverged_is_the_worst_metric_there_is():
    last = points_of(entrant("adam", lr=1e30))[-1]
    assert math.isnan(last.train_loss)
    assert last.test_metric == math.inf


def test_a_run_may_end_at_the_target():
    easy, who = replace(SHORT, target=10.0), entrant("paper")
    assert [p.evaluations for p in points_of(who, task=easy)] == [4, 8, 12]
    stopped = points_of(who, task=easy, stop_at_target=0)
    assert [p.evaluations for p in stopped] == [4]
    later = points_of(who, task=easy, stop_at_target=5)
    assert [p.evaluations for p in later] == [4, 8]


def test_the_judge_is_the_split_asked_for():
    on_test, on_val = (points_of(entrant("adam"), judge=judge) for judge in ("test", "val"))
    assert [p.train_loss for p in on_test] == [p.train_loss for p in on_val]
    assert on_test[0].test_metric != on_val[0].test_metric
