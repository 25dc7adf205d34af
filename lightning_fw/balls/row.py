"""The row ball: every unit's weights in an l2 ball of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._matrix import MatrixBall


@dataclass(frozen=True, kw_only=True)
class RowBall(MatrixBall):
    """{D : max_i ‖D_i‖₂ ≤ δ} over rows, with the atom −δ g_i / ‖g_i‖₂ and the dual norm Σ ‖g_i‖₂.

    A row holds the weights into one unit: the paper's l2 ball, unit by unit. Units with a small
    gradient move as far as those with a large one, and the oracle multiplies no matrices. Vectors
    get an RMS ball.

    Source: the oracle is one of Scion's (Pethick et al. 2025, arXiv:2502.07529).

    Args:
        radius: δ > 0.
        split_gates: Answer per gate: with ``scale_by_shape`` the shape of a gate counts, not that
            of the whole.
        scale_by_shape: Give a matrix (out, in) the radius δ √max(1, out/in), one that reads
            symbols δ √out.
        gate_radius: Weights that stack gates get ``gate_radius`` · δ.
        input_radius: Those of them that read the input, ``weight_ih…`` of a module's first layer,
            ``input_radius`` · δ; None: the same.
        input_power: With an input of ``in`` values they get 1 / in^``input_power`` times that.
        input_limit: And ``input_limit`` · δ at most, with ``scale_by_shape`` ``input_limit`` · δ
            √out; None: no limit.
        symbol_radius: Where they read symbols, ``symbol_radius`` · δ; None: like an input of one
            value.
        head_radius: Matrices (out, in) of no recurrent layer, ``head_radius`` · δ √(out/in); None:
            like the others.
        vector_radius: Vectors get ‖b‖₂ / √n ≤ ``vector_radius`` · δ; recurrent weights that are
            vectors, the diagonal of a matrix, max ∣u_i∣ ≤ ``vector_radius`` · δ.

    Raises:
        TypeError: If a radius is not a number.
        ValueError: If a radius is not positive and finite.

    Example:
        >>> import torch
        >>> RowBall(radius=0.1).lmo([torch.tensor([[3.0, 4.0], [0.0, 2.0]])])[0]
        tensor([[-0.0600, -0.0800],
                [-0.0000, -0.1000]])
    """

    def _matrix_atoms(self, matrices: Tensor) -> Tensor:
        x, _, norms = _rows(matrices)
        return x / norms.clamp_min(torch.finfo(matrices.dtype).tiny)

    def _matrix_norms(self, matrices: Tensor) -> Tensor:
        _, peaks, norms = _rows(matrices)
        return (peaks * norms).amax(dim=(-2, -1))

    def _matrix_dual_norms(self, matrices: Tensor) -> Tensor:
        _, peaks, norms = _rows(matrices)
        return (peaks * norms).sum(dim=(-2, -1))

    def _estimated_norms(self, matrices: Tensor) -> Tensor:
        return self._matrix_norms(matrices)


def _rows(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows divided by their largest entries, these, and the l2 norms of what is left of each.

    Squares of entries of 1e-25 or 1e25 would leave the range of float32.
    """
    peaks = matrices.abs().amax(dim=-1, keepdim=True)
    x = matrices / peaks.clamp_min(torch.finfo(matrices.dtype).tiny)
    return x, peaks, torch.linalg.vector_norm(x, dim=-1, keepdim=True)
