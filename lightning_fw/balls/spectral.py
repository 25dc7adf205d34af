"""The spectral ball: no direction of a weight matrix moves by more than the radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fw.balls._matrix import MatrixBall
from lightning_fw.balls._polar import leading_singular_vectors, polar_newton_schulz, polar_svd
from lightning_fw.checks import require_choice

Oracle = Literal["newton_schulz", "svd"]

# Enough for a statistic: the estimate is a lower bound, within 5 % of the norm as a rule.
_ESTIMATE_ITERATIONS = 6


@dataclass(frozen=True, kw_only=True)
class SpectralBall(MatrixBall):
    """{D : σ₁(D) ≤ δ}, with the atom −δ U Vᵀ of G = U S Vᵀ and the nuclear norm as dual.

    Recurrent weights of LSTM and GRU stack their gates; the oracle answers per gate. Vectors get
    an RMS ball; weights of units that recur on themselves alone, the diagonal of a matrix, an l∞
    ball. More dimensions than two are flattened to (first, rest).

    Source: the oracle is that of Muon and Scion (Pethick et al. 2025, arXiv:2502.07529).

    Args:
        radius: δ > 0.
        split_gates: Answer per gate, where ``infos`` tell of gates; without them a weight that
            stacks several counts as one matrix.
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
        oracle: ``"newton_schulz"``: matrix products alone; its atoms are feasible, and their
            singular values lie within 3 % of the radius wherever the gradient's exceed 1e-3 of
            its Frobenius norm. ``"svd"``: exact, with 0 where the gradient's are 0 up to rounding.

    Raises:
        TypeError: If a radius is not a number.
        ValueError: If a radius is not positive and finite, or ``oracle`` is unknown.

    Example:
        >>> import torch
        >>> gradient = torch.diag(torch.tensor([3.0, 1.0]))
        >>> SpectralBall(radius=0.1, oracle="svd").lmo([gradient])[0].diagonal()
        tensor([-0.1000, -0.1000])
    """

    oracle: Oracle = "newton_schulz"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("oracle", self.oracle, get_args(Oracle))

    def _matrix_atoms(self, matrices: Tensor) -> Tensor:
        return polar_svd(matrices) if self.oracle == "svd" else polar_newton_schulz(matrices)

    def _matrix_norms(self, matrices: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.matrix_norm(matrices, ord=2)
        return norms

    def _matrix_dual_norms(self, matrices: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.matrix_norm(matrices, ord="nuc")
        return norms

    def _estimated_norms(self, matrices: Tensor) -> Tensor:
        _, v = leading_singular_vectors(matrices, _ESTIMATE_ITERATIONS)
        norms: Tensor = torch.linalg.vector_norm(matrices @ v, dim=(-2, -1))
        return norms
