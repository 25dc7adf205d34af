"""Hooks around the optimizer: automatic optimization's order, arguments and counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import lightning as L
import lightning.pytorch
import pytest
import torch
from torch import Tensor

from lightning_fw import InnerLoop, L2Ball
from tests.manual.callback_nets import ByFrankWolfe
from tests.manual.twins import NAMESPACES, Parts, batches, fit, sgd, twins

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")

OF_MODULE = (
    "on_train_batch_start",
    "training_step",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_train_batch_end",
)
OF_CALLBACK = tuple(name for name in OF_MODULE if name.startswith("on_"))


def told(argument: Any) -> Any:
    """What of an argument must be the same in both twins."""
    if isinstance(argument, int | bool | None):
        return argument
    if isinstance(argument, list | tuple):
        return [told(entry) for entry in argument]
    if isinstance(argument, dict):
        return {name: told(entry) for name, entry in argument.items()}
    if isinstance(argument, Tensor):
        return tuple(argument.shape)
    if inspect.isfunction(argument) or hasattr(argument, "closure"):
        return "closure"
    return type(argument).__name__.removeprefix("ByFrankWolfe").removeprefix("Plain")


def noting(events: list[Any], who: str, name: str, inherited: Callable[..., Any]) -> Any:
    def hook(self: Any, *arguments: Any, **settings: Any) -> Any:
        events.append((who, name, told(arguments), told(settings)))
        return inherited(self, *arguments, **settings)

    return hook


def noting_on_return(events: list[Any], inherited: Callable[..., Any]) -> Any:
    """For ``optimizer_step``, which holds the evaluation in automatic optimization alone."""

    def optimizer_step(self: Any, *arguments: Any) -> None:
        inherited(self, *arguments)
        events.append(("module", "optimizer_step", told(arguments), {}))

    return optimizer_step


def events_of(
    which: int, inner_loop: InnerLoop | None = None, namespace: ModuleType = lightning.pytorch
) -> list[Any]:
    """Every hook of one twin's fit of two epochs, with what it got."""
    events: list[Any] = []
    core = type("Core", (Parts, namespace.LightningModule), {})
    hooks = {name: noting(events, "module", name, getattr(core, name)) for name in OF_MODULE}
    # Lightning looks at the signature of this one.
    hooks["training_step"] = _training_step(events)
    hooks["optimizer_step"] = noting_on_return(events, core.optimizer_step)
    noted = type("Noted", (Parts,), hooks)
    callback = type(
        "Callback",
        (namespace.Callback,),
        {
            name: noting(events, "callback", name, getattr(namespace.Callback, name))
            for name in OF_CALLBACK
        },
    )
    fit(
        twins(noted, namespace)[which](by_steps, inner_loop),
        callbacks=[callback()],
        namespace=namespace,
        max_epochs=2,
    )
    return events


def _training_step(events: list[Any]) -> Any:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        events.append(("module", "training_step", batch_idx, {}))
        return Parts.training_step(self, batch, batch_idx)

    return training_step


def by_steps(module: Any) -> Any:
    optimizer = sgd(module)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_hooks_fire_in_automatics_order_with_its_arguments(namespace):
    automatic, mine = (events_of(which, namespace=namespace) for which in (0, 1))
    assert mine == automatic
    assert {name for _, name, *_ in mine} == {*OF_MODULE, "optimizer_step"}


@pytest.mark.parametrize("kind", ["successive", "same", "split"])
def test_backward_hooks_fire_once_an_evaluation_and_optimizer_hooks_once_a_restart(kind):
    events = [name for who, name, *_ in events_of(1, InnerLoop(steps=3, batches=kind))]
    evaluation = ["training_step", *["on_before_backward"] * 2, "backward"]
    evaluation += ["on_after_backward"] * 2
    opening = ["training_step", *["on_before_zero_grad"] * 2, "optimizer_zero_grad"]
    opening += evaluation[1:]
    restart = [*["on_before_optimizer_step"] * 2, "configure_gradient_clipping", "optimizer_step"]
    start, end = ["on_train_batch_start"] * 2, ["on_train_batch_end"] * 2
    if kind == "successive":  # windows of 3, 3 and 1
        full = start + opening + end + start + evaluation + end + start + evaluation
        full += [*restart, "lr_scheduler_step", *end]
        expected = full * 2 + start + opening + restart + ["lr_scheduler_step"] + end
    else:
        batch = start + opening + evaluation * 2 + restart + ["lr_scheduler_step"] + end
        expected = batch * 7
    assert events == expected * 2


def test_a_window_without_a_step_steps_no_optimizer():
    names: list[str] = []

    class Notes(Parts):
        def on_before_zero_grad(self, optimizer):
            names.append("zero_grad")

        def optimizer_step(self, *arguments):
            names.append("step")
            super().optimizer_step(*arguments)

    module = twins(Notes)[1](None, InnerLoop(steps=3))
    fit(module, batches(9, nan_in=(3, 4, 5)), max_epochs=1)
    assert names == ["zero_grad", "step", "zero_grad", "zero_grad", "step"]


@pytest.mark.parametrize("assigned", [False, True])
def test_a_hook_may_be_called_by_keyword(assigned):
    class Notes(Parts):
        def on_save_checkpoint(self, checkpoint, *, note="class"):
            checkpoint["note"] = note

        def on_train_batch_end(self, outputs, batch, batch_idx):
            by_place, by_name, noted = ({"optimizer_states": []} for _ in range(3))
            self.on_save_checkpoint(by_place)
            self.on_save_checkpoint(checkpoint=by_name)
            self.on_save_checkpoint(checkpoint=noted, note="given")
            assert noted.keys() == by_name.keys() == by_place.keys()
            notes.append((len(by_name) > 2, by_place["note"], by_name["note"], noted["note"]))

    notes = []
    module = twins(Notes)[1](None, InnerLoop(steps=3))
    if assigned:
        module.on_save_checkpoint = partial(Notes.on_save_checkpoint, module, note="instance")
    fit(module, batches(4), max_epochs=1)
    note = "instance" if assigned else "class"
    assert notes[0] == (True, note, note, "given")


def test_hooks_of_a_fit_come_as_often_as_batches(make_trainer):
    class Counts(L.Callback):
        starts = ends = 0

        def on_train_batch_start(self, *args):
            self.starts += 1

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.ends += 1
            assert outputs["loss"].ndim == 0

    counts = Counts()
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, batches="same")
    make_trainer(callbacks=[counts]).fit(ByFrankWolfe(loop))
    assert (counts.starts, counts.ends) == (7, 7)
