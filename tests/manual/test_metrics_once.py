"""Metrics and logs count each batch once, however often it is evaluated."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import CatMetric, MeanMetric, MeanSquaredError, MetricCollection, SumMetric
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, BinaryPrecision, BinaryRecall
from torchmetrics.wrappers import MinMaxMetric, Running

from lightning_fw import FrankWolfeMixin, FWRestartMonitor, InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent

BATCHES = ["successive", "same", "split"]


def make_loader(batch_size=4, of=4):
    """Seven batches of the first so many of four samples."""
    x = torch.randn(28, 3, generator=torch.Generator().manual_seed(1))
    x = x.view(7, of, 3)[:, :batch_size].reshape(-1, 3)
    return DataLoader(TensorDataset(x), batch_size=batch_size)


class Inside(nn.Module):
    """A part of a model that keeps its own metrics."""

    def __init__(self):
        super().__init__()
        self.mean = MeanMetric()
        self.parts = nn.ModuleList([nn.ModuleDict({"sum": SumMetric()})])


class Measured:
    """What a user writes: every kind of metric, fed with what the batch alone decides."""

    def __init__(self, inner_loop=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.inner_loop = inner_loop
        self.mean, self.total, self.accuracy = MeanMetric(), SumMetric(), BinaryAccuracy()
        self.values = CatMetric()
        self.collection = MetricCollection([BinaryPrecision(), BinaryRecall(), BinaryF1Score()])
        self.apart = MetricCollection([BinaryPrecision(), BinaryRecall()], compute_groups=False)
        self.inside = Inside()
        self.epochs = []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        (x,) = batch
        guess, truth = x[:, 0].sigmoid(), (x[:, 1] > 0).int()
        self.mean.update(x[:, 0])
        self.total(x[:, 0])
        self.accuracy(guess, truth)
        self.values.update(x[:, 1])
        self.collection.update(guess, truth)
        self.apart(guess, truth)
        self.inside.mean(x[:, 2])
        self.inside.parts[0]["sum"].update(x[:, 2])
        return self.layer(x).square().mean()

    def named_metrics(self):
        return {
            name: metric
            for name, metric in self.named_modules()
            if hasattr(metric, "compute") and name
        }

    def on_train_epoch_end(self):
        self.epochs.append({name: m.compute() for name, m in self.named_metrics().items()})
        self.updates = {name: getattr(m, "_update_count", 0) for name, m in self.metrics()}
        for metric in self.named_metrics().values():
            metric.reset()

    def metrics(self):
        return [(n, m) for n, m in self.named_metrics().items() if not n.startswith("collection")]


class ByBackPropagation(Measured, L.LightningModule):
    pass


class ByFrankWolfe(FrankWolfeMixin, Measured, L.LightningModule):
    def configure_frank_wolfe(self):
        return self.inner_loop


@pytest.mark.parametrize("batches", BATCHES)
def test_every_metric_is_that_of_automatic_optimization(batches, make_trainer):
    plain, module = ByBackPropagation(), ByFrankWolfe(InnerLoop(steps=3, batches=batches))
    for one in (plain, module):
        make_trainer(max_epochs=2).fit(one, make_loader())
    assert set(plain.epochs[0]) >= {"values", "inside.mean", "inside.parts.0.sum", "collection"}
    torch.testing.assert_close(module.epochs, plain.epochs)
    updates = 3 if batches == "split" else 1
    assert module.updates == {name: n * updates for name, n in plain.updates.items()}


class Wrapped(Measured):
    """Metrics around metrics, which count in attributes of their own."""

    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        self.running = Running(SumMetric(), window=3)
        self.extreme = MinMaxMetric(MeanMetric())
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.running(batch[0].sum())
        self.extreme.update(batch[0].mean())
        self.extreme.compute()
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.seen.append((self.running.compute(), self.extreme.compute(), self.total.compute()))

    def on_train_epoch_end(self):
        pass


# torchmetrics before 1.4, of what its own wrapper does.
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_metrics_around_metrics_do_not_count_a_repeated_batch(make_trainer):
    plain = type("Plain", (Wrapped, L.LightningModule), {})()
    module = type("Own", (Wrapped, ByFrankWolfe), {})(InnerLoop(steps=3, batches="same"))
    for one in (plain, module):
        make_trainer().fit(one, make_loader())
    torch.testing.assert_close(module.seen, plain.seen)


def test_a_metric_as_the_loss_keeps_its_gradient_at_every_evaluation(loader, make_trainer):
    class ByMetric(Recurrent):
        def __init__(self, inner_loop):
            super().__init__(inner_loop)
            self.error = MeanSquaredError()

        def training_step(self, batch, batch_idx):
            self.seen.append((len(batch[0]), self.weights()))
            return self.error(self(batch[0]), batch[1])

    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=3, batches="same")
    module, usual = ByMetric(loop), Recurrent(loop)
    for one in (module, usual):
        make_trainer().fit(one, loader)
    torch.testing.assert_close(module.weights(), usual.weights())
    assert module.error._update_count == 7


class Logging(Measured):
    """Logs in every way; its weights stay, so that first evaluations see the same ones."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("plain", loss)
        self.log("both", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("largest", loss, on_epoch=True, reduce_fx="max")
        self.log_dict({"a": loss, "b": 2 * loss}, on_epoch=True)
        self.log("metric", self.total, on_step=True, on_epoch=True)
        self.log("inside", self.inside.mean, on_epoch=True, prog_bar=True)
        self.log_dict(self.apart, on_step=True, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        pass


class Seen(L.Callback):
    """What was logged, after each batch and at the end."""

    def __init__(self):
        self.metrics = []

    def note(self, trainer):
        for metrics in (
            trainer.callback_metrics,
            trainer.logged_metrics,
            trainer.progress_bar_metrics,
        ):
            self.metrics.append(dict(metrics))

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.note(trainer)

    def on_train_end(self, trainer, module):
        self.note(trainer)


@pytest.mark.parametrize(("batches", "steps"), [("successive", 1), ("same", 3)])
def test_logs_are_those_of_automatic_optimization(batches, steps, make_trainer):
    seen = []
    for cls in (ByBackPropagation, ByFrankWolfe):
        module = type(cls.__name__, (Logging, cls), {})(InnerLoop(steps=steps, batches=batches))
        seen.append(Seen())
        trainer = make_trainer(max_epochs=2, callbacks=[seen[-1]])
        trainer.fit(module, make_loader())
    assert {"plain", "both_step", "both_epoch", "largest", "metric_step"} <= set(
        trainer.callback_metrics
    )
    torch.testing.assert_close(seen[1].metrics, seen[0].metrics)


def test_a_split_batch_logs_its_first_chunk(make_trainer):
    class Logs(Measured):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

        def training_step(self, batch, batch_idx):
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss, on_step=True, on_epoch=True)
            self.log_dict({"a": loss}, on_epoch=True)
            return loss

        def on_train_epoch_end(self):
            pass

    seen = []
    for cls, loader in (
        (ByBackPropagation, make_loader(2)),
        (ByFrankWolfe, make_loader()),
    ):
        module = type(cls.__name__, (Logs, cls), {})(InnerLoop(steps=2, batches="split"))
        seen.append(Seen())
        make_trainer(max_epochs=2, callbacks=[seen[-1]]).fit(module, loader)
    torch.testing.assert_close(seen[1].metrics, seen[0].metrics)


HOOKS = [
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
]


class LogsInHooks(L.Callback):
    """A callback that logs in every hook of a batch."""


def _log_in(hook):
    def log(self, trainer, module, *args):
        value = float(trainer.fit_loop.batch_idx)
        self.log(f"c/{hook}", value, on_step=True, on_epoch=True)
        module.log(f"m/{hook}", value + 1, on_step=True, on_epoch=True)

    return log


for _hook in HOOKS:
    setattr(LogsInHooks, _hook, _log_in(_hook))


@pytest.mark.parametrize(("batches", "steps"), [("successive", 1), ("same", 3), ("split", 2)])
def test_logs_of_hooks_count_each_batch_once(batches, steps, make_trainer):
    seen = []
    for cls in (ByBackPropagation, ByFrankWolfe):

        class Step(cls):
            def training_step(self, batch, batch_idx):
                self.log("step", float(batch_idx + 2), on_step=True, on_epoch=True)
                return self.layer(batch[0]).square().mean()

            def on_train_epoch_end(self):
                pass

        seen.append(Seen())
        trainer = make_trainer(max_epochs=2, callbacks=[LogsInHooks(), seen[-1]])
        trainer.fit(Step(InnerLoop(steps=steps, batches=batches)), make_loader())
    logged = trainer.callback_metrics
    assert logged["step_epoch"] == 5
    assert [logged[f"c/{hook}_epoch"] for hook in HOOKS] == [3] * 6
    assert [logged[f"m/{hook}_epoch"] for hook in HOOKS] == [4] * 6
    torch.testing.assert_close(seen[1].metrics, seen[0].metrics)


@pytest.mark.parametrize("batches", ["same", "split"])
def test_restarts_are_logged_after_hidden_evaluations(batches, loader, make_trainer):
    class Reports(Recurrent):
        def on_restart(self, record):
            super().on_restart(record)
            self.log("mine", float(record.restart))

    seen, module = Seen(), Reports(InnerLoop(steps=3, batches=batches))
    monitor = FWRestartMonitor(table=False)
    make_trainer(callbacks=[monitor, seen]).fit(module, loader)
    # Three dicts a batch, the first of them callback_metrics; before the first batch: nothing.
    metrics = [entry for entry in seen.metrics[::3] if entry]
    assert [entry["fw/restarts"].item() for entry in metrics] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["mine"].item() for entry in metrics] == [0, 1, 2, 3, 4, 5, 6]
    assert [entry["fw/radius"].item() for entry in metrics] == pytest.approx([1e-2] * 7)
