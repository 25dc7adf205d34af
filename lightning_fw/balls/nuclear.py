"""The nuclear ball: displacements of low rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._matrix import MatrixBall
from lightning_fw.balls._polar import leading_singular_vectors, polar_newton_schulz
from lightning_fw.checks import require_count


@dataclass(frozen=True, kw_only=True)
class NuclearBall(MatrixBall):
    """{D : Σ σ_i(D) ≤ δ}, with the atom −δ u₁v₁ᵀ and the spectral norm as dual.

    The leading singular vectors come from power iteration: the atom is always feasible, and with
    the default iterations ⟨g, atom⟩ misses the minimum for a random matrix of up to 128 × 128 by
    0.1 %, of 1024 × 1024 by 0.7 %, rarely by more than 1 %. Vectors get an RMS ball.

    Source: Jaggi (2013), "Revisiting Frank-Wolfe".

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
        iterations: Steps of power iteration.

    Raises:
        TypeError: If a radius is not a number, or ``iterations`` not an int.
        ValueError: If a radius is not positive and finite, or ``iterations`` < 1.

    Example:
        >>> import torch
        >>> NuclearBall(radius=0.1).lmo([torch.ones(2, 2)])[0]
        tensor([[-0.0500, -0.0500],
                [-0.0500, -0.0500]])
    """

    iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("iterations", self.iterations)

    def _matrix_atoms(self, matrices: Tensor) -> Tensor:
        u, v = leading_singular_vectors(matrices, self.iterations)
        return u * v.mT

    def _matrix_norms(self, matrices: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.matrix_norm(matrices, ord="nuc")
        return norms

    def _matrix_dual_norms(self, matrices: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.matrix_norm(matrices, ord=2)
        return norms

    def _estimated_norms(self, matrices: Tensor) -> Tensor:
        return (matrices * polar_newton_schulz(matrices)).sum(dim=(-2, -1))
