"""The gradients of an inner step: taken from ``p.grad``, averaged over the batches that make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fw.tensors.foreach import pick, scale_, working_dtype
from lightning_fw.tensors.shards import like, placed_as
from lightning_fw.window.buffers import clones, places


class Gradients:
    """Takes gradients off their parameters, so that nobody else adds to them or clears them.

    Args:
        parameters: The parameters that the window moves.

    Attributes:
        batches: Batches held for the step to come.
        skipped: Batches that have nothing to hold, and count for nothing in the mean.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._sums: dict[int, Tensor] = {}
        self._losses: list[Tensor] = []
        self.batches = self.skipped = 0

    def drop(self) -> None:
        """Set every ``p.grad`` to None."""
        for p in self._parameters:
            p.grad = None

    def hold(self, loss: Tensor | None) -> None:
        """Add what stands in ``p.grad``, and the loss, to the step to come.

        Half precision is added up in float32: a sum of many batches would swallow the later ones.
        """
        for index, gradient in zip(*self._take_from_parameters(), strict=True):
            if index in self._sums:
                self._sums[index].add_(gradient)
            else:
                # A copy: with DDP's ``gradient_as_bucket_view`` the next backward pass writes here
                # again.
                self._sums[index] = gradient.to(working_dtype(gradient.dtype), copy=True)
        if loss is not None:
            number = loss.detach().reshape(())
            self._losses.append(number.to(working_dtype(loss.dtype), copy=True))
        self.batches += 1

    def take(self, loss: Tensor | None) -> tuple[list[int], list[Tensor], Tensor | None]:
        """Which parameters have a gradient, these, and the loss; ``p.grad`` is None afterwards.

        With batches held, means over these and, where there is one, the batch of this step.
        """
        self.skipped = 0
        if not self.batches:
            return *self._take_from_parameters(), loss
        if loss is not None or any(p.grad is not None for p in self._parameters):
            self.hold(loss)
        present = sorted(self._sums)
        gradients = [self._sums[index] for index in present]
        scale_(gradients, 1 / self.batches)
        loss = torch.stack(self._losses).mean() if self._losses else None
        self._sums, self._losses, self.batches = {}, [], 0
        return present, gradients, loss

    def succeed(self, previous: Gradients) -> None:
        """Hold what another one holds of the parameters that both know."""
        self.batches, self.skipped = previous.batches, previous.skipped
        self._losses = previous._losses
        mine = places(previous._parameters, self._parameters)
        self._sums = {
            place: total
            for index, total in previous._sums.items()
            if (place := mine[index]) is not None
        }

    def _take_from_parameters(self) -> tuple[list[int], list[Tensor]]:
        """Gradients with a graph (``create_graph=True``) are copied: the step may overwrite them.

        Nor does it need ``no_grad`` then, whose cost shows at this scale.
        """
        present, gradients = [], []
        for index, p in enumerate(self._parameters):
            gradient = p.grad
            if gradient is not None:
                present.append(index)
                if gradient.requires_grad:
                    gradient = gradient.detach().clone()
                gradients.append(gradient.to_dense() if gradient.is_sparse else gradient)
                p.grad = None
        return present, placed_as(gradients, pick(self._parameters, present))

    def state_dict(self) -> dict[str, Any]:
        """What is held: sums by index of the parameter, losses, and of how many batches."""
        sums = dict(zip(self._sums, clones(list(self._sums.values())), strict=True))
        return {
            "sums": sums,
            "losses": list(self._losses),
            "batches": self.batches,
            "skipped": self.skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        device = self._parameters[0].device
        self._sums = {
            index: like(gradient.to(device, copy=True), self._parameters[index])
            for index, gradient in state["sums"].items()
        }
        self._losses = [loss.to(device) for loss in state["losses"]]
        self.batches = state["batches"]
        self.skipped = state["skipped"]
