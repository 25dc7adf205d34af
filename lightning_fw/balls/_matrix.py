"""Balls that see a parameter as a matrix, or as one matrix per gate."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.balls.linf import LinfBall
from lightning_fw.balls.rms import RMSBall
from lightning_fw.checks import require_flag, require_number, require_positive
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import working_dtype
from lightning_fw.tensors.scalars import Scalar, multiples
from lightning_fw.tensors.shards import like, whole

_VECTOR_BALL = RMSBall(radius=1.0)

# No direction of a diagonal matrix moves by more than its largest entry.
_DIAGONAL_BALL = LinfBall(radius=1.0)

# These read the units of the layer below, as recurrent weights read those of their own layer.
_ABOVE_THE_FIRST_LAYER = re.compile(r"\bweight_ih_l[1-9]")

# Sides of matrices that a GPU takes as long for as for those that they are padded to.
_SMALL = 256


class _Member(NamedTuple):
    """Matrices of one parameter, and their ball's radius at radius one."""

    parameter: int
    matrices: Tensor
    reach: float


class _Stack(NamedTuple):
    """Matrices of one shape, and of which parameters they are."""

    matrices: Tensor
    members: list[_Member]

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """What belongs to each member, along the first dimension."""
        return torch.split(tensor, [member.matrices.shape[0] for member in self.members])


@dataclass(frozen=True, kw_only=True)
class MatrixBall(Ball):
    """A ball of matrices; vectors get an RMS ball, recurrent ones, which are diagonals, an l∞ ball.

    Parameters of more than two dimensions are flattened to (first, rest). Every matrix is a ball
    of its own; one that ranks hold in parts is gathered, and each rank answers for it.

    Args:
        radius: δ > 0.
        split_gates: Answer per gate where a recurrent weight stacks several.
        scale_by_shape: Give a matrix of shape (out, in) the radius δ √max(1, out/in), so that a
            radius carries over from width to width; one that reads symbols δ √out, since a one-hot
            vector has length 1 where one of values has √in (Pethick et al. 2025,
            arXiv:2502.07529). A module with an attribute ``reads_symbols`` that is true reads them.
        gate_radius: Weights of LSTM and GRU, which stack gates, get ``gate_radius`` times the
            radius: a sigmoid passes on a quarter of a change at most, where a tanh passes on all.
        input_radius: Those of them that read the input, ``weight_ih…`` but for layers above a
            module's first, get this many times the radius, since noise in the input moves them
            first; None: ``gate_radius``.
        input_power: Those that read the input get 1 / in^``input_power`` times that, the less the
            wider it is.
        input_limit: They get this times δ √out at most, without ``scale_by_shape`` this times δ,
            however few values they read; None: no limit.
        symbol_radius: Those that read symbols get this many times the radius; None: like an input
            of one value.
        head_radius: Matrices of no recurrent layer, such as a head's of shape (out, in), get
            ``head_radius`` · √(out/in) · δ, so that what few units answer moves no faster than what
            many do; None: they are like the others.
        vector_radius: Vectors get ‖b‖₂ / √n ≤ ``vector_radius`` · δ; recurrent weights that are
            vectors, the diagonal of a matrix, max ∣u_i∣ ≤ ``vector_radius`` · δ.

    Raises:
        TypeError: If a radius is not a number.
        ValueError: If a radius is not positive and finite.
    """

    split_gates: bool = True
    scale_by_shape: bool = False
    gate_radius: float = 1.0
    input_radius: float | None = None
    input_power: float = 0.0
    input_limit: float | None = None
    symbol_radius: float | None = None
    head_radius: float | None = None
    vector_radius: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_flag("split_gates", self.split_gates)
        require_flag("scale_by_shape", self.scale_by_shape)
        require_positive("gate_radius", self.gate_radius)
        for name in ("input_radius", "input_limit", "symbol_radius", "head_radius"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        require_number("input_power", self.input_power)
        if not 0 <= self.input_power < math.inf:
            raise ValueError(
                f"`input_power` must be finite and >= 0, got {self.input_power}. "
                "Pass 0 for one radius at every width."
            )
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
        for stack in _joined(self._stacks(gradients, infos)):
            atoms = stack.split(self._matrix_atoms(stack.matrices))
            for (index, matrices, reach), atom in zip(stack.members, atoms, strict=True):
                _, rows, columns = matrices.shape
                own = atom[:, :rows, :columns].reshape(gradients[index].shape)
                tensors[index], scales[index] = like(own, gradients[index]), -reach
        for ball, vectors in _vectors(gradients, infos):
            answer = ball.atoms(
                [gradients[index] for index in vectors],
                None,
                None if norms is None else [norms[index] for index in vectors],
            )
            vector_scales = multiples(answer.scales, self.vector_radius)
            for position, index in enumerate(vectors):
                tensors[index] = answer.tensors[position]
                scales[index] = vector_scales[position]
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
        found: list[Tensor] = []
        for stack in self._stacks(tensors, infos):
            norms = stack.split(matrix_norms(stack.matrices))
            reaches = [member.reach for member in stack.members]
            found += (
                torch._foreach_mul(norms, reaches) if dual else torch._foreach_div(norms, reaches)
            )
        for ball, indices in _vectors(tensors, infos):
            vectors = [tensors[index] for index in indices]
            if dual:
                found.append(ball.block_dual_norms(vectors) * self.vector_radius)
            else:
                found.append(ball.block_norms(vectors) / self.vector_radius)
        return torch.cat(found)

    def _stacks(self, tensors: Sequence[Tensor], infos: Infos | None) -> list[_Stack]:
        """All matrices, stacked by shape."""
        alike: dict[tuple[torch.Size, torch.dtype, torch.device], list[_Member]] = {}
        for index, tensor in enumerate(tensors):
            if tensor.ndim < 2:
                continue
            info = ParameterInfo() if infos is None else infos[index]
            count = info.gates if self.split_gates else 1
            require_whole_gates(tensor, info, count)
            matrices = whole(tensor).reshape(count, tensor.shape[0] // count, -1)
            matrices = matrices.to(working_dtype(tensor.dtype))
            _, rows, columns = matrices.shape
            member = _Member(index, matrices, self._reach(rows, columns, info))
            key = (matrices.shape[1:], matrices.dtype, matrices.device)
            alike.setdefault(key, []).append(member)
        return [
            _Stack(_concatenated([m.matrices for m in members]), members)
            for members in alike.values()
        ]

    def _reach(self, rows: int, columns: int, info: ParameterInfo) -> float:
        if self.head_radius is not None and info.is_of_head:
            return self.head_radius * math.sqrt(rows / columns)
        # A one-hot vector is as long as a single value.
        width = 1 if info.reads_symbols else columns
        shape = math.sqrt(max(1.0, rows / width)) if self.scale_by_shape else 1.0
        if info.gates == 1:
            return shape
        if not info.reads_input or _ABOVE_THE_FIRST_LAYER.search(info.name):
            return shape * self.gate_radius
        if info.reads_symbols and self.symbol_radius is not None:
            return shape * self.symbol_radius
        reach = shape * (self.input_radius or self.gate_radius) / math.pow(width, self.input_power)
        if self.input_limit is None:
            return reach
        return min(reach, self.input_limit * (math.sqrt(rows) if self.scale_by_shape else 1.0))


def require_whole_gates(tensor: Tensor, info: ParameterInfo, count: int) -> None:
    """Raise if its rows are no whole number of gates."""
    if tensor.shape[0] % count:
        raise ValueError(
            f"`gates` of {info.name or 'a parameter'} must divide its rows, got {count} for the "
            f"shape {tuple(tensor.shape)}. Correct its ParameterInfo, or leave the gates out."
        )


def _concatenated(matrices: list[Tensor]) -> Tensor:
    return matrices[0] if len(matrices) == 1 else torch.cat(matrices)


def _joined(stacks: list[_Stack]) -> list[_Stack]:
    """On a GPU small matrices of all shapes in one stack, padded by zeros, which change no atom.

    A single row or column stays apart: its atom is exact.
    """
    small = [stack for stack in stacks if _is_small(stack.matrices)]
    if len(small) < 2 or len({stack.matrices.dtype for stack in small}) > 1:
        return stacks
    count = sum(len(stack.matrices) for stack in small)
    rows, columns = (max(stack.matrices.shape[side] for stack in small) for side in (1, 2))
    joined = small[0].matrices.new_zeros(count, rows, columns)
    places = torch.split(joined, [len(stack.matrices) for stack in small])
    for place, stack in zip(places, small, strict=True):
        _, rows, columns = stack.matrices.shape
        place[:, :rows, :columns] = stack.matrices
    others = [stack for stack in stacks if not _is_small(stack.matrices)]
    return [*others, _Stack(joined, [member for stack in small for member in stack.members])]


def _is_small(matrices: Tensor) -> bool:
    _, *sides = matrices.shape
    return matrices.is_cuda and min(sides) > 1 and max(sides) < _SMALL


def _vectors(
    tensors: Sequence[Tensor], infos: Infos | None
) -> Iterator[tuple[VectorBall, list[int]]]:
    """Places of what has less than two dimensions, by its ball."""
    flat = [index for index, tensor in enumerate(tensors) if tensor.ndim < 2]
    diagonals = [index for index in flat if infos is not None and infos[index].is_recurrent]
    others = [index for index in flat if index not in diagonals]
    for ball, vectors in ((_VECTOR_BALL, others), (_DIAGONAL_BALL, diagonals)):
        if vectors:
            yield ball, vectors
