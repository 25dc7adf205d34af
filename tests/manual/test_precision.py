"""Precision: what is kept in which dtype."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import lightning as L
import pytest
import torch
from torch.optim import SGD, Adam

from lightning_fw import InnerLoop, L2Ball, SpectralBall
from tests.manual.interrupted import Module
from tests.manual.scaled_fits import fit
from tests.mixin.conftest import Recurrent, make_loader


class TestDtypes:
    @pytest.mark.parametrize(
        ("precision", "weight", "displacement"),
        [
            ("32-true", torch.float32, torch.float32),
            ("64-true", torch.float64, torch.float64),
            ("bf16-mixed", torch.float32, torch.float32),
            ("bf16-true", torch.bfloat16, torch.float32),
            ("16-true", torch.float16, torch.float32),
        ],
    )
    def test_displacements_have_the_weights_dtype_but_never_less_than_float32(
        self, precision, weight, displacement, make_trainer, tmp_path
    ):
        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if batch_idx == 4:
                    trainer.save_checkpoint(tmp_path / "mid.ckpt")

        class Noting(Module):
            def on_before_optimizer_step(self, optimizer):
                self.directions = {p.grad.dtype for p in self.parameters()}

        loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)
        adam = partial(Adam, lr=0.01, eps=1e-3)
        module, *_ = fit(
            make_trainer, loop, adam, kind=Noting, precision=precision, callbacks=[Save()]
        )
        window = torch.load(tmp_path / "mid.ckpt", weights_only=True)["frank_wolfe"]["window"]
        assert {p.dtype for p in module.parameters()} == {weight}
        assert module.directions == {weight}
        assert {d.dtype for d in window["displacement"]["tensors"]} == {displacement}
        assert {m.dtype for m in window["momentum"]} == {displacement}
        assert [record.steps for record in module.records] == [3, 3, 1] * 2

    @pytest.mark.parametrize(
        ("precision", "tolerance"), [("64-true", 1e-6), ("bf16-mixed", 0.02), ("bf16-true", 0.06)]
    )
    def test_other_precisions_train_as_float32_does(self, precision, tolerance, make_trainer):
        loop = InnerLoop(ball=L2Ball(radius=0.1, scope="global"), steps=3)
        outer = partial(SGD, lr=0.1)
        expected, *_ = fit(make_trainer, loop, outer)
        module, *_ = fit(make_trainer, loop, outer, precision=precision)
        start = Module().weights()
        way, mine = expected.weights() - start, module.weights().float() - start
        assert (mine - way).norm() <= tolerance * way.norm()

    def test_displacements_below_half_an_ulp_add_up(self, make_trainer):
        """Weights in bfloat16 cannot show them: d_K must be the mean of the atoms all the same."""

        class Noting(Module):
            def on_after_backward(self):
                gradients = [p.grad.double() for p in self.parameters()]
                self.atoms = [
                    *getattr(self, "atoms", []),
                    [-gradient / gradient.norm() for gradient in gradients],
                ]

            def on_before_optimizer_step(self, optimizer):
                self.directions = [p.grad.double() for p in self.parameters()]

        class Save(L.Callback):
            def on_train_batch_end(self, trainer, module, *args):
                window = module._frank_wolfe_driver.window.state_dict()["displacement"]
                if window["k"] == 6:
                    self.found = [window["factor"] * d.double() for d in window["tensors"]]

        save = Save()
        loop = InnerLoop(ball=L2Ball(radius=1e-6), steps=7)
        module, *_ = fit(
            make_trainer, loop, kind=Noting, precision="bf16-true", max_epochs=1, callbacks=[save]
        )
        first, last = module.seen[0][1], module.seen[-1][1]
        moved = (first != last).float().mean()
        assert moved < 0.2  # a weight next to zero may show it
        for found, *atoms in zip(save.found, *module.atoms[:6], strict=True):
            torch.testing.assert_close(found, sum(atoms) / 6, rtol=1e-5, atol=1e-6)
        for direction, *atoms in zip(module.directions, *module.atoms, strict=True):
            torch.testing.assert_close(direction, -sum(atoms) / 7, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_other_precisions_train(precision, make_trainer):
    loader = make_loader()
    if precision == "bf16-true":
        loader.dataset.tensors = tuple(t.bfloat16() for t in loader.dataset.tensors)
    elif precision == "64-true":
        loader.dataset.tensors = tuple(t.double() for t in loader.dataset.tensors)
    module = Recurrent(InnerLoop(ball=L2Ball(radius=0.1), steps=3), lr=0.1)
    before = module.weights()
    make_trainer(precision=precision).fit(module, loader)
    assert not torch.equal(module.weights().to(before), before)
    assert all(record.steps == 3 for record in module.records[:2])


class Noted(L2Ball):
    """Tells the precision that its products would be computed in."""

    seen: ClassVar[list[bool]] = []

    def atoms(self, *arguments):
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return super().atoms(*arguments)


class TestAutocast:
    @pytest.mark.parametrize("batches", ["successive", "split"])
    def test_it_is_around_the_users_step_alone(self, batches, loader, make_trainer, monkeypatch):
        monkeypatch.setattr(Noted, "seen", [])
        steps, backward, outer = [], [], []

        class Watched(Recurrent):
            def training_step(self, batch, batch_idx):
                steps.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
                return super().training_step(batch, batch_idx)

            def on_after_backward(self):
                backward.append(torch.is_autocast_enabled("cpu"))

            def on_before_optimizer_step(self, optimizer):
                outer.append(torch.is_autocast_enabled("cpu"))

        module = Watched(InnerLoop(ball=Noted(radius=0.1), steps=2, batches=batches))
        make_trainer(precision="bf16-mixed").fit(module, loader)
        assert set(steps) == {(True, torch.bfloat16)}
        assert {*Noted.seen, *backward, *outer} == {False}

    def test_spectral_atoms_are_those_of_float32(self, loader, make_trainer):
        found = []

        class Checked(Recurrent):
            def on_before_optimizer_step(self, optimizer):
                found.append(torch.linalg.svdvals(self.rnn.weight_hh_l0.grad))

        loop = InnerLoop(ball=SpectralBall(), steps=1)
        make_trainer(precision="bf16-mixed").fit(Checked(loop), loader)
        assert torch.stack(found).amax() <= 1 + 1e-6
