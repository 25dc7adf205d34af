"""A checkpoint from within training_step holds the anchor, and no half of a window."""

from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, OnExceptionCheckpoint, WeightAveraging

from lightning_fw.manual.saved_state import put_anchor
from tests.manual.interrupted import Batches, Module, weights_in
from tests.manual.resumable_fits import CASES, fit


class Failing(Module):
    """Its training_step does something in mid-evaluation, at batch 4 of windows of three."""

    def __init__(self, act):
        super().__init__(*CASES["paper"])
        self.act = act

    def training_step(self, batch, batch_idx):
        if batch_idx == 4:
            self.displaced = self.weights()
            with self.frank_wolfe.at_anchor():
                self.anchor = self.weights()
            self.act()
        return super().training_step(batch, batch_idx)


def lose_connection():
    raise ConnectionError("lost connection")


class Keep(OnExceptionCheckpoint):
    """Lightning's removes its file when the trainer is torn down."""

    def teardown(self, *args, **kwargs):
        pass


# Lightning's word to everybody who fits under OnExceptionCheckpoint without a `ckpt_path`.
@pytest.mark.filterwarnings("ignore:.{0,2}fit.ckpt_path=")
def test_a_checkpoint_on_an_exception_holds_the_anchor_and_the_window(make_trainer, tmp_path):
    module = Failing(lose_connection)
    with pytest.raises(ConnectionError):
        make_trainer(callbacks=[Keep(tmp_path)], enable_checkpointing=True).fit(module, Batches())
    checkpoint = torch.load(tmp_path / "on_exception.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint), module.anchor)
    assert not torch.equal(module.displaced, module.anchor)
    assert checkpoint["frank_wolfe"]["window"]["displacement"]["k"] == 1
    # The batch that failed counts when it is evaluated.
    assert checkpoint["frank_wolfe"]["tally"]["batches"] == 1


class Viewed(Failing):
    """With buffers that are parts of a weight."""

    def __init__(self, act):
        super().__init__(act)
        weight = self.rnn.weight_hh_l0.detach()
        self.rnn.register_buffer("last", weight[-1:])
        self.rnn.register_buffer("turned", weight.mT)
        self.rnn.register_buffer("other", -weight)


def test_a_buffer_that_is_a_part_of_a_weight_is_at_the_anchor_with_it(make_trainer, tmp_path):
    module = Viewed(lambda: module.trainer.save_checkpoint(tmp_path / "saved.ckpt"))
    make_trainer().fit(module, Batches())
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)["state_dict"]
    weight = saved["rnn.weight_hh_l0"]
    assert torch.equal(saved["rnn.last"], weight[-1:])
    assert torch.equal(saved["rnn.turned"], weight.mT)
    assert saved["rnn.other"].shape == weight.shape


class Rewriting(Failing):
    def on_save_checkpoint(self, checkpoint):
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: weight.clone() for name, weight in weights.items()}


class Copying(Failing):
    def state_dict(self, *args, **kwargs):
        weights = super().state_dict(*args, **kwargs)
        return {name: weight.clone() for name, weight in weights.items()}


class Rebuilding(Failing):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["state_dict"] = dict(self.state_dict())


class Renaming(Failing):
    def on_save_checkpoint(self, checkpoint):
        weights = checkpoint["state_dict"].items()
        checkpoint["state_dict"] = {f"net.{name}": weight.clone() for name, weight in weights}


class Keeping(Failing):
    def on_save_checkpoint(self, checkpoint):
        weights = checkpoint["state_dict"].items()
        checkpoint["kept"] = {name: weight.clone() for name, weight in weights}


def test_the_users_hook_sees_the_anchor_in_the_checkpoint(make_trainer, tmp_path):
    module = Keeping(lambda: module.trainer.save_checkpoint(tmp_path / "mid.ckpt"))
    make_trainer().fit(module, Batches())
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint, "kept"), module.anchor)
    assert not torch.equal(module.displaced, module.anchor)


@pytest.mark.parametrize("kind", [Rewriting, Copying, Rebuilding, Renaming])
def test_copies_of_the_weights_in_a_checkpoint_are_the_anchors(kind, make_trainer, tmp_path):
    module = kind(lambda: module.trainer.save_checkpoint(tmp_path / "mid.ckpt"))
    make_trainer().fit(module, Batches())
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint), module.anchor)


@pytest.mark.parametrize("case", ["same", "split"])
def test_a_batch_that_was_cut_short_leaves_no_half_window(case, make_trainer, tmp_path):
    class CutShort(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if len(self.seen) == 6:  # the second of two evaluations of batch 2
                self.trainer.save_checkpoint(tmp_path / "mid.ckpt")
            return loss

    make_trainer().fit(CutShort(*CASES[case]), Batches())
    saved = torch.load(tmp_path / "mid.ckpt", weights_only=True)["frank_wolfe"]["window"]
    assert saved["displacement"]["k"] == 1
    module, trainer, _ = fit(make_trainer, case, ckpt_path=tmp_path / "mid.ckpt")
    # Four batches of the first epoch: the loader has handed out three.
    assert [record.steps for record in module.records] == [2] * 11
    assert [record.restart for record in module.records] == list(range(2, 13))
    assert trainer.global_step == 13


@pytest.mark.parametrize(
    ("averaging", "key"),
    [
        (None, "state_dict"),
        (partial(WeightAveraging), "current_model_state"),
        (partial(EMAWeightAveraging, decay=0.5), "current_model_state"),
    ],
    ids=["alone", "WeightAveraging", "EMAWeightAveraging"],
)
def test_a_checkpoint_from_within_training_step_holds_the_anchor(
    averaging, key, make_trainer, tmp_path
):
    class Averages(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if averaging and batch_idx == 3:
                model = callbacks[0]._average_model.module
                self.weights = model.weights()

    module = Failing(lambda: trainer.save_checkpoint(tmp_path / "mid.ckpt"))
    averages, straight = Averages(), Module(*CASES["paper"])
    callbacks = [averaging()] if averaging else []
    trainer = make_trainer(callbacks=[*callbacks, averages])
    trainer.fit(module, Batches())
    make_trainer(callbacks=[averaging()] if averaging else []).fit(straight, Batches())
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint, key), module.anchor)
    assert not torch.equal(module.displaced, module.anchor)
    if averaging:
        assert torch.equal(weights_in(checkpoint), averages.weights)
    # To be saved has not moved the fit.
    assert torch.equal(module.weights(), straight.weights())


def test_parameters_that_join_leave_the_way_to_the_anchor(make_trainer, tmp_path):
    class Joining(Module):
        def training_step(self, batch, batch_idx):
            self.head.requires_grad_(batch_idx > 0)
            return super().training_step(batch, batch_idx)

        def on_after_backward(self):
            if self.trainer.fit_loop.batch_idx == 1:
                self.displaced = self.weights()
                with self.frank_wolfe.at_anchor():
                    self.anchor = self.weights()
                self.trainer.save_checkpoint(tmp_path / "mid.ckpt")

    module = Joining(*CASES["paper"])
    make_trainer().fit(module, Batches())
    assert not torch.equal(module.displaced, module.anchor)
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    assert torch.equal(weights_in(checkpoint), module.anchor)


def test_of_weights_that_are_equal_each_gets_its_own_anchor():
    first, second = torch.ones(2), torch.ones(2)
    checkpoint = {"state_dict": {"second": second, "first": first}}
    put_anchor(checkpoint, [(first, torch.zeros(2)), (second, torch.full((2,), 2.0))])
    assert {name: w.tolist() for name, w in checkpoint["state_dict"].items()} == {
        "first": [0, 0],
        "second": [2, 2],
    }


class Wrapper(torch.Tensor):
    """As quantized weights are: without memory of its own."""

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), settings=None):
        raise NotImplementedError


def test_weights_in_one_storage_are_told_apart_and_wrappers_have_none():
    flat, kept = torch.arange(6.0), torch.arange(10.0, 16.0)
    anchor = [(flat[:2], kept[:2].clone()), (flat[2:], kept[2:].clone())]
    wrapper = torch.Tensor._make_wrapper_subclass(Wrapper, (3,), dtype=torch.float32)
    across = flat[1:4]
    checkpoint = {"state_dict": {"second": flat[2:4], "across": across, "wrapper": wrapper}}
    put_anchor(checkpoint, anchor)
    held = checkpoint["state_dict"]
    assert torch.equal(held["second"], kept[2:4])
    assert held["across"] is across
    assert held["wrapper"] is wrapper
