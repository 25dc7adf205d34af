"""``p.grad`` in hooks: the direction before the outer step, and what hooks do to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_fw import InnerLoop, L2Ball
from tests.manual.seen_gradients import SeesGradients
from tests.manual.twins import Parts, batches, fit, sgd, twins, weights

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")


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


def test_configure_gradient_clipping_hears_what_the_trainer_was_told():
    class Hears(Parts):
        def configure_gradient_clipping(self, optimizer, **settings):
            self.told = settings

    module = twins(Hears)[1](None)
    fit(module, max_epochs=1, gradient_clip_val=0, gradient_clip_algorithm="value")
    assert module.told == {"gradient_clip_val": 0, "gradient_clip_algorithm": "value"}


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


class LooksAtAnother(Parts):
    """After each batch, in mid-window too, it takes the gradient of something else."""

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.manual_backward(sum(p.exp().sum() for p in self.parameters()))


@pytest.mark.parametrize("repeated", ["successive", "same"])
def test_gradients_left_between_batches_are_not_the_next_ones(repeated):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, batches=repeated)
    fitted = [twins(kind)[1](None, loop) for kind in (LooksAtAnother, Parts)]
    for module in fitted:
        fit(module, max_epochs=1)
    assert torch.equal(*map(weights, fitted))


class StepsOtherwise(Parts):
    """Before the optimizer's step it doubles the weight's direction and drops the bias's."""

    def optimizer_step(self, *arguments):
        self.layer.weight.grad = 2 * self.layer.weight.grad
        self.layer.bias.grad = None
        super().optimizer_step(*arguments)


def test_what_optimizer_step_does_to_the_direction_reaches_the_optimizer():
    fitted = [twins(kind)[1](None, InnerLoop(steps=3)) for kind in (StepsOtherwise, Parts)]
    starts = [weights(module) for module in fitted]
    for module in fitted:
        fit(module, max_steps=1)
    found, plain = (weights(m) - start for m, start in zip(fitted, starts, strict=True))
    torch.testing.assert_close(found[:2], 2 * plain[:2])
    assert found[2] == 0 != plain[2]
