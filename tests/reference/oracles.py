"""Linear minimization oracles: argmin of ⟨g, s⟩ over ‖s‖ ≤ 1, for one flat vector g.

A zero gradient gives the atom 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .elman import Array

Oracle = Callable[[Array], Array]


def l1(g: Array) -> Array:
    """−sign(g_i) e_i at the first i of largest ∣g_i∣."""
    atom = np.zeros_like(g)
    i = int(np.argmax(np.abs(g)))
    atom[i] = -np.sign(g[i])
    return atom


def l2(g: Array) -> Array:
    """−g / ‖g‖₂."""
    norm = np.sqrt(np.sum(g**2))
    return -g / norm if norm > 0 else np.zeros_like(g)


def linf(g: Array) -> Array:
    """−sign(g)."""
    return -np.sign(g)


def lp(p: float) -> Oracle:
    """−sign(g) ∣g∣^{q−1} / ‖g‖_q^{q−1} with 1/p + 1/q = 1, for 1 < p < ∞."""
    q = p / (p - 1.0)

    def oracle(g: Array) -> Array:
        norm = np.sum(np.abs(g) ** q) ** (1.0 / q)
        if norm == 0:
            return np.zeros_like(g)
        return -np.sign(g) * np.abs(g) ** (q - 1.0) / norm ** (q - 1.0)

    return oracle
