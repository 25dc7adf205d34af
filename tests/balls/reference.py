"""Norms of balls and of their duals in numpy float64, block by block, written independently."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import Tensor

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    ProductBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.balls._matrix import MatrixBall
from lightning_fw.balls._vector import VectorBall
from lightning_fw.parameters import ParameterInfo

Infos = Sequence[ParameterInfo]


def norm(ball: Ball, tensors: Sequence[Tensor], infos: Infos) -> float:
    """‖tensors‖: the largest of the blocks' norms."""
    return max(norms(ball, tensors, infos, dual=False))


def dual_norm(ball: Ball, tensors: Sequence[Tensor], infos: Infos) -> float:
    """‖tensors‖_*: the sum of the blocks' dual norms."""
    return sum(norms(ball, tensors, infos, dual=True))


def norms(ball: Ball, tensors: Sequence[Tensor], infos: Infos, *, dual: bool) -> list[float]:
    """The norm, or dual norm, of every block."""
    arrays = [tensor.double().numpy() for tensor in tensors]
    if isinstance(ball, ProductBall):
        return _product(ball, tensors, infos, dual=dual)
    if isinstance(ball, MatrixBall):
        pairs = zip(arrays, infos, strict=True)
        return [value for array, info in pairs for value in _matrix(ball, array, info, dual=dual)]
    assert isinstance(ball, VectorBall)
    keys = {
        "tensor": list(range(len(arrays))),
        "group": [info.group for info in infos],
        "global": [0] * len(arrays),
    }[ball.scope]
    blocks = [
        np.concatenate([a.ravel() for a, own in zip(arrays, keys, strict=True) if own == key])
        for key in dict.fromkeys(keys)
    ]
    return [_vector(ball, block, dual=dual) for block in blocks]


def _vector(ball: VectorBall, block: np.ndarray, *, dual: bool) -> float:
    if isinstance(ball, RMSBall):
        root = np.sqrt(block.size)
        return float(np.linalg.norm(block) * (root if dual else 1 / root))
    if isinstance(ball, LpBall):
        order = ball.p / (ball.p - 1) if dual else ball.p
        return float((np.abs(block) ** order).sum() ** (1 / order))
    orders = {L1Ball: (1, np.inf), L2Ball: (2, 2), LinfBall: (np.inf, 1)}[type(ball)]
    return float(np.linalg.norm(block, orders[dual]))


# Endings of names in layers above the first.
ABOVE = ("_l1", "_l2")


def _matrix(ball: MatrixBall, array: np.ndarray, info: ParameterInfo, *, dual: bool) -> list[float]:
    if array.ndim < 2:
        shape = LinfBall() if "weight_hh" in info.name else RMSBall()
        value = _vector(shape, array.ravel(), dual=dual)
        return [value * ball.vector_radius if dual else value / ball.vector_radius]
    rows = array.reshape(array.shape[0], -1)
    found = []
    for gate in np.split(rows, info.gates if ball.split_gates else 1):
        out, size = gate.shape
        of_input = info.gates > 1 and "weight_ih" in info.name and info.name[-3:] not in ABOVE
        shape = max(1.0, out / (1.0 if info.reads_symbols else size))
        reach = np.sqrt(shape) if ball.scale_by_shape else 1.0
        recurs = info.gates > 1 or any(n in info.name for n in ("weight_ih", "weight_hh"))
        if ball.head_radius and info.name and not recurs:
            reach = ball.head_radius * np.sqrt(out / size)
        elif of_input and info.reads_symbols and ball.symbol_radius:
            reach *= ball.symbol_radius
        elif of_input:
            wide = (1.0 if info.reads_symbols else size) ** ball.input_power
            reach *= (ball.input_radius or ball.gate_radius) / wide
            limit = (ball.input_limit or np.inf) * (np.sqrt(out) if ball.scale_by_shape else 1.0)
            reach = min(reach, limit)
        elif info.gates > 1:
            reach *= ball.gate_radius
        if isinstance(ball, RowBall):
            values, largest = np.linalg.norm(gate, axis=1), not dual
        else:
            values = np.linalg.svd(gate, compute_uv=False)
            largest = isinstance(ball, SpectralBall) != dual
            assert isinstance(ball, SpectralBall | NuclearBall)
        value = float(values.max() if largest else values.sum())
        found.append(value * reach if dual else value / reach)
    return found


def _product(
    ball: ProductBall, tensors: Sequence[Tensor], infos: Infos, *, dual: bool
) -> list[float]:
    owners = [
        next(pattern for pattern in ball.balls if fnmatchcase(info.name, pattern)) for info in infos
    ]
    found = []
    for pattern, member in ball.balls.items():
        part = [index for index, owner in enumerate(owners) if owner == pattern]
        if part:
            values = norms(member, [tensors[i] for i in part], [infos[i] for i in part], dual=dual)
            found += [v * member.radius if dual else v / member.radius for v in values]
    return found
