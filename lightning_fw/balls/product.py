"""The product ball: a ball per pattern of parameter names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.tensors.scalars import Scalar, multiples, products, total


@dataclass(frozen=True, kw_only=True)
class ProductBall(Ball):
    """{d : ‖d_j‖_j ≤ δ δ_j for every part j}, its dual norm the sum Σ_j δ_j ‖g_j‖_j*.

    A parameter belongs to the first pattern that matches its name.

    Args:
        balls: Patterns as in the shell (``"*.bias*"``) mapped to balls.
        radius: δ, a factor on every ball's own radius; 1 by default. The direction is −d_K / δ.

    Raises:
        TypeError: If ``balls`` does not map strings to balls, or ``radius`` is not a number.
        ValueError: If ``balls`` is empty or ``radius`` is not positive and finite; in a fit, before
            training starts, if a pattern gets no parameter or a parameter matches no pattern.

    Example:
        >>> import torch
        >>> from lightning_fw import L2Ball, LinfBall
        >>> from lightning_fw.parameters import ParameterInfo
        >>> ball = ProductBall({"*bias*": LinfBall(radius=0.1), "*": L2Ball(radius=1.0)})
        >>> infos = [ParameterInfo("lstm.weight"), ParameterInfo("lstm.bias")]
        >>> ball.lmo([torch.tensor([3.0, 4.0]), torch.tensor([5.0])], infos)
        [tensor([-0.6000, -0.8000]), tensor([-0.1000])]
    """

    balls: Mapping[str, Ball] = field(kw_only=False)
    radius: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.balls, Mapping):
            raise TypeError(
                f"`balls` must map patterns to balls, got {self.balls!r}. "
                "Pass ProductBall({'*': L2Ball()}) or more."
            )
        if not self.balls:
            raise ValueError(
                "`balls` must name at least one pattern, got none. "
                "Pass ProductBall({'*': L2Ball()}) or more."
            )
        for pattern, ball in self.balls.items():
            if not (isinstance(pattern, str) and isinstance(ball, Ball)):
                raise TypeError(
                    f"`balls` must map patterns to balls, got {ball!r} for {pattern!r}. "
                    "Pass strings with balls such as L2Ball(radius=1e-2)."
                )
        object.__setattr__(self, "balls", dict(self.balls))

    def __eq__(self, other: object) -> bool:
        """Same balls in the same order, which decides the match, and the same radius."""
        if not isinstance(other, ProductBall):
            return NotImplemented
        return tuple(self.balls.items()) == tuple(other.balls.items()) and (
            self.radius == other.radius
        )

    def __hash__(self) -> int:
        return hash((tuple(self.balls.items()), self.radius))

    @property
    def is_per_tensor(self) -> bool:
        return all(ball.is_per_tensor for ball in self.balls.values())

    def check(self, infos: Infos) -> None:
        for part, ball in self._members(len(infos), infos):
            ball.check([infos[index] for index in part])

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        tensors = list(gradients)
        scales: list[Scalar] = [0.0] * len(tensors)
        duals: list[Callable[[], Scalar] | None] = []
        radii: list[Scalar] = []
        for part, ball in self._members(len(tensors), infos):
            answer = ball.atoms(
                *_pick(part, gradients, infos),
                None if norms is None else [norms[index] for index in part],
            )
            part_scales = multiples(answer.scales, ball.radius)
            for position, index in enumerate(part):
                tensors[index] = answer.tensors[position]
                scales[index] = part_scales[position]
            duals.append(answer.dual_norm)
            radii.append(ball.radius)
        known = [dual for dual in duals if dual is not None]
        if len(known) < len(duals):
            return Atoms(tensors, scales)
        return Atoms(tensors, scales, lambda: total(products([dual() for dual in known], radii)))

    def block_norms(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return torch.cat(
            [
                ball.block_norms(*_pick(part, tensors, infos)) / ball.radius
                for part, ball in self._members(len(tensors), infos)
            ]
        )

    def block_dual_norms(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return torch.cat(
            [
                ball.block_dual_norms(*_pick(part, gradients, infos)) * ball.radius
                for part, ball in self._members(len(gradients), infos)
            ]
        )

    def block_usages(self, displacement: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return torch.cat(
            [
                ball.block_usages(*_pick(part, displacement, infos)) / ball.radius
                for part, ball in self._members(len(displacement), infos)
            ]
        )

    def _members(self, count: int, infos: Infos | None) -> list[tuple[list[int], Ball]]:
        """The parts that have parameters here, with their balls."""
        names = tuple(info.name for info in infos) if infos is not None else ("",) * count
        parts = _assignment(tuple(self.balls), names)
        return [(part, ball) for part, ball in zip(parts, self.balls.values(), strict=True) if part]


def require_all_patterns(ball: Ball, names: Sequence[str]) -> None:
    """Raise unless every pattern of a product ball gets one of these parameters.

    Raises:
        ValueError: If one gets none, as a misspelled one does.
    """
    if not isinstance(ball, ProductBall):
        return
    patterns = tuple(ball.balls)
    for place, (pattern, part) in enumerate(ball.balls.items()):
        own = [name for name in names if _place(patterns, name) == place]
        if not own:
            raise ValueError(
                f"`balls` has the pattern {pattern!r}, which gets no parameter of "
                f"{', '.join(names)}. Remove it, correct it, or move it before a wider pattern."
            )
        require_all_patterns(part, own)


def _place(patterns: Sequence[str], name: str) -> int | None:
    """Index of the first pattern that matches."""
    matches = (place for place, pattern in enumerate(patterns) if fnmatchcase(name, pattern))
    return next(matches, None)


def _pick(
    part: Sequence[int], tensors: Sequence[Tensor], infos: Infos | None
) -> tuple[list[Tensor], Infos | None]:
    return (
        [tensors[index] for index in part],
        None if infos is None else [infos[index] for index in part],
    )


@lru_cache(maxsize=64)
def _assignment(patterns: tuple[str, ...], names: tuple[str, ...]) -> tuple[list[int], ...]:
    """Indices of the names that each pattern is the first to match."""
    parts: tuple[list[int], ...] = tuple([] for _ in patterns)
    for index, name in enumerate(names):
        place = _place(patterns, name)
        if place is None:
            raise ValueError(
                f"`balls` has no pattern for the parameter {name!r}, got "
                f"{', '.join(map(repr, patterns))}. Add a pattern that matches it, or end with '*'."
            )
        parts[place].append(index)
    return parts
