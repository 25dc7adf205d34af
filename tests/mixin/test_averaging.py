"""AnchorAveraging: a mean of the anchors, the t-th with a weight that grows like t^η."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch.optim.swa_utils import AveragedModel

from lightning_fw import AnchorAveraging
from lightning_fw.averaging import average_
from tests.manual.callback_nets import Anchors, ByFrankWolfe
from tests.mixin.conftest import Recurrent


def weighted_mean(anchors, power):
    """Weights Γ(t + η) / Γ(t), the rising factorials, which grow like t^η."""
    steps = range(1, len(anchors) + 1)
    weights = torch.tensor([math.exp(math.lgamma(t + power) - math.lgamma(t)) for t in steps])
    return (weights[:, None] * torch.stack(anchors)).sum(0) / weights.sum()


@pytest.mark.parametrize("power", [0, 1, 16.0])
def test_the_average_is_the_weighted_mean_of_the_anchors(power, make_trainer):
    module, anchors = ByFrankWolfe(), Anchors()
    trainer = make_trainer(
        callbacks=[anchors, AnchorAveraging(power=power)],
        max_epochs=2,
        val_check_interval=2,
        num_sanity_val_steps=0,
    )
    trainer.fit(module)
    found = [anchors.after_restart(step) for step in range(1, trainer.global_step + 1)]
    for step, weights in module.validated[1:]:
        torch.testing.assert_close(weights, weighted_mean(found[:step], power))
    torch.testing.assert_close(module.weights(), weighted_mean(found, power))


def test_training_goes_on_from_the_anchor(make_trainer):
    seen = []
    for callbacks in ([], [AnchorAveraging()]):
        module = ByFrankWolfe()
        make_trainer(callbacks=callbacks, max_epochs=2, val_check_interval=2).fit(module)
        seen.append(torch.stack(module.seen))
    assert torch.equal(*seen)


def test_a_checkpoint_holds_the_average(make_trainer, tmp_path):
    module, anchors = ByFrankWolfe(), Anchors()
    saving = ModelCheckpoint(tmp_path, save_last=True)
    make_trainer(
        callbacks=[anchors, AnchorAveraging(), saving], max_epochs=1, enable_checkpointing=True
    ).fit(module)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    average = torch.nn.utils.parameters_to_vector(saved.values())
    assert torch.equal(average, module.weights())


@pytest.mark.parametrize("stage", ["test", "validate"])
@pytest.mark.parametrize("again", [True, False], ids=["same trainer", "new trainer"])
def test_what_is_tested_from_a_checkpoint_is_the_average(
    again, stage, loader, make_trainer, tmp_path
):
    class Tested(Recurrent):
        def test_step(self, batch, batch_idx):
            self.tested = self.weights()

        validation_step = test_step

    module, trainer = Tested(), make_trainer(callbacks=[AnchorAveraging(power=0.0)])
    trainer.fit(module, loader, loader)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    average = module.weights()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, loader, loader)
    if not again:
        trainer = make_trainer(callbacks=[AnchorAveraging(power=0.0)])
    evaluate = getattr(trainer, stage)
    evaluate(module, loader, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(module.tested, average)


def test_the_weight_of_an_old_anchor_fades_and_noise_averages_out():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.randn(400, 64, generator=generator)
    anchors[:100] += 100
    average = anchors[0].clone()
    for t in range(1, 400):
        average_([average], [anchors[t]], torch.tensor(t), power=16.0)
    # About 400 / 17 anchors count, the first 100 of them with (1/4)^17.
    assert average.std() < 1.5 * 17**0.5 / 400**0.5 and average.mean().abs() < 0.1


def test_counters_are_those_of_the_latest_anchor():
    norm = torch.nn.BatchNorm1d(2)
    averaged = AveragedModel(
        norm, use_buffers=True, multi_avg_fn=lambda a, b, n: average_(a, b, n, power=16.0)
    )
    for _ in range(3):
        norm(torch.randn(4, 2))
        averaged.update_parameters(norm)
    assert averaged.module.num_batches_tracked == norm.num_batches_tracked == 3


@pytest.mark.parametrize("power", [-1, math.nan, math.inf])
def test_a_power_that_gives_no_mean_is_refused(power):
    with pytest.raises(ValueError, match=r"`power` must be finite and >= 0, got .*\. Pass 0"):
        AnchorAveraging(power=power)


def test_a_power_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="`power`"):
        AnchorAveraging(power="16")


def test_a_decay_is_no_setting_of_it():
    with pytest.raises(TypeError, match="decay"):
        AnchorAveraging(decay=0.9)
    with pytest.raises(TypeError, match="positional"):
        AnchorAveraging(0.9)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_in_half_precision_are_refused_before_training(precision, loader, make_trainer):
    module, trainer = Recurrent(), make_trainer(precision=precision, callbacks=[AnchorAveraging()])
    expected = f"`precision` must leave weights in float32 with AnchorAveraging, got {precision}"
    with pytest.raises(ValueError, match=expected):
        trainer.fit(module, loader)
    assert module.seen == []


def test_a_layer_in_half_precision_is_refused_before_training(make_trainer):
    module = ByFrankWolfe()
    module.head.to(torch.bfloat16)
    with pytest.raises(ValueError, match="got 32-true and weights in half precision"):
        make_trainer(callbacks=[AnchorAveraging()]).fit(module)
    assert module.seen == []


def test_a_trainer_after_another_averages_from_its_start(make_trainer):
    averaging, ends = AnchorAveraging(), []
    for _ in range(2):
        module = ByFrankWolfe()
        make_trainer(callbacks=[averaging], max_epochs=2).fit(module)
        ends.append(module.weights())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], ByFrankWolfe().weights())


@pytest.mark.parametrize("value", [float("-inf"), 0.3])
def test_what_is_constant_stays(value, make_trainer):
    class Masked(ByFrankWolfe):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((3, 3), value).triu(1))

    module = Masked()
    make_trainer(callbacks=[AnchorAveraging()], max_epochs=2).fit(module)
    assert torch.equal(module.mask, Masked().mask)


def test_sparse_buffers_are_those_of_the_latest_anchor(make_trainer):
    class OnAGraph(ByFrankWolfe):
        def __init__(self):
            super().__init__()
            self.register_buffer("edges", torch.eye(3).to_sparse())

        def training_step(self, batch, batch_idx):
            self.edges = self.edges * 2
            return super().training_step(batch, batch_idx)

    module = OnAGraph()
    trainer = make_trainer(callbacks=[AnchorAveraging()], max_epochs=1)
    trainer.fit(module)
    batches = trainer.fit_loop.total_batch_idx + 1
    assert torch.equal(module.edges.to_dense(), 2.0**batches * torch.eye(3))


def test_complex_weights_are_averaged_too():
    averages = [torch.zeros(2, dtype=torch.complex64)]
    average_(averages, [torch.full((2,), 1 + 1j)], torch.tensor(1), power=0.0)
    assert torch.equal(averages[0], torch.full((2,), 0.5 + 0.5j))


@pytest.mark.parametrize(
    "other", [EMAWeightAveraging(decay=0.9), StochasticWeightAveraging(swa_lrs=0.01)]
)
def test_a_second_average_is_refused_before_training(other, make_trainer):
    module = ByFrankWolfe()
    message = f"`callbacks` must hold no other average .* got {type(other).__name__}"
    with pytest.raises(ValueError, match=message):
        make_trainer(callbacks=[AnchorAveraging(), other], max_epochs=2).fit(module)
    assert module.seen == []


def test_files_of_weights_alone_which_would_hold_no_average_are_refused(make_trainer, tmp_path):
    module, files = ByFrankWolfe(), ModelCheckpoint(tmp_path, save_weights_only=True)
    whole = ModelCheckpoint(tmp_path, every_n_epochs=2)
    trainer = make_trainer(callbacks=[AnchorAveraging(), whole, files], enable_checkpointing=True)
    with pytest.raises(ValueError, match="`save_weights_only` must be False .* ModelCheckpoint: "):
        trainer.fit(module)
    assert module.seen == []


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
@pytest.mark.parametrize("how", ["save_checkpoint", "last"])
def test_a_checkpoint_after_the_fit_goes_on_from_the_anchor(how, make_trainer, tmp_path):
    def fit(epochs, **settings):
        module = ByFrankWolfe()
        saving = ModelCheckpoint(tmp_path / how, save_last=True, every_n_epochs=3)
        trainer = make_trainer(
            callbacks=[AnchorAveraging(), *([saving] if how == "last" else [])],
            enable_checkpointing=how == "last",
            max_epochs=epochs,
        )
        trainer.fit(module, **settings)
        return module, trainer

    module, trainer = fit(2)
    path = tmp_path / how / "last.ckpt"
    if how == "save_checkpoint":
        trainer.save_checkpoint(path)
    assert torch.equal(
        torch.nn.utils.parameters_to_vector(torch.load(path)["state_dict"].values()),
        module.weights(),
    )
    resumed, _ = fit(4, ckpt_path=path)
    straight, _ = fit(4)
    assert torch.equal(resumed.weights(), straight.weights())


def test_a_fit_that_resumes_at_its_end_leaves_the_average(make_trainer, tmp_path):
    finished = ByFrankWolfe()
    trainer = make_trainer(callbacks=[AnchorAveraging()])
    trainer.fit(finished)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = ByFrankWolfe()
    trainer = make_trainer(callbacks=[AnchorAveraging()])
    trainer.fit(again, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(again.weights(), finished.weights())


def test_another_module_is_validated_as_it_is(make_trainer):
    trainer, other = make_trainer(callbacks=[AnchorAveraging()], max_epochs=1), ByFrankWolfe()
    trainer.fit(ByFrankWolfe())
    before = other.weights()
    trainer.validate(other, verbose=False)
    assert all(torch.equal(weights, before) for _, weights in other.validated)
    assert torch.equal(other.weights(), before)


def test_weights_set_before_the_first_anchor_are_those_validated(make_trainer):
    class Set(ByFrankWolfe):
        def on_fit_start(self):
            self.head.weight.data.fill_(7.0)

    module = Set()
    make_trainer(callbacks=[AnchorAveraging()], max_epochs=1, num_sanity_val_steps=1).fit(module)
    assert (module.validated[0][1] == 7.0).any()


def test_weights_in_double_precision_are_averaged(make_trainer):
    module, anchors = ByFrankWolfe(), Anchors()
    make_trainer(
        callbacks=[anchors, AnchorAveraging(power=0)], max_epochs=2, precision="64-true"
    ).fit(module)
    assert module.weights().dtype == torch.float64
    found = [anchors.after_restart(step) for step in range(1, module.trainer.global_step + 1)]
    torch.testing.assert_close(module.weights(), torch.stack(found).mean(0))


def test_a_checkpoint_holds_the_anchor_of_its_own_fit_and_module(make_trainer, tmp_path):
    averaging = AnchorAveraging()
    trainer = make_trainer(callbacks=[averaging], max_epochs=2)
    trainer.fit(ByFrankWolfe())
    other = ByFrankWolfe(lr=0.01)
    other.head.weight.data.fill_(7.0)
    trainer.validate(other, verbose=False)
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    saved = torch.load(tmp_path / "other.ckpt")["current_model_state"]
    assert torch.equal(saved["head.weight"], other.head.weight)

    class Saving(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.save_checkpoint(tmp_path / "mid.ckpt")
            self.anchor = pl_module.head.weight.detach().clone()

    saving = Saving()
    for _ in range(2):
        make_trainer(callbacks=[averaging, saving], max_epochs=1).fit(other)
        saved = torch.load(tmp_path / "mid.ckpt")["current_model_state"]
        assert torch.equal(saved["head.weight"], saving.anchor)
