"""Momentum before the oracle, kept across restarts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_fw.displacement import clones, copy_shared, load, require_both, zeros_beside
from lightning_fw.foreach import blend_, lerp_, pick
from lightning_fw.scalars import Scalar


class Momentum:
    """What the oracle answers: m_k = β m_{k−1} + (1 − β) g_k, with β = 0 the gradients.

    Args:
        beta: β in [0, 1).
        parameters: The parameters that the window moves.
        nesterov: Whether it is β m_k + (1 − β) g_k instead.
    """

    def __init__(self, beta: float, parameters: Sequence[Tensor], *, nesterov: bool) -> None:
        self._beta = beta
        self._nesterov = nesterov
        self._parameters = list(parameters)
        self._averages = zeros_beside(parameters) if beta else []

    def average(
        self, gradients: list[Tensor], present: Sequence[int], weight: Scalar
    ) -> list[Tensor]:
        """What stands for the gradients; weight 0 keeps m_{k−1}."""
        if not self._averages:
            return gradients
        averages = pick(self._averages, present)
        blend_(averages, gradients, [1.0] * len(present), (1 - self._beta) * weight)
        if not self._nesterov:
            return averages
        # Copies: autograd may hand out views of what others read, such as a saved tensor.
        ahead = [g.to(m.dtype, copy=True) for g, m in zip(gradients, averages, strict=True)]
        lerp_(ahead, averages, self._beta)
        return ahead

    def succeed(self, previous: Momentum) -> None:
        """Take over the averages of the parameters that both move."""
        if self._averages:
            copy_shared(self._averages, self._parameters, previous._averages, previous._parameters)

    def state_dict(self) -> list[Tensor] | None:
        """The averages; None with β = 0."""
        return clones(self._averages) if self._averages else None

    def load_state_dict(self, state: list[Tensor] | None) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If only one of the two has momentum.
        """
        require_both("momentum", state, self._averages)
        load("momentum", self._averages, state)
