"""The polar factor U Vᵀ of G = U S Vᵀ by matrix products alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

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


def _with_room(room: float) -> tuple[tuple[float, float, float], ...]:
    """With that room at each of the steps that lift what exceeds their interval further."""
    return (*((a / room, b / room**3, c / room**5) for a, b, c in _QUINTICS[:-1]), _QUINTICS[-1])


_QUINTICS_OF = {torch.float16: _with_room(1.003), torch.bfloat16: _with_room(1.01)}

# Half precision is faster from here on; below, launches take the time.
_WIDE = {"cuda": 256, "cpu": 128}

# From so many columns, and so many times the rows, a CPU takes the middle steps on Gram matrices:
# below, the products of whole matrices are the faster.
_LONG = 1024
_OBLONG = 4

# A single start may be nearly orthogonal to v₁ for long: of 300 random matrices the worst is then
# 9 % off, with eight 1 %. Eight at once take hardly more time.
_STARTS = 8


def polar_newton_schulz(matrices: Tensor) -> Tensor:
    """The polar factor, feasible for the spectral ball and nearly optimal.

    Five quintic steps bring every singular value of at least 1e-3 of the Frobenius norm into
    [0.87, 1.13]; the cubic step 1.5 x − 0.5 x³, whose maximum is 1 at x = 1, brings them into
    [0.97, 1]. Smaller ones end below: they hardly count in ⟨g, s⟩. Where both sides have at least
    128, on a GPU 256, all steps but the last are in half precision, if the device is the faster
    for it; those of oblong matrices a CPU multiplies out.

    Args:
        matrices: Shape (batch, rows, columns).

    Returns:
        Same shape; zero for a zero matrix.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = _normalized(x)
    if x.shape[-2] > 1:
        with without_autocast(x):
            x = _near_polar(x.div_(_ROOM)).to(matrices.dtype)
            x = _cubic(x)
    return x.mT if tall else x


def _near_polar(x: Tensor) -> Tensor:
    if _is_oblong(x):
        return _quintics_of_oblong(x)
    coarse = _coarse_dtype(x)
    x = _quintics(x.to(coarse), _QUINTICS_OF.get(coarse, _QUINTICS))
    return _cubic(_cubic(x)) if coarse == torch.bfloat16 else x


def _cubic(x: Tensor) -> Tensor:
    return torch.baddbmm(x, torch.bmm(x, x.mT), x, beta=1.5, alpha=-0.5)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """The last step would be in half precision; the context of a plain loop may ask for that."""
    kind = x.device.type
    is_on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else nullcontext()


def _quintics(x: Tensor, coefficients: Sequence[tuple[float, float, float]]) -> Tensor:
    for a, b, c in coefficients:
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _quintics_of_oblong(x: Tensor) -> Tensor:
    """The same with four products of whole matrices in place of ten.

    Each step multiplies x from the left by a polynomial of its Gram matrix, and all of these
    commute: the steps but the first are multiplied out. The first lifts the singular values that
    count to 8e-3, whose squares outlast the rounding of a Gram matrix.
    """
    x = _quintics(x.contiguous(), _QUINTICS[:1])
    gram = x @ x.mT
    steps = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device).expand_as(gram)
    for a, b, c in _QUINTICS[1:]:
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        steps = step @ steps
        gram = step @ gram @ step
    return steps @ x


def _is_oblong(x: Tensor) -> bool:
    rows, columns = x.shape[-2:]
    return (
        x.device.type == "cpu"
        and columns >= max(_LONG, _OBLONG * rows)
        # Gram matrices of bfloat16 would be noise, which the plain steps correct as they go.
        and _products_are_whole()
    )


def _products_are_whole() -> bool:
    """Whether a CPU multiplies float32 as it is."""
    # As of torch 2.9, where the older question fails once anybody has set this, or a GPU's alone.
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:
        return torch.get_float32_matmul_precision() == "highest"
    return matmul.fp32_precision in ("none", "ieee")


def _coarse_dtype(x: Tensor) -> torch.dtype:
    """That of all steps but the last, which takes their errors back.

    No entry exceeds 10, which float16 holds; bfloat16 takes two steps more.
    """
    kind = x.device.type
    if x.dtype != torch.float32 or x.shape[-2] < _WIDE.get(kind, math.inf):
        return x.dtype
    if kind == "cuda" and torch.cuda.get_device_capability(x.device) >= (7, 0):
        return torch.float16
    return torch.bfloat16 if kind == "cpu" and _cpu_multiplies_bfloat16() else x.dtype


@cache
def _cpu_multiplies_bfloat16() -> bool:
    """By instructions of its own: elsewhere such products are slower than those of float32."""
    # Torch 2.5 cannot tell.
    get_capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)
    found = get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def polar_svd(matrices: Tensor) -> Tensor:
    """The polar factor by a singular value decomposition; zero singular values stay zero."""
    u, s, vh = torch.linalg.svd(_normalized(matrices), full_matrices=False)
    floor = s.amax(dim=-1, keepdim=True) * torch.finfo(s.dtype).eps * max(matrices.shape[-2:])
    with without_autocast(u):
        polar: Tensor = (u * (s > floor).unsqueeze(-2)) @ vh
    return polar


def leading_singular_vectors(matrices: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """u₁ and v₁ by power iteration, the best of several starts.

    Args:
        matrices: Shape (batch, rows, columns).
        iterations: Multiplications with GᵀG.

    Returns:
        u of shape (batch, rows, 1) and v of shape (batch, columns, 1), of unit length, or zero
        for a zero matrix.
    """
    x = _normalized(matrices)
    rows = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device).unsqueeze(-1)
    # Quasi-random: no structure of a matrix is orthogonal to it, and no generator advances.
    starts = torch.cos(rows.square() * torch.arange(1, _STARTS + 1, device=x.device))
    with without_autocast(x):
        v = _unit_columns(x.mT @ starts)
        for _ in range(iterations):
            v = _unit_columns(x.mT @ (x @ v))
        u = x @ v
    best = torch.linalg.vector_norm(u, dim=-2, keepdim=True).argmax(dim=-1, keepdim=True)
    u, v = (y.take_along_dim(best, dim=-1) for y in (u, v))
    return _unit_columns(u), v


def _unit_columns(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-2, keepdim=True)
    return x / norms.clamp_min(torch.finfo(x.dtype).tiny)


def _normalized(matrices: Tensor) -> Tensor:
    """Divided by the Frobenius norm, a zero matrix left alone."""
    tiny = torch.finfo(matrices.dtype).tiny
    # By the peak first: squares of entries of 1e-25 or 1e25 leave the range of float32.
    x = matrices / matrices.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(tiny)
    norms: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return x / norms.clamp_min(tiny)
