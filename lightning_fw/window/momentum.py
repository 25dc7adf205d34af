"""Momentum before the oracle, kept across restarts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import blend_, lerp, pick
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.window.buffers import clones, copy_shared, load, zeros_beside


class Momentum:
    """What the oracle answers: m_k = β m_{k−1} + (1 − β) g_k, with β = 0 the gradients.

    Args:
        inner_loop: The settings.
        parameters: The parameters that the window moves.
        infos: What is known of each; without it none counts as recurrent.
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        parameters: Sequence[Tensor],
        infos: Sequence[ParameterInfo] | None,
    ) -> None:
        self._betas = betas(inner_loop, len(parameters), infos)
        self._nesterov = inner_loop.nesterov
        self._parameters = list(parameters)
        self._averages = zeros_beside(parameters) if inner_loop.momentum else []

    def average(
        self, gradients: list[Tensor], present: Sequence[int], weight: Scalar
    ) -> list[Tensor]:
        """What stands for the gradients; weight 0 keeps m_{k−1}."""
        if not self._averages:
            return gradients
        averages = pick(self._averages, present)
        ahead = list(averages)
        for beta, alike in self._by_beta(present):
            mine, theirs = pick(averages, alike), pick(gradients, alike)
            blend_(mine, theirs, [1.0] * len(alike), (1 - beta) * weight)
            if self._nesterov:
                # Not in place: autograd may hand out views of what others read.
                for position, tensor in zip(alike, lerp(theirs, mine, beta), strict=True):
                    ahead[position] = tensor
        return ahead

    def _by_beta(self, present: Sequence[int]) -> Iterator[tuple[float, list[int]]]:
        """Each β with the positions in ``present`` that have it."""
        betas = pick(self._betas, present)
        for beta in dict.fromkeys(betas):
            yield beta, [position for position, own in enumerate(betas) if own == beta]

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
            ValueError: If it is of other parameters.
        """
        load("momentum", self._averages, state)


def betas(
    inner_loop: InnerLoop, parameters: int, infos: Sequence[ParameterInfo] | None
) -> list[float]:
    """β of each parameter; without infos none counts as recurrent."""
    recurrent = inner_loop.recurrent_momentum
    if infos is None or recurrent is None:
        return [inner_loop.momentum] * parameters
    return [recurrent if info.is_recurrent else inner_loop.momentum for info in infos]
