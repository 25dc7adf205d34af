"""`InnerLoop.spectral()` once more, in NumPy from the documentation alone, with the exact ball.

Parameters are known by their names, as torch's recurrent layers have them. Per window, with
momentum β = 0.9 (0.8 of recurrent weights), the oracle answers β m_k + (1 − β) g_k, whitened in
recurrent layers, γ_k = 2/(k+1), and the outer step is that of SGD(lr=1, momentum=0.5,
nesterov=True) along −d_K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .elman import Array, Weights
from .outer import SGD

# For every inner step of an epoch the gradient at a point, without parameters that have none.
Gradients = list[Callable[[Weights], Weights]]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The preset's numbers, and what the names of its parameters mean."""

    steps: int = 2
    gates: int = 1
    symbols: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    share: float = 0.4
    momentum: float = 0.9
    recurrent_momentum: float = 0.8
    early_rate: float = 0.3
    heads: tuple[str, ...] = ("head.weight",)
    gate_radius: float = 3.0
    input_radius: float = 12.0
    input_power: float = 0.8
    input_limit: float = 3.0
    symbol_radius: float = 2.25
    vector_radius: float = 0.1
    memory: float = 0.95
    ridge: float = 1e-7

    @property
    def unwhitened(self) -> tuple[str, ...]:
        """Layers that read symbols, and input weights of units that recur on themselves alone."""
        recurrent = tuple(name.replace("weight_ih", "weight_hh") for name in self.symbols)
        return self.symbols + recurrent + self.apart

    def atom(self, name: str, g: Array) -> Array:
        """argmin over the unit ball of a parameter."""
        if g.ndim == 1 and "weight_hh" in name:
            return -self.vector_radius * np.sign(g)
        if g.ndim == 1:
            norm = np.linalg.norm(g)
            return -self.vector_radius * np.sqrt(g.size) * g / norm if norm > 0 else 0 * g
        stacks = self.gates if "weight_ih" in name or "weight_hh" in name else 1
        return np.concatenate([self.matrix(name, part) for part in np.split(g, stacks)])

    def matrix(self, name: str, g: Array) -> Array:
        """−ρ U Vᵀ of one matrix, or of one gate, without directions that are 0 up to rounding."""
        u, s, vt = np.linalg.svd(g, full_matrices=False)
        kept = s > s[0] * max(g.shape) * np.finfo(g.dtype).eps
        rows, columns = g.shape
        if name in self.heads:
            radius = 2.5 * np.sqrt(rows / columns)
        else:
            wider = rows if name in self.symbols else max(1.0, rows / columns)
            stacked = self.gates > 1 and "weight_hr" not in name
            of_input = stacked and "weight_ih" in name and "_l1" not in name
            radius = np.sqrt(wider)
            if of_input and name in self.symbols:
                radius *= self.symbol_radius
            elif of_input:
                radius *= self.input_radius / columns**self.input_power
                radius = min(radius, self.input_limit * np.sqrt(rows))
            elif stacked:
                radius *= self.gate_radius
        return -radius * u[:, kept] @ vt[kept]


@dataclass
class Radii:
    """δ_i of each tensor, set by its own slopes and by their sums."""

    names: list[str]
    preset: Preset
    restarts: int = 0
    radius: dict[str, float] = field(init=False)
    anchor: dict[str, float] = field(init=False)
    end: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.radius = dict.fromkeys(self.names, 0.015)
        self.anchor, self.end = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0.0)

    def update(self, a: dict[str, float], b: dict[str, float]) -> None:
        """After a window with the slopes a and b."""
        self.restarts += 1
        rate = max(0.05, self.preset.early_rate / np.sqrt(self.restarts))
        self.anchor = {name: 0.9 * self.anchor[name] + 0.1 * a[name] for name in self.names}
        self.end = {name: 0.9 * self.end[name] + 0.1 * b[name] for name in self.names}
        common = _change(sum(self.anchor.values()), sum(self.end.values()))
        for name in self.names:
            follows = self.anchor[name] == 0 or a[name] == b[name] == 0
            own = common if follows else _change(self.anchor[name], self.end[name])
            change = self.preset.share * own + (1 - self.preset.share) * common
            moved = self.radius[name] * np.exp(rate * change)
            self.radius[name] = float(np.clip(moved, 0.004, 0.05))


@dataclass
class Whitening:
    """U L⁻¹ m of each gate of a layer's weights, with C = L Lᵀ and U the polar factor of L."""

    preset: Preset
    covariance: dict[str, list[Array]] = field(default_factory=dict)
    rotation: dict[str, list[Array]] = field(default_factory=dict)

    def white(self, averages: Weights, g: Weights, before: set[str]) -> Weights:
        """What the oracle answers; ``before`` are those that had a gradient in this window."""
        white = dict(averages)
        layers: dict[str, list[str]] = {}
        for name, value in g.items():
            of_layer = "weight_ih" in name or "weight_hh" in name
            if value.ndim > 1 and of_layer and name not in self.preset.unwhitened:
                layers.setdefault(name.replace("weight_hh", "weight_ih"), []).append(name)
        for layer, names in layers.items():
            factors = self._factors(layer, [g[name] for name in names])
            if not before.intersection((layer, layer.replace("weight_ih", "weight_hh"))):
                self.rotation[layer] = [_polar(factor) for factor in factors]
            for name in names:
                parts = zip(self.rotation[layer], factors, self._split(averages[name]), strict=True)
                white[name] = np.concatenate([u @ np.linalg.solve(f, m) for u, f, m in parts])
        return white

    def _factors(self, layer: str, gradients: list[Array]) -> list[Array]:
        """L of each gate, after these gradients of its input and recurrent weights."""
        beta = self.preset.memory
        products = [[part @ part.T for part in self._split(g)] for g in gradients]
        newest = [sum(of_gate) for of_gate in zip(*products, strict=True)]
        past = self.covariance.get(layer, [0 * c for c in newest])
        kept = [beta * c + (1 - beta) * new for c, new in zip(past, newest, strict=True)]
        self.covariance[layer] = kept
        return [_root(c, self.preset.ridge) for c in kept]

    def _split(self, matrix: Array) -> list[Array]:
        return np.split(matrix, self.preset.gates)


def _root(covariance: Array, ridge: float) -> Array:
    size = len(covariance)
    return np.linalg.cholesky(covariance + ridge * np.trace(covariance) * np.eye(size))


def _polar(matrix: Array) -> Array:
    u, _, vt = np.linalg.svd(matrix)
    polar: Array = u @ vt
    return polar


def _change(a: float, b: float) -> float:
    """With the preset's target, τ = −0.5."""
    return float(np.clip(2 * (-0.5 * a - b) / abs(a), -1, 1))


def windows(
    anchor: Weights, epochs: Iterable[Gradients], preset: Preset
) -> Iterator[tuple[Weights, dict[str, float]]]:
    """After each window the anchor, and the radii that it had."""
    radii = Radii(list(anchor), preset)
    outer = SGD(dict.fromkeys(anchor, 1.0), momentum=0.5, nesterov=True)
    averaged, atoms = {name: 0 * w for name, w in anchor.items()}, {}
    whitening = Whitening(preset)
    for gradients in epochs:
        for i in range(0, len(gradients), preset.steps):
            used, d, slopes = dict(radii.radius), {name: 0 * w for name, w in anchor.items()}, []
            seen: set[str] = set()
            for k, gradient in enumerate(gradients[i : i + preset.steps], start=1):
                g = gradient({name: anchor[name] + d[name] for name in anchor})
                if atoms:
                    slope = {name: float(np.sum(g[name] * atoms[name])) for name in g}
                    slopes.append({**dict.fromkeys(anchor, 0.0), **slope})
                new = _atoms(g, averaged, whitening, seen)
                for name in anchor:
                    s = used[name] * new[name] if name in new else 0.0
                    d[name] = d[name] + 2 / (k + 1) * (s - d[name])
                atoms, seen = {**dict.fromkeys(anchor, 0.0), **atoms, **new}, seen | set(g)
            anchor = {
                **anchor,
                **outer.step({n: anchor[n] for n in seen}, {n: -d[n] for n in seen}),
            }
            if k > 1 and len(slopes) == k:
                radii.update(slopes[0], slopes[-1])
            yield anchor, used


def _atoms(g: Weights, averaged: Weights, whitening: Whitening, before: set[str]) -> Weights:
    """The answers to the averages, which the gradients that exist move first.

    ``before`` are those that had one in this window.
    """
    ahead, preset = {}, whitening.preset
    for name, value in g.items():
        beta = preset.recurrent_momentum if "weight_hh" in name else preset.momentum
        averaged[name] = beta * averaged[name] + (1 - beta) * value
        ahead[name] = beta * averaged[name] + (1 - beta) * value
    white = whitening.white(ahead, g, before)
    return {name: preset.atom(name, value) for name, value in white.items()}
