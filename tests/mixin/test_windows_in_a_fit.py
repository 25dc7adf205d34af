"""Which batches a window gets, when it closes, and what everybody else sees."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import GapFraction, InnerLoop, L2Ball
from lightning_fw.restarts import RestartRule
from tests.mixin.conftest import Recurrent, make_loader


def shape(module):
    """Steps, batches and evaluations of each window."""
    return [(r.steps, r.batches, round(r.gradient_evaluations, 6)) for r in module.records]


def test_successive_batches_fill_windows_and_an_epoch_ends_with_a_shorter_one(loader, make_trainer):
    module, trainer = Recurrent(InnerLoop(steps=3)), make_trainer(max_epochs=2)
    trainer.fit(module, loader)
    assert shape(module) == [(3, 3, 3.0), (3, 3, 3.0), (1, 1, 1.0)] * 2
    assert trainer.global_step == 6
    assert len(module.seen) == 14


def test_the_same_batch_is_evaluated_k_times(loader, make_trainer):
    module, trainer = Recurrent(InnerLoop(steps=3, batches="same")), make_trainer()
    trainer.fit(module, loader)
    assert shape(module) == [(3, 1, 3.0)] * 7
    assert trainer.global_step == 7
    assert [length for length, _ in module.seen] == [4] * 21


def test_a_split_batch_costs_one_evaluation(make_trainer):
    module, trainer = Recurrent(InnerLoop(steps=3, batches="split")), make_trainer()
    trainer.fit(module, make_loader(samples=30, batch_size=7))
    assert shape(module) == [(3, 1, 1.0)] * 4 + [(2, 1, 1.0)]
    assert [length for length, _ in module.seen] == [3, 2, 2] * 4 + [1, 1]
    assert trainer.global_step == 5


@pytest.mark.parametrize("limit", [4, 0.6])
def test_limit_train_batches_ends_the_epoch_with_a_closed_window(limit, loader, make_trainer):
    module = Recurrent(InnerLoop(steps=3))
    make_trainer(limit_train_batches=limit, max_epochs=2).fit(module, loader)
    assert shape(module) == [(3, 3, 3.0), (1, 1, 1.0)] * 2


def test_a_data_set_of_unknown_length_ends_with_a_closed_window(make_trainer):
    class Endless(IterableDataset):
        def __iter__(self):
            generator = torch.Generator().manual_seed(0)
            for _ in range(14):
                yield torch.randn(5, 2, generator=generator), torch.zeros(1)

    module = Recurrent(InnerLoop(steps=3))
    make_trainer().fit(module, DataLoader(Endless(), batch_size=2))
    assert [record.steps for record in module.records] == [3, 3, 1]


def test_within_a_window_the_batches_see_displaced_weights(loader, make_trainer):
    radius = 0.05
    module = Recurrent(InnerLoop(ball=L2Ball(radius=radius, scope="global"), steps=3), lr=0.0)
    make_trainer().fit(module, loader)
    anchor = module.weights()
    distances = [(weights - anchor).norm().item() for _, weights in module.seen]
    assert distances[0::3] == [0.0, 0.0, 0.0]
    assert distances[1::3] == pytest.approx([radius] * 2, rel=1e-4)
    assert all(0 < distance <= radius * 1.0001 for distance in distances[2::3])


def test_everybody_outside_training_step_sees_the_anchor(loader, make_trainer):
    class Watch(L.Callback):
        weights: list[torch.Tensor] = []

        def on_train_batch_end(self, trainer, module, *args):
            self.weights.append(module.weights())

        def on_validation_batch_start(self, trainer, module, *args):
            assert torch.equal(module.weights(), self.weights[-1] if self.weights else first)

    module, watch = Recurrent(InnerLoop(steps=5)), Watch()
    first = module.weights()
    module.validation_step = lambda batch, batch_idx: None
    make_trainer(callbacks=[watch], val_check_interval=2).fit(module, loader, loader)
    after = watch.weights
    assert all(torch.equal(weights, first) for weights in after[:4])
    assert not torch.equal(after[4], first)
    assert torch.equal(after[5], after[4])
    assert not torch.equal(after[6], after[5])


def test_an_exception_in_mid_window_leaves_the_anchor(loader, make_trainer):
    class Failing(Recurrent):
        def training_step(self, batch, batch_idx):
            if batch_idx == 5:
                raise RuntimeError("lost connection")
            return super().training_step(batch, batch_idx)

    module, anchors = Failing(InnerLoop(steps=3)), []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            anchors.append(module.weights())

    with pytest.raises(RuntimeError, match="lost connection"):
        make_trainer(callbacks=[Watch()]).fit(module, loader)
    assert torch.equal(module.weights(), anchors[2])


def test_should_stop_in_mid_window_leaves_the_anchor(loader, make_trainer):
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            trainer.should_stop = batch_idx == 4

    module = Recurrent(InnerLoop(steps=3))
    trainer = make_trainer(callbacks=[Stop()], max_epochs=5)
    trainer.fit(module, loader)
    straight = Recurrent(InnerLoop(steps=3))
    make_trainer(limit_train_batches=3).fit(straight, loader)
    assert trainer.global_step == 1
    assert torch.equal(module.weights(), straight.weights())


def test_max_steps_counts_restarts(loader, make_trainer):
    module = Recurrent(InnerLoop(steps=3))
    trainer = make_trainer(max_steps=4, max_epochs=-1)
    trainer.fit(module, loader)
    assert trainer.global_step == 4
    assert [record.steps for record in module.records] == [3, 3, 1, 3]


class AfterTwoSteps(RestartRule):
    def __call__(self, progress):
        return progress.k >= 2


@pytest.mark.parametrize(
    ("batches", "windows"),
    [
        ("successive", [(2, True), (2, True), (2, True), (1, False)]),
        ("same", [(2, True)] * 7),
        ("split", [(2, True), (2, False)] * 7),
    ],
)
def test_a_restart_rule_closes_windows_early(batches, windows, loader, make_trainer):
    module = Recurrent(InnerLoop(steps=4, batches=batches, restart_when=AfterTwoSteps()))
    make_trainer().fit(module, loader)
    assert [(record.steps, record.early) for record in module.records] == windows


def test_a_window_that_is_full_when_a_rule_wants_a_restart_is_not_early(loader, make_trainer):
    module = Recurrent(InnerLoop(steps=2, restart_when=AfterTwoSteps()))
    make_trainer().fit(module, loader)
    windows = [(record.steps, record.early) for record in module.records]
    assert windows == [*3 * [(2, False)], (1, False)]


def test_the_gap_rule_runs_in_a_fit(loader, make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.5), steps=20, batches="same")
    loop = InnerLoop(ball=loop.ball, steps=20, batches="same", restart_when=GapFraction(0.2))
    module = Recurrent(loop)
    make_trainer().fit(module, loader)
    assert any(record.early for record in module.records)
    assert all(
        record.gap_last <= 0.2 * record.gap_first for record in module.records if record.early
    )


def test_a_batch_whose_step_returns_none_is_skipped(loader, make_trainer):
    class Picky(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx in (1, 6) else loss

    module = Picky(InnerLoop(steps=3))
    trainer = make_trainer()
    trainer.fit(module, loader)
    assert shape(module) == [(3, 3, 3.0), (2, 2, 2.0)]
    assert trainer.global_step == 2


def test_an_evaluation_that_returns_none_is_one_of_those_of_its_batch(loader, make_trainer):
    class Picky(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss if len(self.seen) % 3 else None

    module = Picky(InnerLoop(steps=3, batches="same"))
    make_trainer().fit(module, loader)
    assert len(module.seen) == 7 * 3
    assert {record.steps for record in module.records} == {2}


def test_a_nan_batch_is_skipped_and_counted(make_trainer):
    loader = make_loader()
    loader.dataset.tensors[0][5] = float("nan")
    module = Recurrent(InnerLoop(steps=3))
    make_trainer().fit(module, loader)
    assert [(record.steps, record.skipped) for record in module.records] == [(2, 1), (3, 0), (1, 0)]
    assert module.weights().isfinite().all()


def test_a_window_of_nan_batches_makes_no_outer_step(make_trainer):
    loader = make_loader()
    loader.dataset.tensors[0][:] = float("nan")
    module, trainer = Recurrent(InnerLoop(steps=3)), make_trainer()
    before = module.weights()
    with pytest.warns(UserWarning, match="Every inner step of a window was skipped") as warned:
        trainer.fit(module, loader)
    assert sum("Every inner step" in str(warning.message) for warning in warned) == 1
    # As Lightning counts the steps that its loss scale skips: max_steps ends a fit then, too.
    assert trainer.global_step == 3
    assert [record.skipped for record in module.records] == [3, 3, 1]
    assert torch.equal(module.weights(), before)


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
def test_a_fit_that_never_sees_a_finite_gradient_ends_at_max_steps(make_trainer):
    loader = make_loader()
    loader.dataset.tensors[0][:] = float("nan")
    trainer = make_trainer(max_epochs=-1, max_steps=4)
    trainer.fit(Recurrent(InnerLoop(steps=3)), loader)
    assert trainer.global_step == 4


def test_a_dict_with_the_loss_is_taken_and_handed_on(loader, make_trainer):
    outputs = []

    class Dicts(Recurrent):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "index": batch_idx}

        def on_train_batch_end(self, output, batch, batch_idx):
            outputs.append(output)

    module, plain = Dicts(), Recurrent()
    make_trainer().fit(module, loader)
    make_trainer().fit(plain, loader)
    assert [output["index"] for output in outputs] == list(range(7))
    assert torch.equal(module.weights(), plain.weights())


def test_frozen_and_unused_parameters_stay_and_weight_decay_does_not_move_them(
    loader, make_trainer
):
    class Partly(Recurrent):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Linear(3, 3)
            self.rnn.bias_hh_l0.requires_grad_(False)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)

    module = Partly()
    frozen, unused = module.rnn.bias_hh_l0.clone(), module.unused.weight.clone()
    make_trainer().fit(module, loader)
    assert torch.equal(module.rnn.bias_hh_l0, frozen)
    assert torch.equal(module.unused.weight, unused)


def test_parameters_that_a_callback_unfreezes_join_the_next_window(loader, make_trainer):
    class Unfreeze(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 4:
                module.head.weight.requires_grad_(True)

    module = Recurrent()
    module.head.weight.requires_grad_(False)
    before = module.head.weight.detach().clone()
    make_trainer(callbacks=[Unfreeze()]).fit(module, loader)
    assert not torch.equal(module.head.weight, before)
    assert [record.restart for record in module.records] == [0, 1, 2]
