"""Backward passes of the user's own: what is refused, what is not, and truncation by chunks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_fw import InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent


@pytest.mark.parametrize(
    ("backward", "found"),
    [
        (lambda module, loss: loss.backward(), "gradients in p.grad after it, as backward"),
        (lambda module, loss: (0 * loss).backward(), "gradients in p.grad after it, as backward"),
        (lambda module, loss: module.manual_backward(loss), "a call of manual_backward in it"),
    ],
    ids=["raw", "of zeros", "manual_backward"],
)
@pytest.mark.parametrize("batches", ["successive", "same"])
def test_a_backward_pass_of_the_users_own_is_refused(
    backward, found, batches, loader, make_trainer
):
    class Truncated(Recurrent):
        def training_step(self, batch, batch_idx):
            x, y = batch
            for part in x.split(2, dim=1):
                loss = nn.functional.mse_loss(self(part), y)
                if len(self.seen) >= 2:
                    backward(self, loss)
            self.seen.append((len(x), self.weights()))
            return nn.functional.mse_loss(self(x), y)

    module = Truncated(InnerLoop(steps=4, batches=batches))
    before = module.weights()
    with pytest.raises(
        RuntimeError,
        match=rf"`training_step` must leave the backward pass to FrankWolfeMixin, got {found}.*"
        r'Return the loss instead.*pass InnerLoop\(batches="split"\) and override split_batch',
    ):
        make_trainer().fit(module, loader)
    assert len(module.seen) in (2, 3)
    assert torch.equal(module.weights(), before)


class Late(Recurrent):
    """Does something of its own once, where a window's first batch finds a direction in p.grad."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 3:
            self.late(loss)
        return loss


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
# torch's advice on reference cycles.
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_one_where_a_direction_stands_in_p_grad_is_refused(
    steps, create_graph, loader, make_trainer
):
    class Backward(Late):
        def late(self, loss):
            loss.backward(retain_graph=True, create_graph=create_graph)

    with pytest.raises(RuntimeError, match="got gradients in p.grad after it, as backward"):
        make_trainer().fit(Backward(InnerLoop(steps=steps)), loader)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zeroed_gradients_are_the_users_business(set_to_none, loader, make_trainer):
    class Zeroes(Late):
        def late(self, loss):
            self.optimizers().zero_grad(set_to_none=set_to_none)

    module = Zeroes()
    make_trainer().fit(module, loader)
    assert [record.steps for record in module.records] == [3, 3, 1]


def test_gradients_taken_by_autograd_are_the_users_business(loader, make_trainer):
    class Penalized(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            gradients = torch.autograd.grad(loss, list(self.parameters()), create_graph=True)
            return loss + 0.1 * sum(gradient.square().sum() for gradient in gradients)

    module = Penalized()
    make_trainer().fit(module, loader)
    assert [record.steps for record in module.records] == [3, 3, 1]


class Sequences(Recurrent):
    """Truncated back-propagation the supported way: chunks of time that hand the state on."""

    def split_batch(self, batch, chunks):
        self.state = None
        self.entered = []
        return list(zip(*(tensor.chunk(chunks, dim=1) for tensor in batch), strict=True))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.entered.append(self.state)
        output, state = self.rnn(x, self.state)
        self.state = state.detach()
        return nn.functional.mse_loss(self.head(output), y)


def test_truncated_back_propagation_by_chunks_of_time(make_trainer):
    x = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(3))
    batch, chunks, radius = (x, x.cumsum(1)[..., :1]), 3, 0.05
    loop = InnerLoop(
        ball=L2Ball(radius=radius, scope="global"),
        steps=chunks,
        batches="split",
        direction="displacement",
    )
    module = Sequences(loop, lr=1.0)

    # The same by hand: a window of chunks, the state carried on and cut off the graph.
    twin = Sequences(loop)
    anchor = twin.weights()
    displacement, state = torch.zeros_like(anchor), None
    for k in range(chunks):
        nn.utils.vector_to_parameters(anchor + displacement, twin.parameters())
        output, state = twin.rnn(x[:, 2 * k : 2 * k + 2], state)
        loss = nn.functional.mse_loss(twin.head(output), batch[1][:, 2 * k : 2 * k + 2])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, twin.parameters())])
        state = state.detach()
        displacement = k / (k + 1) * displacement - radius * gradient / gradient.norm() / (k + 1)

    make_trainer().fit(module, DataLoader([batch], batch_size=None))
    torch.testing.assert_close(module.weights(), anchor + displacement)
    assert module.entered[0] is None
    assert [entered.abs().sum() > 0 for entered in module.entered[1:]] == [True, True]
    torch.testing.assert_close(module.state, state)
    assert [(r.steps, r.batches, round(r.gradient_evaluations, 6)) for r in module.records] == [
        (chunks, 1, 1.0)
    ]


@pytest.mark.parametrize("use_pl_optimizer", [True, False])
def test_an_optimizer_step_of_the_users_own_is_refused(use_pl_optimizer, loader, make_trainer):
    class Steps(Recurrent):
        def training_step(self, batch, batch_idx):
            self.optimizers(use_pl_optimizer).step()
            return super().training_step(batch, batch_idx)

    module = Steps()
    before = module.weights()
    with pytest.raises(RuntimeError, match="`training_step` must leave the optimizer's step to"):
        make_trainer().fit(module, loader)
    assert torch.equal(module.weights(), before)


def test_a_step_of_an_optimizer_without_a_rate_is_refused(loader, make_trainer):
    class WithoutRate(torch.optim.Optimizer):
        def step(self, closure=None):
            pass

    class Steps(Recurrent):
        def training_step(self, batch, batch_idx):
            self.optimizers().step()

        def configure_optimizers(self):
            return WithoutRate(self.parameters(), {})

    with pytest.raises(RuntimeError, match="`training_step` must leave the optimizer's step to"):
        make_trainer().fit(Steps(), loader)


def test_another_optimizer_is_the_users_business(loader, make_trainer):
    class WithTemperature(Recurrent):
        def __init__(self):
            super().__init__()
            self.temperature = torch.zeros(1, requires_grad=True)
            self.own = torch.optim.SGD([self.temperature], lr=1.0)

        def training_step(self, batch, batch_idx):
            self.temperature.grad = torch.ones(1)
            self.own.step()
            return super().training_step(batch, batch_idx)

    module = WithTemperature()
    make_trainer().fit(module, loader)
    assert module.temperature.item() == -7
