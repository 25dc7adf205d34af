"""The anchor visited within `training_step`."""

from __future__ import annotations

import pytest
import torch

from tests.mixin.conftest import Recurrent, loss_of


def test_the_anchor_may_be_visited_between_forward_and_backward(loader, make_trainer):
    class Visiting(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            with self.frank_wolfe.at_anchor(), torch.no_grad():
                self(batch[0])
            return loss

    module, undisturbed = Visiting(), Recurrent()
    for fitted in (module, undisturbed):
        make_trainer().fit(fitted, loader)
    assert torch.equal(module.weights(), undisturbed.weights())


def test_a_visit_within_a_visit_ends_where_it_began(loader, make_trainer):
    class Visiting(Recurrent):
        def training_step(self, batch, batch_idx):
            displaced = self.weights()
            with self.frank_wolfe.at_anchor():
                anchor = self.weights()
                with self.frank_wolfe.at_anchor():
                    assert torch.equal(self.weights(), anchor)
                assert torch.equal(self.weights(), anchor)
            assert torch.equal(self.weights(), displaced)
            return super().training_step(batch, batch_idx)

    make_trainer().fit(Visiting(), loader)


def test_gradients_are_taken_of_graphs_made_at_the_anchor(loader, make_trainer):
    found = []

    class Visiting(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            with self.frank_wolfe.at_anchor():
                found.append((batch, self.weights(), gradients(self, batch)))
            return loss

    def gradients(module, batch):
        return torch.autograd.grad(loss_of(module, batch), list(module.parameters()))

    make_trainer().fit(Visiting(), loader)
    elsewhere = Recurrent()
    for batch, weights, within in found:
        torch.nn.utils.vector_to_parameters(weights, elsewhere.parameters())
        assert all(map(torch.equal, within, gradients(elsewhere, batch)))


def test_a_loss_made_at_the_anchor_is_refused(loader, make_trainer):
    class Visiting(Recurrent):
        def training_step(self, batch, batch_idx):
            with self.frank_wolfe.at_anchor():
                return super().training_step(batch, batch_idx)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        make_trainer().fit(Visiting(), loader)


def test_a_graph_made_before_is_refused_at_the_anchor(loader, make_trainer):
    class Visiting(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            with self.frank_wolfe.at_anchor():
                torch.autograd.grad(loss, list(self.parameters()), retain_graph=True)
            return loss

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        make_trainer().fit(Visiting(), loader)
