"""Weight matrices that may be a product of two thin ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_fw.checks import require_count


def add_matrix(module: nn.Module, name: str, rows: int, columns: int, rank: int | None) -> None:
    """Register a matrix of shape (rows, columns), whole or as ``left`` @ ``right``.

    Whole, it is the parameter ``name``; of a rank r, the parameters ``name_left`` of shape (rows,
    r) and ``name_right`` of shape (r, columns). They wait for :func:`draw_matrix_`.

    Args:
        module: Gets the parameters.
        name: ``"weight_ih"`` or ``"weight_hh"``; an error names the rank ``rank_ih``, ``rank_hh``.
        rows: Rows of the matrix.
        columns: Its columns.
        rank: r, or None for a whole matrix.

    Raises:
        TypeError: If ``rank`` is neither an int nor None.
        ValueError: If it is less than 1 or above min(rows, columns).
    """
    if rank is None:
        module.register_parameter(name, nn.Parameter(torch.empty(rows, columns)))
        return
    argument = name.replace("weight", "rank")
    require_count(argument, rank)
    if rank > min(rows, columns):
        raise ValueError(
            f"`{argument}` must be at most {min(rows, columns)}, got {rank}. "
            f"Pass None for a whole matrix of shape ({rows}, {columns})."
        )
    module.register_parameter(f"{name}_left", nn.Parameter(torch.empty(rows, rank)))
    module.register_parameter(f"{name}_right", nn.Parameter(torch.empty(rank, columns)))


def matrix(module: nn.Module, name: str) -> Tensor:
    """The matrix that :func:`add_matrix` registered, of shape (rows, columns).

    A product is made once a call: over many steps that costs less than two products a step.
    """
    # Not get_parameter: torch.func calls a module with tensors that are no parameters.
    if hasattr(module, name):
        whole: Tensor = getattr(module, name)
        return whole
    product: Tensor = getattr(module, f"{name}_left") @ getattr(module, f"{name}_right")
    return product


@torch.no_grad()
def draw_matrix_(module: nn.Module, name: str, reach: float) -> None:
    """Draw the matrix with the variance of U(−reach, reach), whole or not.

    Entries of two factors of rank r drawn from U(−a, a) give products of variance r a⁴ / 9, which
    is reach² / 3 for a = (3 reach² / r)^¼.
    """
    if hasattr(module, name):
        nn.init.uniform_(module.get_parameter(name), -reach, reach)
        return
    for side in ("left", "right"):
        factor = module.get_parameter(f"{name}_{side}")
        rank = factor.shape[1 if side == "left" else 0]
        reach_of_factor = math.pow(3 * reach**2 / rank, 0.25)
        nn.init.uniform_(factor, -reach_of_factor, reach_of_factor)
