"""Whitening before the oracle: gradients told in units of their own spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fw.balls._matrix import require_whole_gates
from lightning_fw.balls._polar import polar_newton_schulz, without_autocast
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import like, whole
from lightning_fw.window.buffers import clones, copy_shared, load
from lightning_fw.window.momentum import betas

# Added to eigenvalues whose sum is 1, so that rounding leaves none below 0.
_RIDGE = {torch.float64: 1e-7, torch.float32: 1e-5}


class Whitening:
    """C^{−1/2} m of the matrices of recurrent layers, where m is what the oracle would see.

    C_k = β C_{k−1} + (1 − β) g_k g_kᵀ, over the units of each gate, with the β of m.

    Args:
        inner_loop: The settings; without ``whitening`` all is left alone.
        parameters: The parameters that the window moves.
        infos: What is known of each; without it none is of a recurrent layer.
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        parameters: Sequence[Tensor],
        infos: Sequence[ParameterInfo] | None,
    ) -> None:
        known = infos if infos is not None and inner_loop.whitening else ()
        self._indices = [i for i, info in enumerate(known) if _counts(info, parameters[i])]
        self._parameters = [parameters[i] for i in self._indices]
        self._covariances = [_zeros(parameters[i], known[i]) for i in self._indices]
        self._betas = betas(inner_loop, len(parameters), infos)

    def answer(
        self,
        averages: list[Tensor],
        gradients: Sequence[Tensor],
        present: Sequence[int],
        weight: Scalar,
    ) -> list[Tensor]:
        """What stands for the averages, up to a factor for each matrix.

        Args:
            averages: What the oracle would see, of the parameters at ``present``.
            gradients: Their gradients themselves.
            present: Indices of the parameters that have one.
            weight: 1, or 0 for a step that is skipped, whose gradients are 0.
        """
        if not self._indices:
            return averages
        answers = list(averages)
        positions = {index: position for position, index in enumerate(present)}
        for index, covariances in zip(self._indices, self._covariances, strict=True):
            position = positions.get(index)
            if position is None:
                continue
            g, m = (
                whole(tensors[position]).reshape(*covariances.shape[:2], -1)
                for tensors in (gradients, averages)
            )
            g = g.to(covariances.dtype)
            share = (1 - self._betas[index]) * weight
            covariances.mul_(1 - share).add_(share * (g @ g.mT))
            with without_autocast(m):
                white = _inverse_roots(covariances).to(m.dtype) @ m
            answers[position] = like(white.reshape(averages[position].shape), averages[position])
        return answers

    def succeed(self, previous: Whitening) -> None:
        """Take over the covariances of the parameters that both move."""
        copy_shared(
            self._covariances, self._parameters, previous._covariances, previous._parameters
        )

    def state_dict(self) -> list[Tensor] | None:
        """The covariances; None without whitening."""
        return clones(self._covariances) if self._covariances else None

    def load_state_dict(self, state: list[Tensor] | None) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is of other parameters.
        """
        load("covariance", self._covariances, state)


def _counts(info: ParameterInfo, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and (info.is_recurrent or info.reads_input)


def _zeros(parameter: Tensor, info: ParameterInfo) -> Tensor:
    require_whole_gates(parameter, info, info.gates)
    units = parameter.shape[0] // info.gates
    # Squares take twice the digits; MPS has no float64.
    dtype = torch.float32 if parameter.device.type == "mps" else torch.float64
    return torch.zeros(info.gates, units, units, dtype=dtype, device=parameter.device)


def _inverse_roots(covariances: Tensor) -> Tensor:
    """C^{−1/2} up to a factor: with C = L Lᵀ it is U L⁻¹, where U is the polar factor of L.

    A decomposition of C itself would take as long on a CPU, and stall a GPU.
    """
    size, dtype = covariances.shape[-1], covariances.dtype
    eye = torch.eye(size, dtype=dtype, device=covariances.device)
    traces = covariances.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
    normal = covariances / traces.clamp_min(torch.finfo(dtype).tiny) + _RIDGE[dtype] * eye
    # Without a check, which would wait for the device: the ridge keeps them positive.
    factors, _ = torch.linalg.cholesky_ex(normal)
    inverses = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    roots: Tensor = polar_newton_schulz(factors.float()) @ inverses.float()
    return roots
