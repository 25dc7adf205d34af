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
    gradient move as far as those with a large one, at the price of an l2 step: there are no matrix
    products. Vectors get an RMS ball.

    Source: the oracle is one of Scion's (Pethick et al. 2025, arXiv:2502.07529).

    Args:
        radius: δ > 0.
        split_gates: Count a matrix as one ball per gate, in statistics; atoms are the same.
        scale_by_shape: Give a matrix (out, in) the radius δ √max(1, out/in), one that reads
            symbols δ √out.
        gate_radius: Weights that stack gates get ``gate_radius`` · δ.
        input_radius: Those that read the input, ``input_radius`` · δ; None: the same.
        head_radius: Matrices (out, in) of no recurrent layer, ``head_radius`` · δ √(out/in); None:
            like the others.
        vector_radius: Vectors get ‖b‖₂ / √n ≤ ``vector_radius`` · δ.

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
        tiny = torch.finfo(matrices.dtype).tiny
        # By the peak first: squares of entries of 1e-25 or 1e25 leave the range of float32.
        x = matrices / matrices.abs().amax(dim=-1, keepdim=True).clamp_min(tiny)
        norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / norms.clamp_min(tiny)

    def _matrix_norms(self, matrices: Tensor) -> Tensor:
        return self._row_norms(matrices).amax(dim=-1)

    def _matrix_dual_norms(self, matrices: Tensor) -> Tensor:
        return self._row_norms(matrices).sum(dim=-1)

    def _estimated_norms(self, matrices: Tensor) -> Tensor:
        return self._matrix_norms(matrices)

    def _row_norms(self, matrices: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(matrices, dim=-1)
        return norms
