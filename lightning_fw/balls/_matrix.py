"""Balls that see a parameter as a matrix, or as one matrix per gate."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.balls.rms import RMSBall
from lightning_fw.checks import require_positive
from lightning_fw.foreach import working_dtype
from lightning_fw.parameters import ParameterInfo
from lightning_fw.scalars import Scalar
from lightning_fw.shards import like, whole

_VECTOR_BALL = RMSBall(radius=1.0)


class _Stack(NamedTuple):
    """Matrices of one shape: of which parameters, and their ball's radius at radius one."""

    matrices: Tensor
    members: list[tuple[int, int]]
    reach: float


@dataclass(frozen=True, kw_only=True)
class MatrixBall(Ball):
    """A ball of matrices; vectors get an RMS ball.

    Parameters of more than two dimensions are flattened to (first, rest). Every matrix is a ball
    of its own; one that ranks hold in parts is gathered, and each rank answers for it.

    Args:
        radius: δ > 0.
        split_gates: Answer per gate where a recurrent weight stacks several.
        scale_by_shape: Give a matrix of shape (out, in) the radius δ √max(1, out/in), so that a
            radius carries over from width to width (Pethick et al. 2025, arXiv:2502.07529).
        gate_radius: Weights of LSTM and GRU, which stack gates, get ``gate_radius`` times the
            radius: a sigmoid passes on a quarter of a change at most, where a tanh passes on all.
        input_radius: Those of them that read values, ``weight_ih…``, get this many times the
            radius, since noise in the values moves them first; None: ``gate_radius``. Symbols have
            no noise: not in a module whose attribute ``reads_symbols`` is true.
        vector_radius: Vectors get ‖b‖₂ / √n ≤ ``vector_radius`` · δ.

    Raises:
        TypeError: If a radius is not a number.
        ValueError: If a radius is not positive and finite.
    """

    split_gates: bool = True
    scale_by_shape: bool = False
    gate_radius: float = 1.0
    input_radius: float | None = None
    vector_radius: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("gate_radius", self.gate_radius)
        if self.input_radius is not None:
            require_positive("input_radius", self.input_radius)
        require_positive("vector_radius", self.vector_radius)

    @abstractmethod
    def _matrix_atoms(self, matrices: Tensor) -> Tensor:
        """argmax over the unit ball of ⟨matrices, s⟩ for a stack (batch, out, in)."""

    @abstractmethod
    def _matrix_norms(self, matrices: Tensor) -> Tensor:
        """Norm of each matrix of a stack, shape (batch,)."""

    @abstractmethod
    def _matrix_dual_norms(self, matrices: Tensor) -> Tensor:
        """Dual norm of each matrix of a stack, shape (batch,)."""

    @abstractmethod
    def _estimated_norms(self, matrices: Tensor) -> Tensor:
        """Norm of each matrix by matrix products alone, shape (batch,)."""

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        tensors = list(gradients)
        scales: list[Scalar] = [1.0] * len(tensors)
        for stack in self._stacks(gradients, infos):
            atoms = self._matrix_atoms(stack.matrices).mul_(-stack.reach)
            counts = [count for _, count in stack.members]
            for (index, _), atom in zip(stack.members, torch.split(atoms, counts), strict=True):
                tensors[index] = like(atom.reshape(gradients[index].shape), gradients[index])
        vectors = _vectors(gradients)
        answer = _VECTOR_BALL.atoms(
            [gradients[index] for index in vectors],
            None,
            None if norms is None else [norms[index] for index in vectors],
        )
        for position, index in enumerate(vectors):
            tensors[index] = answer.tensors[position]
            scales[index] = answer.scales[position] * self.vector_radius
        return Atoms(tensors, scales)

    def block_norms(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return self._per_block(tensors, infos, self._matrix_norms, dual=False)

    def block_dual_norms(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return self._per_block(gradients, infos, self._matrix_dual_norms, dual=True)

    def block_usages(self, displacement: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """Norms of the blocks, estimated without a decomposition."""
        return self._per_block(displacement, infos, self._estimated_norms, dual=False)

    def _per_block(
        self,
        tensors: Sequence[Tensor],
        infos: Infos | None,
        matrix_norms: Callable[[Tensor], Tensor],
        *,
        dual: bool,
    ) -> Tensor:
        found = []
        for stack in self._stacks(tensors, infos):
            norms = matrix_norms(stack.matrices)
            found.append(norms * stack.reach if dual else norms / stack.reach)
        vectors = [tensors[index] for index in _vectors(tensors)]
        if vectors:
            if dual:
                found.append(_VECTOR_BALL.block_dual_norms(vectors) * self.vector_radius)
            else:
                found.append(_VECTOR_BALL.block_norms(vectors) / self.vector_radius)
        return torch.cat(found)

    def _stacks(self, tensors: Sequence[Tensor], infos: Infos | None) -> list[_Stack]:
        """All matrices, stacked by shape and by the radius of their ball."""
        alike: dict[tuple[torch.Size, float, torch.dtype, torch.device], list[tuple[int, Tensor]]]
        alike = {}
        for index, tensor in enumerate(tensors):
            if tensor.ndim < 2:
                continue
            info = ParameterInfo() if infos is None else infos[index]
            count = info.gates if self.split_gates else 1
            matrices = whole(tensor).reshape(count, tensor.shape[0] // count, -1)
            matrices = matrices.to(working_dtype(tensor.dtype))
            _, rows, columns = matrices.shape
            reach = self._reach(rows, columns, info)
            key = (matrices.shape[1:], reach, matrices.dtype, matrices.device)
            alike.setdefault(key, []).append((index, matrices))
        return [
            _Stack(
                torch.cat([matrices for _, matrices in entries]),
                [(index, matrices.shape[0]) for index, matrices in entries],
                reach,
            )
            for (_, reach, _, _), entries in alike.items()
        ]

    def _reach(self, rows: int, columns: int, info: ParameterInfo) -> float:
        reach = math.sqrt(max(1.0, rows / columns)) if self.scale_by_shape else 1.0
        if info.gates == 1:
            return reach
        if info.reads_values and self.input_radius is not None:
            return reach * self.input_radius
        return reach * self.gate_radius


def _vectors(tensors: Sequence[Tensor]) -> list[int]:
    return [index for index, tensor in enumerate(tensors) if tensor.ndim < 2]
