"""Checkpoints of plain modules resumed by Frank-Wolfe, and the other way round."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import lightning as L
import pytest
import torch

from lightning_fw import InnerLoop
from lightning_fw.manual.saved_state import share_progress
from tests.manual.interrupted import Batches, Module, Plain, weights_in
from tests.manual.saved_fits import LOOP, WITHOUT, resume, save_after


class TestWithAndWithoutTheMixin:
    @pytest.mark.parametrize("batch", [4, 6])
    def test_a_plain_checkpoint_opens_a_new_window_with_a_warning(
        self, batch, make_trainer, tmp_path
    ):
        path = save_after(batch, Plain(), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.warns(UserWarning, match=WITHOUT):
            trainer = resume(path, module, make_trainer)
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert torch.equal(module.seen[0][1], weights_in({"state_dict": weights}))
        shorter = [2] if batch == 4 else []
        assert [record.steps for record in module.records] == [*shorter, 3, 3, 1]
        assert module.records[0].restart == 0
        # Every batch was an optimizer's step before, every restart is one now.
        assert trainer.global_step == batch + 1 + len(module.records)

    def test_a_plain_checkpoint_counts_towards_max_steps(self, make_trainer, tmp_path):
        path = save_after(6, Plain(), make_trainer, tmp_path)
        module = Module(LOOP)
        with pytest.warns(UserWarning, match=WITHOUT):
            trainer = resume(path, module, make_trainer, max_steps=9)
        assert trainer.global_step == 9
        assert len(module.records) == 2

    @pytest.mark.parametrize("batch", [4, 6])
    def test_a_plain_module_goes_on_from_the_anchor(self, batch, make_trainer, tmp_path):
        path = save_after(batch, Module(LOOP), make_trainer, tmp_path)
        module = Plain()
        trainer = resume(path, module, make_trainer)
        restarts, left = {4: (1, 9), 6: (3, 7)}[batch]
        assert trainer.global_step == restarts + left
        expected = Plain()
        expected.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        straight = Batches()
        straight.batches = straight.batches[7 - (left - 7) :] + straight.batches
        make_trainer(max_epochs=1).fit(expected, straight)
        for mine, other in zip(module.parameters(), expected.parameters(), strict=True):
            assert torch.equal(mine, other)

    def test_steps_add_up_however_often_the_mixin_comes_and_goes(self, make_trainer, tmp_path):
        path, steps = None, []
        for epochs, module in enumerate((Module(LOOP), Plain(), Module(LOOP), Plain()), start=1):
            trainer = make_trainer(max_epochs=epochs)
            with pytest.warns(UserWarning, match=WITHOUT) if epochs == 3 else nullcontext():
                trainer.fit(module, Batches(), ckpt_path=path)
            path = tmp_path / f"{epochs}.ckpt"
            trainer.save_checkpoint(path)
            steps.append(trainer.global_step)
        assert steps == [3, 10, 13, 20]

    @pytest.mark.parametrize(
        ("most", "saves", "expected"),
        [
            ("manual", False, "manual"),
            ("automatic", False, "automatic"),
            ("automatic", True, "manual"),
        ],
    )
    def test_either_kind_of_optimization_gets_the_steps_of_the_other(self, most, saves, expected):
        def steps(kind):
            done = 5 if kind == most else 0
            return {"total": {"completed": done}, "current": {"completed": done - done // 2}}

        loop = {
            "epoch_loop.manual_optimization.optim_step_progress": steps("manual"),
            "epoch_loop.automatic_optimization.optim_progress": {
                "optimizer": {"step": steps("automatic")}
            },
        }
        right = steps(expected)
        share_progress({"loops": {"fit_loop": loop}}, saves=saves)
        manual, automatic = loop.values()
        assert manual == automatic["optimizer"]["step"] == right

    def test_a_file_that_was_stripped_to_its_weights_loads(self, tmp_path):
        module = Module(LOOP)
        file = {"state_dict": module.state_dict(), "pytorch-lightning_version": L.__version__}
        torch.save(file, tmp_path / "stripped.ckpt")
        loaded = Module.load_from_checkpoint(tmp_path / "stripped.ckpt", inner_loop=LOOP)
        assert torch.equal(loaded.weights(), module.weights())

    def test_nothing_but_a_fit_warns(self, make_trainer, tmp_path):
        class Tested(Module):
            def predict_step(self, batch, batch_idx):
                self.tested = self.weights()
                return self.tested.sum()

            test_step = predict_step

        plain = save_after(4, Plain(), make_trainer, tmp_path / "plain")
        own = save_after(4, Tested(LOOP), make_trainer, tmp_path / "own")
        for path in (plain, own):
            held = weights_in(torch.load(path, weights_only=True))
            for run in ("test", "predict"):
                module, trainer = Tested(LOOP), make_trainer()
                getattr(trainer, run)(module, Batches(), ckpt_path=path)
                assert torch.equal(module.tested, held)
            loaded = Tested.load_from_checkpoint(path, inner_loop=LOOP)
            assert torch.equal(loaded.weights(), held)
            # A window takes several times the memory of the weights.
            assert loaded._saved_driver_state is None

    def test_of_weights_alone_lightning_says_that_no_fit_goes_on_from_them(
        self, make_trainer, tmp_path
    ):
        trainer, path = make_trainer(), tmp_path / "weights.ckpt"
        trainer.fit(Plain(), Batches())
        trainer.save_checkpoint(path, weights_only=True)
        # No warning before it, which would be an error here.
        with pytest.raises(KeyError, match="contains only the model"):
            make_trainer().fit(Module(LOOP), Batches(), ckpt_path=path)


class ByAdam(Plain):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class FrankWolfeByAdam(Module):
    configure_optimizers = ByAdam.configure_optimizers


class Displaced(Module):
    def configure_optimizers(self):
        return self.inner_loop.outer(self.parameters())


class AtStart(L.Callback):
    def on_train_start(self, trainer, module):
        optimizer = trainer.optimizers[0]
        (group,) = optimizer.param_groups
        self.settings = {name: value for name, value in group.items() if name != "params"}
        self.state = dict(optimizer.state)


SPECTRAL = InnerLoop.spectral()


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (ByAdam(), Displaced(SPECTRAL), "is of another optimizer, which has amsgrad, betas"),
        (Plain(), Displaced(SPECTRAL), "went with gradients, not with whole steps"),
        (
            Displaced(SPECTRAL),
            FrankWolfeByAdam(LOOP),
            "is of SGD: Adam and its schedulers start",
        ),
    ],
    ids=["Adam to SGD", "gradients to displacements", "SGD to Adam"],
)
@pytest.mark.filterwarnings("ignore:The checkpoint")
def test_an_optimizer_starts_anew_where_the_state_is_anothers(
    before, after, reason, make_trainer, tmp_path
):
    path, start = save_after(6, before, make_trainer, tmp_path), AtStart()
    with pytest.warns(UserWarning, match=f"The checkpoint's optimizer state {reason}"):
        resume(path, after, make_trainer, callbacks=[start])
    fresh = after.configure_optimizers()
    assert start.settings.items() >= fresh.defaults.items()
    assert start.state == {}


@pytest.mark.parametrize("direction", ["unit", "displacement"])
@pytest.mark.filterwarnings("ignore:The checkpoint's Frank-Wolfe window")
@pytest.mark.filterwarnings("ignore:`configure_optimizers` gave SGD")
def test_an_optimizer_starts_anew_where_the_direction_is_another(direction, make_trainer, tmp_path):
    other = {"unit": "displacement", "displacement": "unit"}[direction]
    module = Module(replace(LOOP, direction=direction))
    path, start = save_after(6, module, make_trainer, tmp_path), AtStart()
    module = Module(replace(LOOP, direction=other))
    module.lr = 0.5
    reason = f"The checkpoint's optimizer state went with direction='{direction}': SGD and its"
    with pytest.warns(UserWarning, match=reason):
        resume(path, module, make_trainer, callbacks=[start])
    assert start.settings["lr"] == 0.5
    assert start.state == {}


def test_a_file_saved_after_a_fit_knows_its_optimizer(make_trainer, tmp_path):
    trainer, module = make_trainer(), FrankWolfeByAdam(LOOP)
    trainer.fit(module, Batches())
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    saved = torch.load(tmp_path / "after.ckpt", weights_only=True)
    assert saved["frank_wolfe"]["optimizer"] == "Adam"


OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")


@pytest.mark.parametrize(
    ("added", "missing"),
    [(OF_SCHEDULERS, ("fused", "differentiable")), (("lr_scale",), ())],
    ids=["an older torch's", "with a setting of the user's"],
)
@pytest.mark.filterwarnings(f"ignore:{WITHOUT}")
def test_a_state_of_the_same_optimizer_is_gone_on_with(added, missing, make_trainer, tmp_path):
    path, start = save_after(6, Plain(), make_trainer, tmp_path), AtStart()
    checkpoint = torch.load(path, weights_only=True)
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    for name in missing:
        del group[name]
    group.update(dict.fromkeys(added, 0.5), lr=0.125)
    torch.save(checkpoint, path)
    resume(path, Module(LOOP), make_trainer, callbacks=[start])
    assert start.settings["lr"] == 0.125


class Counting(torch.optim.SGD):
    """Saves nothing but how often it has stepped."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        return super().step(closure)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state_dict):
        self.steps = state_dict["steps"]


def test_a_state_in_a_form_of_the_optimizers_own_is_gone_on_with(make_trainer, tmp_path):
    def counting(parameters):
        return Counting(parameters, lr=0.01)

    path = save_after(6, Module(LOOP, counting), make_trainer, tmp_path)
    trainer = resume(path, Module(LOOP, counting), make_trainer)
    assert trainer.optimizers[0].steps == trainer.global_step == 6


class ScheduledAtStart(L.Callback):
    def on_train_start(self, trainer, module):
        (config,) = trainer.lr_scheduler_configs
        self.steps = config.scheduler.last_epoch


def with_a_rate_a_step(optimizer):
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


@pytest.mark.filterwarnings(f"ignore:{WITHOUT}")
def test_schedulers_start_anew_with_their_optimizer(make_trainer, tmp_path):
    class Before(ByAdam):
        def configure_optimizers(self):
            return with_a_rate_a_step(super().configure_optimizers())

    class After(Displaced):
        def configure_optimizers(self):
            return with_a_rate_a_step(super().configure_optimizers())

    path, start = save_after(6, Before(), make_trainer, tmp_path), ScheduledAtStart()
    with pytest.warns(UserWarning, match="SGD and its schedulers start anew"):
        resume(path, After(SPECTRAL), make_trainer, callbacks=[start])
    assert start.steps == 0
