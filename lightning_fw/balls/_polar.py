"""The polar factor U Vᵀ of G = U S Vᵀ by matrix products alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Odd quintic polynomials a x + b x³ + c x⁵ that lift singular values of [1e-3, 1] fastest toward 1:
# Amsel, Persson, Musco, Gower, "The Polar Express" (2025), arXiv:2505.16932, table of coefficients.
_QUINTICS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)

# The polynomials were fitted with this much room above 1 for rounding.
_ROOM = 1.01


def polar_newton_schulz(matrices: Tensor) -> Tensor:
    """The polar factor, feasible for the spectral ball and nearly optimal.

    Five quintic steps bring every singular value of at least 1e-3 of the Frobenius norm into
    [0.87, 1.13]; the cubic step 1.5 x − 0.5 x³, whose maximum is 1 at x = 1, brings them into
    [0.97, 1]. Smaller ones end below: they hardly count in ⟨g, s⟩.

    Args:
        matrices: Shape (batch, rows, columns).

    Returns:
        Same shape; zero for a zero matrix.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = _normalized(x)
    if x.shape[-2] > 1:
        x = x / _ROOM
        for a, b, c in _QUINTICS:
            gram = x @ x.mT
            x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
        x = torch.baddbmm(x, x @ x.mT, x, beta=1.5, alpha=-0.5)
    return x.mT if tall else x


def polar_svd(matrices: Tensor) -> Tensor:
    """The polar factor by a singular value decomposition; zero singular values stay zero."""
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    floor = s.amax(dim=-1, keepdim=True) * torch.finfo(s.dtype).eps * max(matrices.shape[-2:])
    polar: Tensor = (u * (s > floor).unsqueeze(-2)) @ vh
    return polar


def leading_singular_vectors(matrices: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """u₁ and v₁ by power iteration from the row of largest norm and a mixture of all rows.

    That row alone may be orthogonal to v₁, in a sparse gradient for one.

    Args:
        matrices: Shape (batch, rows, columns).
        iterations: Multiplications with GᵀG.

    Returns:
        u of shape (batch, rows, 1) and v of shape (batch, columns, 1), of unit length, or zero
        for a zero matrix.
    """
    x = _normalized(matrices)
    rows = torch.arange(x.shape[-2], device=x.device)
    largest = torch.linalg.vector_norm(x, dim=-1).argmax(dim=-1, keepdim=True)
    # Quasi-random: no structure of a matrix is orthogonal to it, and no generator advances.
    mixture = rows.square().to(x.dtype).cos() / math.sqrt(len(rows))
    weights = mixture + (rows == largest)
    v = x.mT @ weights.unsqueeze(-1)
    for _ in range(iterations):
        v = _normalized(x.mT @ (x @ v))
    return _normalized(x @ v), _normalized(v)


def _normalized(matrices: Tensor) -> Tensor:
    """Divided by the Frobenius norm, a zero matrix left alone."""
    peaks = matrices.abs().amax(dim=(-2, -1), keepdim=True)
    # By the peak first: squares of entries of 1e-25 or 1e25 leave the range of float32.
    x = matrices / peaks.clamp_min(torch.finfo(peaks.dtype).tiny)
    norms: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return x / norms.clamp_min(1.0)
