"""What a ball of the user's own answers first, compared with what every ball must hold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.balls.product import ProductBall
from lightning_fw.tensors.foreach import inner, working_dtype
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import any_sharded

# An oracle may be a rough one, but an atom outside of the ball is none.
_OUTSIDE = 1.01
_ROUGH = 0.5
_ROUNDING = 1e-3


def is_of_this_package(ball: Ball) -> bool:
    """Whether the ball, or each that it is made of, is one that our tests know."""
    if type(ball) is ProductBall:
        return all(map(is_of_this_package, ball.balls.values()))
    return type(ball).__module__.startswith("lightning_fw.")


def checked_atoms(
    ball: Ball,
    gradients: Sequence[Tensor],
    infos: Infos | None,
    norms: Sequence[Scalar] | None,
) -> Atoms:
    """What :meth:`Ball.atoms` answers, if it can be true; reads the device.

    Raises:
        TypeError: If it is not an :class:`Atoms` of lists.
        ValueError: If an atom is missing, of another shape, not finite, outside of the ball or
            uphill, or the gradients have been changed.
    """
    before = [gradient.clone() for gradient in gradients]
    atoms = ball.atoms(gradients, infos, norms)
    whose = type(ball).__name__
    if not isinstance(atoms, Atoms):
        raise TypeError(
            f"`atoms` of {whose} must give an Atoms, got {type(atoms).__name__}. "
            "Return Atoms(tensors, scales) of lightning_fw.balls."
        )
    kinds = tuple(type(part) for part in (atoms.tensors, atoms.scales))
    if not all(issubclass(kind, Sequence) for kind in kinds):
        raise TypeError(
            f"`atoms` of {whose} must give lists of tensors and scales, got "
            f"{kinds[0].__name__} and {kinds[1].__name__}. Give one of each for each gradient."
        )
    counts = (len(atoms.tensors), len(atoms.scales))
    if counts != (len(before), len(before)):
        raise ValueError(
            f"`atoms` of {whose} must give a tensor and a scale for each of {len(before)} "
            f"gradients, got {counts[0]} and {counts[1]}. Give a zero gradient the atom 0."
        )
    if any_sharded(gradients):
        return atoms
    if not all(map(torch.equal, before, gradients)):
        raise ValueError(
            f"`atoms` of {whose} must leave the gradients as they are, got them changed in place. "
            "Work on copies, or give multiples of them by their scales."
        )
    known = [info.name for info in infos or ()] or [""] * len(before)
    names = [name or f"parameter {index}" for index, name in enumerate(known)]
    multiplied = [
        _atom(whose, *each) for each in zip(names, before, atoms.tensors, atoms.scales, strict=True)
    ]
    _require_minimum(ball, before, multiplied, infos)
    # A later gradient may be zero though none of the first is.
    zeros = [torch.zeros_like(gradient) for gradient in before]
    for name, zero, atom in zip(names, zeros, _atoms_of(ball, zeros, infos, norms), strict=False):
        _atom(whose, name, zero, *atom)
    return atoms


def _atoms_of(
    ball: Ball, zeros: list[Tensor], infos: Infos | None, norms: Sequence[Scalar] | None
) -> list[tuple[Tensor, Scalar]]:
    """None where the ball raises, which will tell of itself when such gradients come."""
    with suppress(Exception):
        atoms = ball.atoms(zeros, infos, norms and [0 * norm for norm in norms])
        return list(zip(atoms.tensors, atoms.scales, strict=True))
    return []


def _atom(whose: str, name: str, gradient: Tensor, tensor: Tensor, scale: Scalar) -> Tensor:
    if tensor.shape != gradient.shape:
        raise ValueError(
            f"`atoms` of {whose} must have the shapes of the gradients, got "
            f"{tuple(tensor.shape)} for {tuple(gradient.shape)} of {name}. Reshape it."
        )
    atom = tensor.to(working_dtype(tensor.dtype)) * scale
    if not atom.isfinite().all():
        raise ValueError(
            f"`atoms` of {whose} must be finite for finite gradients, got a NaN or an infinity "
            f"for {name}, whose gradient has the largest entry {float(gradient.abs().amax()):.3g}. "
            "Give a zero gradient the atom 0, and divide by a norm that is clamped from below."
        )
    return atom


def _require_minimum(
    ball: Ball, gradients: Sequence[Tensor], atoms: Sequence[Tensor], infos: Infos | None
) -> None:
    whose = type(ball).__name__
    for name, given in (("block_norms", atoms), ("block_dual_norms", gradients)):
        found = getattr(ball, name)(given, infos)
        if not isinstance(found, Tensor):
            raise TypeError(
                f"`{name}` of {whose} must give a tensor of shape (blocks,), got "
                f"{type(found).__name__}. Return torch.stack of the blocks' norms."
            )
    norm, dual_norm = float(ball.norm(atoms, infos)), float(ball.dual_norm(gradients, infos))
    if norm > _OUTSIDE:
        raise ValueError(
            f"`atoms` of {whose} must lie in the ball of radius one, got one of norm {norm:.3g} by "
            "`block_norms`. Answer at radius one, whatever `radius` is."
        )
    product = float(inner(gradients, atoms))
    if product > _ROUNDING * dual_norm:
        raise ValueError(
            f"`atoms` of {whose} must minimize the inner product with the gradients, got "
            f"{product:.3g} > 0. Give the atoms a minus sign."
        )
    if -product < _ROUGH * dual_norm:
        warnings.warn(
            f"`atoms` of {whose} reach {-product:.3g} where the dual norm of the gradients by "
            f"`block_dual_norms` is {dual_norm:.3g}: steps are that much shorter than the ball. "
            "Answer at radius one, whatever `radius` is, and compare the two norms.",
            stacklevel=2,
        )
