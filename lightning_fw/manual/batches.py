"""The batches that inner steps see."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Number
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection, is_dataclass_instance
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.epoch import is_last_batch
from lightning_fw.radius_rules import SlopeRatio

# Not tensors, and yet one entry a sample: a chunk would get all of them.
_UNSPLITTABLE = (PackedSequence, str, bytes)


def require_batches(module: Any, loop: InnerLoop) -> None:
    """Raise if ``training_step`` draws its batches itself, so that no batch can come twice.

    Raises:
        ValueError: If it takes ``dataloader_iter`` and batches are to be repeated or split.
    """
    if loop.batches == "successive":
        return
    if "dataloader_iter" in inspect.signature(module.training_step).parameters:
        raise ValueError(
            '`batches` must be "successive" for a training_step that takes dataloader_iter, got '
            f"{loop.batches!r}: it draws its batch itself. Pass that, or take the batch instead."
        )


def pieces(module: Any, loop: InnerLoop, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The arguments of ``training_step`` for each inner step on a batch.

    Raises:
        TypeError: If ``split_batch`` gives no list of batches.
        ValueError: If it gives more than the inner loop has steps for.
    """
    if loop.batches == "successive":
        return [arguments]
    batch, *rest = arguments
    if loop.batches == "same":
        return [(_in_own_containers(batch), *rest) for _ in range(loop.steps)]
    found = module.split_batch(batch, loop.steps)
    is_single = isinstance(found, Tensor | Mapping | str) or not isinstance(found, Iterable)
    chunks = [] if is_single else list(found)
    if not chunks:
        raise TypeError(
            f"`split_batch` must return a list of batches, got {found!r:.60}. "
            "Return one for each of `chunks` inner steps."
        )
    if len(chunks) > loop.steps:
        raise ValueError(
            f"`split_batch` must return at most {loop.steps} batches, got {len(chunks)}: a window "
            "has no more inner steps. Return one for each of `chunks`, or pass more steps."
        )
    is_first = module.trainer.fit_loop.epoch_loop.total_batch_idx == 0
    if len(chunks) == 1 < loop.steps and is_first and not is_last_batch(module.trainer):
        _warn_of_one_chunk(loop)
    return [(chunk, *rest) for chunk in chunks]


def _warn_of_one_chunk(loop: InnerLoop) -> None:
    if isinstance(loop.radius_rule, SlopeRatio):
        rank_zero_warn(
            f"`split_batch` should return a batch for each of {loop.steps} inner steps, got 1: "
            "SlopeRatio, which compares the first and the last of a window, leaves the radius as "
            "it is. Return as many as `chunks`."
        )


def _in_own_containers(batch: Any) -> Any:
    """The same tensors, for a training_step that takes entries out: ``batch.pop("labels")``."""
    return apply_to_collection(batch, Tensor, lambda tensor: tensor)


def split_evenly(batch: Any, chunks: int, *, may_be_short: bool) -> list[Any]:
    """Cut a batch into chunks along its first dimension.

    Args:
        batch: Tensors in any nesting of tuples, lists, dicts and dataclasses.
        chunks: K.
        may_be_short: Whether fewer samples than K give as many chunks as samples: an epoch's last
            batch.

    Raises:
        TypeError, ValueError: As :func:`batch_length`.
        ValueError: If the batch has fewer than K samples.
    """
    length = batch_length(batch)
    if length < chunks and not may_be_short:
        raise ValueError(
            f'`steps` must be at most the batch size with batches="split", got {chunks} for a '
            f"batch of {length}. Pass fewer steps or a larger batch."
        )
    return split(batch, min(chunks, length))


def batch_length(batch: Any) -> int:
    """Samples in a batch: the common length of its tensors' first dimension.

    Raises:
        ValueError: If the batch has no tensor, or its tensors have no common first dimension.
        TypeError: If it holds a packed sequence, text, bytes, or lists or arrays of numbers.
    """
    _require_no_lists_of_numbers(batch)
    lengths: list[int] = []

    def note(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            raise _unsplittable(leaf)
        lengths.append(leaf.shape[0] if leaf.ndim else 0)
        return leaf

    apply_to_collection(batch, (Tensor, *_UNSPLITTABLE), note)
    if not lengths or 0 in lengths or len(set(lengths)) > 1:
        raise ValueError(
            "`batch` must hold tensors that share their first dimension to be split "
            f'(batches="split"), got first dimensions {lengths}. Override '
            "split_batch(batch, chunks) in your module."
        )
    return lengths[0]


def _require_no_lists_of_numbers(batch: Any) -> None:
    """A list or an array of numbers has an entry a sample, and would go whole to every chunk."""
    if hasattr(batch, "__array__") and not isinstance(batch, Tensor):
        raise _unsplittable(batch)
    members: Iterable[Any] = ()
    if isinstance(batch, Mapping):
        members = batch.values()
    elif is_dataclass_instance(batch):
        members = [getattr(batch, field.name) for field in fields(batch)]
    elif isinstance(batch, list | tuple):
        if batch and all(isinstance(entry, Number) for entry in batch):
            raise _unsplittable(batch)
        members = batch
    for member in members:
        _require_no_lists_of_numbers(member)


def _unsplittable(found: object) -> TypeError:
    return TypeError(
        f'`batch` must hold tensors alone to be split (batches="split"), got a '
        f"{type(found).__name__}. Override split_batch(batch, chunks) in your module, or collate "
        "into tensors."
    )


def split(batch: Any, chunks: int) -> list[Any]:
    """Cut every tensor of a batch along its first dimension, as :func:`torch.tensor_split` does.

    Args:
        batch: Tensors in any nesting of tuples, lists, dicts and dataclasses.
        chunks: Number of chunks, at most the batch's length.

    Returns:
        Batches of the same structure.
    """
    return [
        apply_to_collection(
            batch, Tensor, lambda leaf, i=index: torch.tensor_split(leaf, chunks)[i]
        )
        for index in range(chunks)
    ]
