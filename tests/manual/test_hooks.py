"""Hooks around the optimizer: automatic optimization's order, arguments and gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import lightning.pytorch
import pytest
import torch
from torch import Tensor, nn

from lightning_fw import InnerLoop, L2Ball
from tests.manual.twins import NAMESPACES, Parts, batches, fit, rates_recorder, sgd, twins

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


class SeesGradients(Parts):
    """Notes ``p.grad`` where users look at it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gradients: list[list[Tensor]] = []
        self.directions: list[list[Tensor]] = []
        self.previous: list[list[Tensor | None]] = []

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.previous.append([None if p.grad is None else p.grad.clone() for p in _of(optimizer)])

    def on_after_backward(self) -> None:
        self.gradients.append([p.grad.clone() for p in self.parameters()])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.directions.append([p.grad.clone() for p in _of(optimizer)])


def _of(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize(("direction", "factor"), [("unit", 1.0), ("displacement", 0.02)])
@pytest.mark.parametrize(("steps", "windows"), [(1, [1] * 7), (3, [3, 3, 1])])
def test_on_before_optimizer_step_sees_the_direction(steps, windows, direction, factor):
    loop = InnerLoop(ball=L2Ball(radius=0.02), steps=steps, direction=direction)
    module = twins(SeesGradients)[1](None, loop)
    fit(module, max_epochs=1)
    assert len(module.directions) == len(windows)
    for window, found in zip(windows, module.directions, strict=True):
        # γ = 1/k: d_K is the mean of the atoms −δ g / ‖g‖.
        evaluations, module.gradients = module.gradients[:window], module.gradients[window:]
        for gradients, seen in zip(zip(*evaluations, strict=True), found, strict=True):
            mean = sum(gradient / gradient.norm() for gradient in gradients) / window
            torch.testing.assert_close(seen, factor * mean)


@pytest.mark.parametrize("which", [0, 1])
def test_on_before_zero_grad_sees_what_the_optimizer_stepped_along(which):
    module = twins(SeesGradients)[which](None, InnerLoop(steps=1))
    fit(module, max_epochs=1)
    assert module.previous[0] == [None, None]
    assert len(module.previous) == 7
    for seen, direction in zip(module.previous[1:], module.directions, strict=False):
        assert all(map(torch.equal, seen, direction))


def test_on_before_zero_grad_sees_the_direction_of_the_window_before():
    module = twins(SeesGradients)[1](None, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert module.previous[0] == [None, None]
    for seen, direction in zip(module.previous[1:], module.directions[:2], strict=True):
        assert all(map(torch.equal, seen, direction))


def test_what_a_hook_does_to_the_direction_reaches_the_optimizer():
    class Doubles(Parts):
        def on_before_optimizer_step(self, optimizer):
            for p in self.parameters():
                p.grad.mul_(2)

    class Replaces(Parts):
        def on_before_optimizer_step(self, optimizer):
            for p in self.parameters():
                p.grad = 2 * p.grad

    loop = InnerLoop(steps=3)
    modules = [
        twins(Parts)[1](lambda module: sgd(module, lr=0.2), loop),
        twins(Doubles)[1](None, loop),
        twins(Replaces)[1](None, loop),
    ]
    for module in modules:
        fit(module)
    expected, *others = map(weights, modules)
    for found in others:
        torch.testing.assert_close(found, expected)


def weights(module: Any) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_configure_gradient_clipping_clips_the_direction():
    class Clips(SeesGradients):
        def configure_gradient_clipping(self, optimizer, **settings):
            assert set(settings.values()) == {None}
            self.clip_gradients(optimizer, 0.1, gradient_clip_algorithm="norm")

        def on_before_zero_grad(self, optimizer):
            super().on_before_zero_grad(optimizer)
            self.norms = [*getattr(self, "norms", []), norm(self.previous[-1])]

    def norm(gradients):
        return sum(float(g.norm()) ** 2 for g in gradients if g is not None) ** 0.5

    module = twins(Clips)[1](None, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert all(norm(direction) > 0.5 for direction in module.directions)
    assert module.norms == pytest.approx([0.0, 0.1, 0.1], rel=1e-4)


# What users write into them.


class WarmsUp(Parts):
    """As in Lightning's documentation: after the step, by the steps made."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer.step(closure=optimizer_closure)
        if self.trainer.global_step < 9:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (self.trainer.global_step + 1) / 9


class WarmsUpBefore(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * min(1.0, (self.trainer.global_step + 1) / 9)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class SkipsSometimes(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        if batch_idx % 2 == 0:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()
        self.steps = [*getattr(self, "steps", []), (self.trainer.global_step, weights(self))]


class StepsTwice(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        optimizer.step(closure=optimizer_closure)
        optimizer.step()


@pytest.mark.parametrize("parts", [WarmsUp, WarmsUpBefore])
def test_a_warm_up_in_optimizer_step_is_as_in_automatic(parts):
    rates = []
    for twin in twins(parts):
        recorder = rates_recorder()
        fit(twin(), callbacks=[recorder])
        rates.append(recorder.rates)
    assert rates[0] == rates[1]
    assert len({rate for _, (rate,) in rates[0]}) == 9


@pytest.mark.parametrize("parts", [Parts, WarmsUp, SkipsSometimes, StepsTwice])
@pytest.mark.parametrize("max_steps", [-1, 5])
def test_global_step_counts_the_hook_as_in_automatic(parts, max_steps):
    ended = [fit(twin(), max_steps=max_steps, max_epochs=2) for twin in twins(parts)]
    assert [done.global_step for done in ended] == [14 if max_steps < 0 else 5] * 2


def test_a_hook_that_skips_the_step_leaves_the_weights():
    automatic, mine = (twin() for twin in twins(SkipsSometimes))
    for module in (automatic, mine):
        fit(module, max_epochs=1)
    assert [step for step, _ in mine.steps] == [step for step, _ in automatic.steps]
    after = [weights for _, weights in mine.steps]
    moves = [not torch.equal(a, b) for a, b in pairwise(after)]
    assert moves == [False, True, False, True, False, True]


class CallsTheClosure(Parts):
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        loss = optimizer_closure()
        self.losses = [*getattr(self, "losses", []), (loss, float(loss))]
        optimizer.step(closure=lambda: loss)


def test_the_closure_gives_the_loss_without_its_graph():
    automatic, mine = (twin(lambda module: sgd(module, lr=0.0)) for twin in twins(CallsTheClosure))
    for module in (automatic, mine):
        fit(module, max_epochs=1)
    assert [value for _, value in mine.losses] == [value for _, value in automatic.losses]
    assert len(mine.losses) == 7
    for loss, _ in automatic.losses + mine.losses:
        assert not loss.requires_grad


def test_with_more_steps_the_closure_gives_the_last_loss():
    losses: list[float] = []

    class Notes(CallsTheClosure):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            losses.append(float(loss.detach()))
            return {"loss": loss}

    module = twins(Notes)[1](None, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert [value for _, value in module.losses] == [losses[2], losses[5], losses[6]]


def test_a_step_without_the_closure_is_a_step():
    class WithoutClosure(SeesGradients):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer_closure()
            optimizer.step()

    modules = [twins(parts)[1](None, InnerLoop(steps=3)) for parts in (Parts, WithoutClosure)]
    for module in modules:
        fit(module)
    assert torch.equal(*map(weights, modules))
    assert len(modules[1].directions) == 9


class KeepsZeros(Parts):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad(set_to_none=False)


class ZeroesNothing(Parts):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        pass


@pytest.mark.parametrize("parts", [KeepsZeros, ZeroesNothing])
@pytest.mark.parametrize(
    "loop",
    [
        InnerLoop(steps=1),
        InnerLoop(steps=3),
        InnerLoop(steps=3, batches="same", trajectory="cumulative"),
        InnerLoop(steps=3, momentum=0.9, direction="displacement"),
        InnerLoop(steps=2, accumulate_grad_batches=2),
    ],
    ids=str,
)
def test_how_gradients_are_zeroed_changes_no_weights(parts, loop):
    def heavy(module: Any) -> Any:
        return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    modules = [twins(kind)[1](heavy, loop) for kind in (Parts, parts)]
    start = weights(modules[0]).clone()
    for module in modules:
        fit(module, batches(7, nan_in=(4,)))
    assert torch.equal(*map(weights, modules))
    assert not torch.equal(weights(modules[0]), start)


class Logs(Parts):
    """Logs in every hook that may."""

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.log("on_before_zero_grad", 1.0, on_step=True, on_epoch=True)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        self.log("optimizer_zero_grad", float(batch_idx), on_epoch=True)
        super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_before_backward(self, loss: Tensor) -> None:
        self.log("on_before_backward", 2.0)

    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        self.log("backward", 3.0)
        super().backward(loss, *arguments, **settings)

    def on_after_backward(self) -> None:
        self.log("on_after_backward", 4.0, on_step=False, on_epoch=True)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("on_before_optimizer_step", float(self.trainer.fit_loop.batch_idx), on_epoch=True)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.log("optimizer_step", float(batch_idx), on_epoch=True)


def test_what_hooks_log_is_as_in_automatic():
    automatic, mine = (fit(twin(), max_epochs=2).callback_metrics for twin in twins(Logs))
    assert mine == automatic
    assert mine["on_before_optimizer_step_epoch"] == 3.0
    assert {"on_before_zero_grad_step", "backward", "optimizer_step_step"} <= mine.keys()


@pytest.mark.parametrize(("kind", "mean"), [("successive", (2 + 5 + 6) / 3), ("same", 3.0)])
def test_what_optimizer_hooks_log_counts_once_a_restart(kind, mean):
    module = twins(Logs)[1](None, InnerLoop(steps=3, batches=kind))
    logged = fit(module, max_epochs=1).callback_metrics
    for name in ("on_before_optimizer_step_epoch", "optimizer_step_epoch"):
        torch.testing.assert_close(logged[name], torch.tensor(mean))
    opened = (0 + 3 + 6) / 3
    torch.testing.assert_close(logged["optimizer_zero_grad_epoch"], torch.tensor(opened))
