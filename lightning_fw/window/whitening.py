"""Whitening before the oracle: averages in units of the gradients' own spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fw.balls._matrix import require_whole_gates
from lightning_fw.balls._polar import polar_newton_schulz, without_autocast
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import working_dtype
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import like, whole
from lightning_fw.window.buffers import clones, copy_shared, load
from lightning_fw.window.momentum import betas

# Added to eigenvalues whose sum is 1: directions that no gradient had yet are not blown up further.
_RIDGE = 1e-7


class Whitening:
    """U L⁻¹ m of the input weights of recurrent layers, where m is what the oracle would see.

    C_k = β C_{k−1} + (1 − β) g_k g_kᵀ = L_k L_kᵀ up to a factor, over the units of each gate, with
    the β of m. U is the polar factor of L at the weight's first step in a window, where U L⁻¹ is
    C^{−1/2}; a new L at every step costs little, a new U much.

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
        known = list(zip(infos, parameters, strict=True)) if infos and inner_loop.whitening else []
        self._indices = _whitened(known)
        self._parameters = [parameters[i] for i in self._indices]
        self._covariances = [_zeros(*known[i]) for i in self._indices]
        self._rotations = [
            torch.zeros_like(c, dtype=working_dtype(p.dtype), device=p.device)
            for c, p in zip(self._covariances, self._parameters, strict=True)
        ]
        self._betas = betas(inner_loop, len(parameters), infos)

    def answer(
        self,
        averages: list[Tensor],
        gradients: Sequence[Tensor],
        present: Sequence[int],
        weight: Scalar,
        *,
        opens: Sequence[bool | Tensor],
    ) -> list[Tensor]:
        """What stands for the averages, up to a factor for each matrix.

        Args:
            averages: What the oracle would see, of the parameters at ``present``.
            gradients: Their gradients themselves.
            present: Indices of the parameters that have one.
            weight: 1, or 0 for a step that is skipped, whose gradients are 0.
            opens: Whether this is the first step of a window, of each parameter that it moves.
        """
        if not self._indices:
            return averages
        answers = list(averages)
        positions = {index: position for position, index in enumerate(present)}
        kept = zip(self._indices, self._covariances, self._rotations, strict=True)
        for index, covariances, rotations in kept:
            position = positions.get(index)
            if position is None:
                continue
            g = _by_gate(gradients[position], covariances)
            m = _by_gate(averages[position], covariances)
            _follow(covariances, g, (1 - self._betas[index]) * weight)
            factors = _cholesky(covariances)
            with without_autocast(m):
                _turn(rotations, factors, opens[index])
                white = rotations @ _solved(factors, m)
            white = white.reshape(averages[position].shape)
            answers[position] = like(white, averages[position])
        return answers

    def succeed(self, previous: Whitening) -> None:
        """Take over what belongs to the parameters that both move."""
        copy_shared(
            self._covariances, self._parameters, previous._covariances, previous._parameters
        )
        copy_shared(self._rotations, self._parameters, previous._rotations, previous._parameters)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Covariances and rotations."""
        return {"covariances": clones(self._covariances), "rotations": clones(self._rotations)}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is of other parameters.
        """
        load("covariance", self._covariances, state["covariances"])
        load("rotation", self._rotations, state["rotations"])


def _whitened(known: Sequence[tuple[ParameterInfo, Tensor]]) -> list[int]:
    """Which input weights: not those that read symbols, nor those of units that do not mix."""
    apart = {info.name for info, p in known if p.ndim == 1}
    return [
        index
        for index, (info, p) in enumerate(known)
        if p.ndim > 1
        and info.reads_input
        and not info.reads_symbols
        and info.name.replace("weight_ih", "weight_hh") not in apart
    ]


def _zeros(info: ParameterInfo, parameter: Tensor) -> Tensor:
    require_whole_gates(parameter, info, info.gates)
    units = parameter.shape[0] // info.gates
    # Squares take twice the digits; MPS has no float64.
    device = "cpu" if parameter.device.type == "mps" else parameter.device
    return torch.zeros(info.gates, units, units, dtype=torch.float64, device=device)


def _by_gate(tensor: Tensor, covariances: Tensor) -> Tensor:
    return whole(tensor).reshape(*covariances.shape[:2], -1)


def _follow(covariances: Tensor, gradients: Tensor, share: Scalar) -> None:
    g = _as(gradients, covariances)
    if isinstance(share, Tensor):
        share = share.to(covariances.device)
    covariances.mul_(1 - share).baddbmm_(share * g, g.mT)


def _as(tensor: Tensor, model: Tensor) -> Tensor:
    """With the dtype and on the device of the model, and never of float64 on MPS."""
    if tensor.device.type == "cpu":
        return tensor.to(model.dtype).to(model.device)
    return tensor.to(model.device).to(model.dtype)


def _cholesky(covariances: Tensor) -> Tensor:
    """L of C / tr C + ridge = L Lᵀ: so scaled, averages of all gates stay about as long."""
    traces = covariances.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
    normal = covariances / traces.clamp_min(torch.finfo(covariances.dtype).tiny)
    normal.diagonal(dim1=-2, dim2=-1).add_(_RIDGE)
    # Without a check, which would wait for the device: the ridge keeps them positive.
    factors: Tensor = torch.linalg.cholesky_ex(normal).L
    return factors


def _solved(factors: Tensor, averages: Tensor) -> Tensor:
    """L⁻¹ m."""
    solved = torch.linalg.solve_triangular(factors, _as(averages, factors), upper=False)
    return _as(solved, averages)


def _turn(rotations: Tensor, factors: Tensor, opens: bool | Tensor) -> None:
    """U of the window that opens; on an accelerator nobody knows whether one does."""
    if isinstance(opens, Tensor):
        fresh = polar_newton_schulz(_as(factors, rotations))
        rotations.copy_(torch.where(opens, fresh, rotations))
    elif opens:
        rotations.copy_(polar_newton_schulz(_as(factors, rotations)))
