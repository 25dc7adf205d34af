"""One run: fair to every method, and honest about what it counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lightning_fw.data import AddingProblem
from lightning_fw.nn import FrankWolfeSequenceModel, SequenceModel
from lightning_fw.race import run as run_module
from lightning_fw.race.methods import Method, choose_method
from lightning_fw.race.run import run
from lightning_fw.race.tasks import TASKS

METHODS = ["spectral", "paper", "authors", "adam", "adam-clip"]
SHORT = replace(
    TASKS["adding"],
    make_data=lambda seed, root: AddingProblem(
        10, train_size=100, val_size=60, test_size=50, batch_size=20, seed=seed
    ),
)


def points_of(method, *, task=SHORT, seed=0, budget=12, every=4, **settings):
    points = []
    run(
        method,
        task,
        "gru",
        seed,
        budget=budget,
        every=every,
        root=None,
        report=points.append,
        **settings,
    )
    return points


def recorded(method, weights, batches):
    """The method with a model that writes down its first weights and its batches."""

    def make_model(**settings):
        made = method.make_model(hidden_size=4, **settings)

        class Recorded(type(made)):
            def training_step(self, batch, batch_idx):
                batches.append(batch[0].clone())
                return super().training_step(batch, batch_idx)

        made.__class__ = Recorded
        weights.extend(p.detach().clone() for p in made.parameters())
        return made

    return replace(method, make_model=make_model)


def test_a_seed_gives_every_method_the_same_weights_and_batches():
    runs = {}
    for seed in (0, 1):
        for name in METHODS:
            weights, batches = runs[name, seed] = [], []
            method = recorded(choose_method(name, "adding", "gru"), weights, batches)
            points_of(method, seed=seed)
            assert len(batches) == 12
    for seed in (0, 1):
        first = runs["spectral", seed]
        for name in METHODS:
            for kind in (0, 1):
                assert all(map(torch.equal, runs[name, seed][kind], first[kind]))
    assert not torch.equal(runs["paper", 0][0][0], runs["paper", 1][0][0])
    assert not torch.equal(runs["paper", 0][1][0], runs["paper", 1][1][0])


@pytest.mark.parametrize("base", [SequenceModel, FrankWolfeSequenceModel])
def test_seconds_are_those_of_training_alone(base, monkeypatch):
    clock = 0.0

    class Timed(base):
        def training_step(self, batch, batch_idx):
            nonlocal clock
            clock += 1
            return super().training_step(batch, batch_idx)

        def metric(self, batch):
            nonlocal clock
            clock += 1000
            return super().metric(batch)

    monkeypatch.setattr(run_module, "perf_counter", lambda: clock)
    points = points_of(Method("adam", Timed), budget=10)
    assert [(p.evaluations, p.seconds) for p in points] == [(4, 4.0), (8, 8.0), (10, 10.0)]


def test_clipping_bounds_the_gradient_of_the_baseline():
    norms = []

    class Watched(SequenceModel):
        def on_train_batch_end(self, *args):
            norms.append(torch.cat([p.grad.flatten() for p in self.parameters()]).norm().item())

    method = choose_method("adam-clip", "adding", "gru", clip=1e-3)
    points_of(replace(method, make_model=Watched))
    assert norms == pytest.approx([1e-3] * 12, rel=1e-3)


def test_diverged_is_the_worst_metric_there_is():
    last = points_of(choose_method("adam", "adding", "gru", lr=1e30))[-1]
    assert math.isnan(last.train_loss)
    assert last.test_metric == math.inf


def test_a_run_may_end_at_the_target():
    easy, method = replace(SHORT, target=10.0), choose_method("paper", "adding", "gru")
    assert [p.evaluations for p in points_of(method, task=easy)] == [4, 8, 12]
    stopped = points_of(method, task=easy, stop_at_target=0)
    assert [p.evaluations for p in stopped] == [4]
    later = points_of(method, task=easy, stop_at_target=5)
    assert [p.evaluations for p in later] == [4, 8]


def test_the_judge_is_the_split_asked_for():
    on_test, on_val = (
        points_of(choose_method("adam", "adding", "gru"), judge=judge) for judge in ("test", "val")
    )
    assert [p.train_loss for p in on_test] == [p.train_loss for p in on_val]
    assert on_test[0].test_metric != on_val[0].test_metric
