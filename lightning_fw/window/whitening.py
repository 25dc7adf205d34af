"""Whitening before the oracle: averages in units of the gradients' own spread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.balls._matrix import require_whole_gates
from lightning_fw.balls._polar import polar_newton_schulz, without_autocast
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import working_dtype
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import like, whole
from lightning_fw.window.buffers import clones, load
from lightning_fw.window.displacement import Displacement

# Added to eigenvalues whose sum is 1: directions that no gradient had yet are not blown up further.
_RIDGE = 1e-7

# Factors of low rank are left alone: their gradients are no sums of units' errors times inputs.
_OF_UNITS = re.compile(r"\bweight_(?:ih|hh)(?!\w*_(?:left|right)\b)")


class _Layer(NamedTuple):
    """What is kept for the weights that feed the same units."""

    members: list[int]
    covariances: Tensor
    rotations: Tensor


class Whitening:
    """U L⁻¹ m of the weights of recurrent layers, where m is what the oracle would see.

    C_k = β C_{k−1} + (1 − β) Σ g_k g_kᵀ = L_k L_kᵀ up to a factor, of each gate, summed over input
    and recurrent weights, which feed the same units. U is the polar factor of L at a layer's first
    step in a window, where U L⁻¹ is C^{−1/2}; a new L at every step costs little, a new U much.

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
        self._decay = inner_loop.whitening
        self._parameters = list(parameters)
        self._layers: list[_Layer] = []
        if self._decay is not None and infos is not None:
            self._layers = _layers(infos, parameters)

    def answer(
        self,
        averages: list[Tensor],
        gradients: Sequence[Tensor],
        present: Sequence[int],
        weight: Scalar,
        displacement: Displacement,
    ) -> list[Tensor]:
        """What stands for the averages, up to a factor for each matrix.

        Args:
            averages: What the oracle would see, of the parameters at ``present``.
            gradients: Their gradients themselves.
            present: Indices of the parameters that have one.
            weight: 1, or 0 for a step that is skipped, whose gradients are 0.
            displacement: Where the window stands, before this step.
        """
        if self._decay is None or not self._layers:
            return averages
        answers = list(averages)
        positions = {index: position for position, index in enumerate(present)}
        for layer in self._layers:
            here = [positions[index] for index in layer.members if index in positions]
            if not here:
                continue
            has_moved = any(displacement.moved[index] for index in layer.members)
            opened = displacement.k == 0 if has_moved else True
            g, m = (_side_by_side([of[i] for i in here], layer) for of in (gradients, averages))
            _follow(layer.covariances, g, (1 - self._decay) * weight)
            factors = _cholesky(layer.covariances)
            with without_autocast(m):
                _turn(layer.rotations, factors, opened)
                white = layer.rotations @ _as(_solved(factors, m), layer.rotations)
            widths = [averages[i].numel() // averages[i].shape[0] for i in here]
            for position, own in zip(here, torch.split(white, widths, dim=-1), strict=True):
                average = averages[position]
                answers[position] = like(own.reshape(average.shape), average)
        return answers

    def succeed(self, previous: Whitening) -> None:
        """Take over what belongs to the layers of which both move a weight."""
        mine, theirs = self._by_parameter(), previous._by_parameter()
        for index, layer in mine.items():
            known = theirs.get(index)
            if known is not None:
                layer.covariances.copy_(known.covariances)
                layer.rotations.copy_(known.rotations)

    def _by_parameter(self) -> dict[int, _Layer]:
        """The layer of each whitened parameter, by its id."""
        return {
            id(self._parameters[index]): layer for layer in self._layers for index in layer.members
        }

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Covariances and rotations."""
        return {
            "covariances": clones([layer.covariances for layer in self._layers]),
            "rotations": clones([layer.rotations for layer in self._layers]),
        }

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is of other parameters.
        """
        load("covariance", [layer.covariances for layer in self._layers], state["covariances"])
        load("rotation", [layer.rotations for layer in self._layers], state["rotations"])


def _layers(infos: Sequence[ParameterInfo], parameters: Sequence[Tensor]) -> list[_Layer]:
    """Of weights that feed units: not of those that read symbols, nor of those that do not mix."""
    known = list(zip(infos, parameters, strict=True))
    apart = {
        _units(info)
        for info, p in known
        if info.reads_symbols or (p.ndim == 1 and info.is_recurrent)
    }
    members: dict[tuple[str, int, int], list[int]] = {}
    for index, (info, p) in enumerate(known):
        feeds = (info.is_recurrent or info.reads_input) and _OF_UNITS.search(info.name)
        if p.ndim > 1 and feeds and _units(info) not in apart:
            members.setdefault((_units(info), info.gates, p.shape[0]), []).append(index)
    return [_layer(infos, parameters, indices) for indices in members.values()]


def _units(info: ParameterInfo) -> str:
    """The name that input and recurrent weights of the same units share."""
    return _OF_UNITS.sub("weights", info.name)


def _layer(
    infos: Sequence[ParameterInfo], parameters: Sequence[Tensor], members: list[int]
) -> _Layer:
    info, parameter = infos[members[0]], parameters[members[0]]
    require_whole_gates(parameter, info, info.gates)
    units = parameter.shape[0] // info.gates
    # Squares take twice the digits; MPS has no float64.
    device = "cpu" if parameter.device.type == "mps" else parameter.device
    covariances = torch.zeros(info.gates, units, units, dtype=torch.float64, device=device)
    dtype = reduce(torch.promote_types, (working_dtype(parameters[i].dtype) for i in members))
    rotations = torch.zeros_like(covariances, dtype=dtype, device=parameter.device)
    return _Layer(members, covariances, rotations)


def _side_by_side(tensors: Sequence[Tensor], layer: _Layer) -> Tensor:
    """Input and recurrent weights of each gate, of shape (gates, units, columns of both)."""
    return torch.cat(
        [whole(tensor).reshape(*layer.covariances.shape[:2], -1) for tensor in tensors], dim=-1
    )


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
    solved: Tensor = torch.linalg.solve_triangular(factors, _as(averages, factors), upper=False)
    return solved


def _turn(rotations: Tensor, factors: Tensor, opens: bool | Tensor) -> None:
    """U of the window that opens; on an accelerator nobody knows whether one does."""
    if isinstance(opens, Tensor):
        fresh = polar_newton_schulz(_as(factors, rotations))
        rotations.copy_(torch.where(opens, fresh, rotations))
    elif opens:
        rotations.copy_(polar_newton_schulz(_as(factors, rotations)))
