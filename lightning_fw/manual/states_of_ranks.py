"""What each rank has of its own in a checkpoint, where ranks run windows apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, distributed

State = dict[str, Any]


def of_all_ranks(window: State) -> list[State]:
    """Every rank's window, on rank 0, which writes the file; none on the others."""
    on_cpu = apply_to_collection(window, Tensor, Tensor.cpu)
    is_first = distributed.get_rank() == 0
    gathered: list[Any] | None = [None] * distributed.get_world_size() if is_first else None
    distributed.gather_object(on_cpu, gathered)
    return gathered or []


def to_go_on_with(
    window: State, windows: Sequence[State], rank: int, ranks: int
) -> tuple[State, bool]:
    """The saved window for this rank, and whether it is in progress still.

    Args:
        window: That of the rank that wrote the file.
        windows: Those of all ranks, none where they ran one together.
        rank: This one.
        ranks: How many go on.

    Returns:
        This rank's own; for another number of ranks a new one with the mean of their momenta and
        of their covariances.
    """
    if not windows:
        return window, True
    if len(windows) == ranks:
        return windows[rank], True
    means = {
        "momentum": _mean([other["momentum"] for other in windows]),
        "whitening": {
            **window["whitening"],
            "covariances": _mean([other["whitening"]["covariances"] for other in windows]),
        },
    }
    nothing_held = {"sums": {}, "losses": [], "batches": 0, "skipped": 0}
    return {**window, **means, "gradients": nothing_held}, False


def _mean(averages: Sequence[list[Tensor] | None]) -> list[Tensor] | None:
    kept = [tensors for tensors in averages if tensors is not None]
    if not kept:
        return None
    return [sum(tensors[1:], tensors[0]) / len(kept) for tensors in zip(*kept, strict=True)]
