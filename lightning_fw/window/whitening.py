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

# Added to eigenvalues whose sum is 1, so that rounding leaves none below 0.
_RIDGE = 1e-7


class Whitening:
    """U L⁻¹ m of the input weights of recurrent layers, where m is what the oracle would see.

    C_k = β C_{k−1} + (1 − β) g_k g_kᵀ = L_k L_kᵀ, over the units of each gate, with the β of m. U
    is the polar factor of L at the first step of a window, where U L⁻¹ = C^{−1/2}; before any, I.

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
        both = zip(self._covariances, self._parameters, strict=True)
        self._rotations = [_identities(covariances, parameter) for covariances, parameter in both]
        self._betas = betas(inner_loop, len(parameters), infos)

    def answer(
        self,
        averages: list[Tensor],
        gradients: Sequence[Tensor],
        present: Sequence[int],
        weight: Scalar,
        *,
        opens: bool | Tensor,
    ) -> list[Tensor]:
        """What stands for the averages, up to a factor for each matrix.

        Args:
            averages: What the oracle would see, of the parameters at ``present``.
            gradients: Their gradients themselves.
            present: Indices of the parameters that have one.
            weight: 1, or 0 for a step that is skipped, whose gradients are 0.
            opens: Whether this is the first step of a window.
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
            g, m = (
                whole(tensors[position]).reshape(*covariances.shape[:2], -1)
                for tensors in (gradients, averages)
            )
            _follow(covariances, g, (1 - self._betas[index]) * weight)
            factors = _cholesky(covariances)
            with without_autocast(m):
                _turn(rotations, factors, opens)
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

    def state_dict(self) -> dict[str, list[Tensor]] | None:
        """Covariances and rotations; None without whitening."""
        if not self._covariances:
            return None
        return {"covariances": clones(self._covariances), "rotations": clones(self._rotations)}

    def load_state_dict(self, state: dict[str, list[Tensor]] | None) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is of other parameters.
        """
        if state is not None:
            load("covariance", self._covariances, state["covariances"])
            load("rotation", self._rotations, state["rotations"])


def _counts(info: ParameterInfo, parameter: Tensor) -> bool:
    # Symbols come one at a time: their columns have nothing to tell of each other.
    return parameter.ndim > 1 and info.reads_input and not info.reads_symbols


def _zeros(parameter: Tensor, info: ParameterInfo) -> Tensor:
    require_whole_gates(parameter, info, info.gates)
    units = parameter.shape[0] // info.gates
    # Squares take twice the digits; MPS has no float64.
    device = "cpu" if parameter.device.type == "mps" else parameter.device
    return torch.zeros(info.gates, units, units, dtype=torch.float64, device=device)


def _identities(covariances: Tensor, parameter: Tensor) -> Tensor:
    units, dtype = covariances.shape[-1], working_dtype(parameter.dtype)
    eye = torch.eye(units, dtype=dtype, device=parameter.device)
    return eye.repeat(len(covariances), 1, 1)


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
    """L of C = L Lᵀ, whose trace is made 1: the ball answers a direction."""
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
