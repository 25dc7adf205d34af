"""Hooks of a base that stands behind a module with the mixin are called, as without it."""

from __future__ import annotations

import lightning as L

from tests.mixin.conftest import Recurrent


class Extras(L.LightningModule):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["extra"] = 1

    def on_before_optimizer_step(self, optimizer):
        self.__dict__.setdefault("called", []).append("step")

    def configure_callbacks(self):
        return [L.pytorch.callbacks.Timer()]

    def teardown(self, stage):
        self.__dict__.setdefault("called", []).append("teardown")


class Both(Recurrent, Extras):
    pass


def test_hooks_of_another_base_are_called(loader, make_trainer):
    module, trainer = Both(), make_trainer()
    trainer.fit(module, loader)
    steps = trainer.global_step
    assert module.called == ["step"] * steps + ["teardown"]
    assert any(isinstance(each, L.pytorch.callbacks.Timer) for each in trainer.callbacks)
    assert trainer._checkpoint_connector.dump_checkpoint()["extra"] == 1
