"""What a fit tells while it runs: the live window, records of restarts, costs."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_fw import FrankWolfeMixin, InnerLoop
from tests.manual.callback_nets import Network
from tests.mixin.conftest import Recurrent


class Unheard(FrankWolfeMixin, Network):
    """Has no on_restart in any of its bases but the mixin."""

    def __init__(self, inner_loop=None, lr=0.01):
        super().__init__(lr=lr)
        self.inner_loop = inner_loop or InnerLoop(steps=3)

    def configure_frank_wolfe(self):
        return self.inner_loop


def test_the_live_window_can_be_read(loader, make_trainer):
    seen = []

    class Watched(Recurrent):
        def training_step(self, batch, batch_idx):
            with self.frank_wolfe.at_anchor():
                anchor = self.weights()
            view = self.frank_wolfe
            seen.append((view.restart, view.k, view.radius, torch.equal(anchor, self.weights())))
            return super().training_step(batch, batch_idx)

    module = Watched()
    with pytest.raises(RuntimeError, match="`frank_wolfe` is the live window of a fit"):
        _ = module.frank_wolfe.k
    make_trainer().fit(module, loader)
    assert [(restart, k) for restart, k, _, _ in seen] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0),
    ]  # fmt: skip
    assert [at_anchor for *_, at_anchor in seen] == [k == 0 for _, k, _, _ in seen]


def test_the_radius_that_was_read_is_that_of_its_window(loader, make_trainer):
    seen = []

    class Watched(Recurrent):
        def training_step(self, batch, batch_idx):
            if self.frank_wolfe.k == 0:
                seen.append(self.frank_wolfe.radius)
            return super().training_step(batch, batch_idx)

    module = Watched(InnerLoop.spectral(), lr=1.0)
    make_trainer().fit(module, loader)
    assert seen == [record.radius for record in module.records]
    assert len(set(seen)) > 1


def test_callbacks_with_on_restart_get_the_records(loader, make_trainer):
    class Listener(L.Callback):
        def __init__(self):
            self.records = []

        def on_restart(self, trainer, module, record):
            self.records.append((trainer.global_step, record))

    listener, module = Listener(), Recurrent()
    make_trainer(callbacks=[listener, L.pytorch.callbacks.Timer()]).fit(module, loader)
    assert [step for step, _ in listener.records] == [1, 2, 3]
    assert [record for _, record in listener.records] == module.records


def test_a_callback_hears_of_a_window_before_its_module(loader, make_trainer):
    heard = []

    class Listener(L.Callback):
        def on_restart(self, trainer, module, record):
            heard.append("callback")

    class Module(Recurrent):
        def on_restart(self, record):
            heard.append("module")

    make_trainer(callbacks=[Listener()]).fit(Module(), loader)
    assert heard == ["callback", "module"] * 3


def test_an_on_restart_that_is_assigned_hears_of_windows(loader, make_trainer):
    module, records = Unheard(), []
    module.on_restart = records.append
    make_trainer().fit(module, loader)
    assert [record.steps for record in records] == [3, 3, 1]


def test_a_callback_that_comes_in_mid_fit_hears_of_windows_from_then_on(loader, make_trainer):
    class Late(L.Callback):
        records = []

        def on_restart(self, trainer, module, record):
            self.records.append(record)

    class Joining(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                trainer.callbacks.append(Late())

    module = Unheard()
    make_trainer(callbacks=[Joining()], max_epochs=2).fit(module, loader)
    told = [(record.steps, record.gradient_evaluations) for record in Late.records]
    assert told == [(3, 3), (3, 3), (1, 1)]


@pytest.mark.parametrize("loop", [None, InnerLoop.spectral()])
def test_a_fit_that_nobody_listens_to_goes_the_same_way(loop, loader, make_trainer):
    class Overflowing(Unheard):
        def training_step(self, batch, batch_idx):
            bad = batch_idx in (0, 3, 4, 5)
            return super().training_step(batch, batch_idx) * (float("nan") if bad else 1)

    class Heard(Overflowing):
        records = []

        def on_restart(self, record):
            self.records.append(record)

    fits = [kind(loop, lr=1.0) for kind in (Overflowing, Heard)]
    for module in fits:
        with pytest.warns(UserWarning, match="Every inner step of a window was skipped"):
            make_trainer(max_epochs=2).fit(module, loader)
    assert fits[1].records
    assert torch.equal(*(module.weights() for module in fits))


def test_a_fit_that_nobody_listens_to_takes_no_time(loader, make_trainer, tmp_path):
    """On a GPU each would be a pair of events, which nobody reads before the end of the fit."""
    told = []
    for kind in (Unheard, Recurrent):
        trainer = make_trainer()
        trainer.fit(kind(), loader)
        trainer.save_checkpoint(tmp_path / "end.ckpt")
        told.append(torch.load(tmp_path / "end.ckpt", weights_only=True)["frank_wolfe"]["tally"])
    assert [set(tally["seconds"]) for tally in told] == [set(), {"inner", "gradient", "outer"}]


def test_costs_add_up(loader, make_trainer):
    module = Recurrent()
    make_trainer().fit(module, loader)
    for record in module.records:
        assert record.gradient_seconds > 0
        assert record.oracle_seconds > 0
        assert record.outer_seconds > 0


class Drawn(Recurrent):
    example_input_array = torch.zeros(2, 5, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


# TorchScript is deprecated.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["script", "trace"])
def test_the_view_is_no_part_of_a_module_in_torchscript(method):
    module = Drawn()
    exported = module.to_torchscript(method=method, example_inputs=module.example_input_array)
    x = torch.ones(3, 5, 2)
    assert torch.equal(exported(x), module.eval()(x))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_takes_a_module_after_its_fit(loader, make_trainer):
    module, x = Drawn(), torch.ones(3, 5, 2)
    make_trainer().fit(module, loader)
    expected = module.eval()(x)
    for exported in (
        torch.jit.trace(module, x),
        torch.jit.script(module),
        module.to_torchscript(method="script"),
    ):
        assert torch.equal(exported(x), expected)


@pytest.mark.filterwarnings("ignore")
def test_a_logger_may_draw_the_graph(loader, make_trainer, tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, log_graph=True)
    make_trainer(logger=logger).fit(Drawn(), loader)
    assert EventAccumulator(logger.log_dir).Reload().Tags()["graph"]
