"""What a checkpoint holds, and what it is to a fit that does not go on with it or hears more."""

from __future__ import annotations

from dataclasses import replace

import lightning as L
import pytest
import torch
from torch.optim import SGD

from lightning_fw import FrankWolfeMixin, SlopeRatio
from lightning_fw.manual.saved_state import put_anchor
from tests.manual.interrupted import Batches, Module, Plain, SaveAfter, told
from tests.manual.saved_fits import LOOP, resume, save_after


class TestNoFitToGoOnWith:
    def test_a_module_loaded_from_a_checkpoint_starts_a_fit_of_its_own(
        self, make_trainer, tmp_path
    ):
        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        loaded, fresh = Module.load_from_checkpoint(path, inner_loop=LOOP), Module(LOOP)
        fresh.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        for module in (loaded, fresh):
            make_trainer().fit(module, Batches())
        assert told(loaded.records) == told(fresh.records)
        assert torch.equal(loaded.weights(), fresh.weights())

    def test_what_a_failed_resume_left_does_not_reach_the_next_fit(self, make_trainer, tmp_path):
        class Fails(L.Callback):
            def on_train_start(self, trainer, module):
                raise ConnectionError

        path = save_after(4, Module(LOOP), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.raises(ConnectionError):
            resume(path, module, make_trainer, callbacks=[Fails()])
        make_trainer().fit(module, Batches())
        assert [(record.restart, record.steps) for record in module.records] == [
            (0, 3),
            (1, 3),
            (2, 1),
        ]

    def test_a_checkpoint_of_weights_alone_holds_the_anchor(self, make_trainer, tmp_path):
        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if batch_idx == 4:
                    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
                    self.weights = module.weights()

        save = Save()
        make_trainer(callbacks=[save]).fit(Module(LOOP), Batches())
        loaded = Module.load_from_checkpoint(tmp_path / "weights.ckpt", inner_loop=LOOP)
        assert torch.equal(loaded.weights(), save.weights)


class TestHooks:
    def test_a_modules_own_hooks_need_not_call_super(self, make_trainer, tmp_path):
        class Own(Module):
            def on_save_checkpoint(self, checkpoint):
                checkpoint["mine"] = 7

            def on_load_checkpoint(self, checkpoint):
                self.loaded = checkpoint["mine"]

        straight = Own(LOOP)
        save = SaveAfter(tmp_path, [4])
        make_trainer(max_epochs=2, callbacks=[save]).fit(straight, Batches())
        resumed = Own(LOOP)
        resume(save.path(4), resumed, make_trainer)
        assert resumed.loaded == 7
        assert torch.equal(resumed.weights(), straight.weights())

    def test_state_that_is_not_a_tensor_is_saved(self, make_trainer, tmp_path):
        class Extra(Module):
            def get_extra_state(self):
                return {"vocabulary": ["a", "b"]}

            def set_extra_state(self, state):
                self.vocabulary = state["vocabulary"]

            def training_step(self, batch, batch_idx):
                if batch_idx == 4:
                    self.trainer.save_checkpoint(tmp_path / "mid.ckpt")
                    with self.frank_wolfe.at_anchor():
                        self.anchor = self.weights()
                return super().training_step(batch, batch_idx)

        module = Extra(LOOP)
        path = save_after(4, module, make_trainer, tmp_path)
        for file in (path, tmp_path / "mid.ckpt"):
            loaded = Extra.load_from_checkpoint(file, inner_loop=LOOP)
            assert loaded.vocabulary == ["a", "b"]
            assert torch.equal(loaded.weights(), module.anchor)

    def test_the_anchor_takes_the_place_of_tied_weights_and_copies_too(self):
        weight, other = torch.tensor([1.1, 2.0]), torch.ones(2)
        anchor = torch.tensor([0.1, 0.0])
        weights = {"in": weight, "out": weight, "half": weight.half(), "copy": weight.clone()}
        mask, meta = torch.tensor([True, True]), torch.empty(2, device="meta")
        sparse = other.to_sparse()
        others = {"mask": mask, "meta": meta, "sparse": sparse, "extra": None}
        checkpoint = {"state_dict": {**weights, "other": other, **others}}
        put_anchor(checkpoint, [(weight, anchor)])
        held = checkpoint["state_dict"]
        assert all(held[name] is other for name, other in others.items())
        assert held["in"] is held["out"] is anchor
        assert torch.equal(held["copy"], anchor)
        assert torch.equal(held["half"], anchor.half())
        assert held["half"].dtype == torch.float16
        assert held["other"] is other


def test_a_fit_resumes_where_the_monitor_comes_only_then(make_trainer, tmp_path):
    """Statistics that the first part did not keep are missing, not wrong."""

    class Silent(FrankWolfeMixin, Plain):
        def configure_frank_wolfe(self):
            return replace(LOOP, radius_rule=SlopeRatio(), direction="displacement")

        def configure_optimizers(self):
            return SGD(self.parameters(), lr=1.0)

    class Heard(Silent):
        def on_restart(self, record):
            self.records = [*getattr(self, "records", []), record]

    save = SaveAfter(tmp_path, [4])
    straight, heard = Silent(), Heard()
    make_trainer(max_epochs=2, callbacks=[save]).fit(straight, Batches())
    resume(save.path(4), heard, make_trainer)
    assert torch.equal(heard.weights(), straight.weights())
    first, second, *_ = heard.records
    assert first.gap_first != first.gap_first
    assert first.cosine != first.cosine
    assert first.gap_last > 0
    assert -1 <= second.cosine <= 1


def test_a_file_of_weights_alone_holds_the_anchor_and_no_window(make_trainer, tmp_path):
    class SavesWeights(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
                trainer.save_checkpoint(tmp_path / "whole.ckpt")

    make_trainer(callbacks=[SavesWeights()]).fit(Module(LOOP), Batches())
    weights, whole = (
        torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("weights", "whole")
    )
    assert "frank_wolfe" not in weights
    assert whole["frank_wolfe"]["window"]["attempts"] == 2
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weights["state_dict"][name], weight)
