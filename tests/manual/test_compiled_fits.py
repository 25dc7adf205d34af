"""What else happens to a compiled module: validation, logs, later fits, checkpoints."""

from __future__ import annotations

import lightning as L
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled

from lightning_fw import FrankWolfeMixin
from tests.manual.compiled_nets import ByFrankWolfe, Parts, across_a_break, inner_loop
from tests.mixin.conftest import make_loader

pytestmark = pytest.mark.usefixtures("forget_graphs")


def test_validation_sees_the_anchor_in_a_graph_too(graphs, make_trainer):
    seen = []

    class Validated(ByFrankWolfe):
        def validation_step(self, batch, batch_idx):
            return self.training_step(batch, batch_idx)

    class Noting(L.Callback):
        def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(outputs.item())

    def losses(module):
        seen.clear()
        make_trainer(callbacks=[Noting()], val_check_interval=2, limit_val_batches=2).fit(
            module, make_loader(), make_loader()
        )
        return list(seen)

    assert losses(torch.compile(Validated(), backend=graphs, fullgraph=True)) == losses(Validated())
    assert graphs.breaks == 0


@pytest.mark.usefixtures("no_recompilation")
def test_a_second_fit_uses_the_same_graph(graphs, make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    compiled = torch.compile(module, backend=graphs)
    for one in (compiled, compiled, eager, eager):
        make_trainer().fit(one, make_loader())
    assert graphs.calls == 14
    assert torch.equal(module.weights(), eager.weights())


@pytest.mark.parametrize("fits", [0, 1])
def test_it_can_be_uncompiled_and_trained_on(fits, graphs, make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    compiled = from_compiled(torch.compile(module, backend=graphs))
    for _ in range(fits):
        make_trainer().fit(compiled, make_loader())
        make_trainer().fit(eager, make_loader())
    calls = graphs.calls
    assert to_uncompiled(compiled) is module
    make_trainer().fit(module, make_loader())
    make_trainer().fit(eager, make_loader())
    assert graphs.calls == calls == 7 * fits
    assert torch.equal(module.weights(), eager.weights())
    batch = next(iter(make_loader()))
    assert torch.equal(module.training_step(batch, 0), eager.training_step(batch, 0))


@across_a_break
def test_logs_and_restarts_are_those_of_the_eager_run(graphs, make_trainer):
    class Logs(ByFrankWolfe):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

    def logged(compile):
        trainer = make_trainer()
        trainer.fit(compile(Logs(inner_loop("same"))), make_loader())
        return trainer.callback_metrics

    compiled = logged(lambda module: torch.compile(module, backend=graphs))
    assert set(compiled) == {"loss", "loss_step", "loss_epoch"}
    torch.testing.assert_close(compiled, logged(lambda module: module))
    assert graphs.calls >= 7 * 3


def test_a_compiled_fit_resumes_from_its_checkpoint(graphs, make_trainer, tmp_path):
    straight, saved, resumed = ByFrankWolfe(), ByFrankWolfe(), ByFrankWolfe()
    make_trainer(max_epochs=2).fit(straight, make_loader())
    trainer = make_trainer()
    trainer.fit(torch.compile(saved, backend=graphs), make_loader())
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    make_trainer(max_epochs=2).fit(
        torch.compile(resumed, backend=graphs), make_loader(), ckpt_path=tmp_path / "compiled.ckpt"
    )
    assert torch.equal(resumed.weights(), straight.weights())


@pytest.mark.usefixtures("no_recompilation")
def test_the_other_namespace_trains_in_one_graph_too(graphs, tmp_path):
    def fit(compile):
        module = type("Other", (FrankWolfeMixin, Parts, pytorch_lightning.LightningModule), {})()
        trainer = pytorch_lightning.Trainer(
            accelerator="cpu",
            default_root_dir=tmp_path,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(compile(module), make_loader())
        return module.weights()

    compiled = fit(lambda module: torch.compile(module, backend=graphs))
    assert (graphs.compiled, graphs.calls, graphs.breaks) == (1, 7, 0)
    assert torch.equal(compiled, fit(lambda module: module))
