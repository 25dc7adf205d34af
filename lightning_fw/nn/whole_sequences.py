"""Windows of whole sequences, where these are read in chunks."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, gcd

from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_fw.data.chunk_loader import Chunk
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.radius_rules import SlopeRatio


def in_whole_sequences(loop: InnerLoop, chunks: int) -> InnerLoop:
    """The inner loop with so many chunks a step that no window ends within a batch of sequences.

    The loss of a chunk depends on where in the sequences it lies, and so do the slopes that
    :class:`SlopeRatio` compares.

    Args:
        loop: Of which each chunk would be an inner step.
        chunks: Chunks of a batch of sequences.

    Example:
        >>> in_whole_sequences(InnerLoop.spectral(), chunks=4).accumulate_grad_batches
        2
    """
    return replace(loop, accumulate_grad_batches=chunks // gcd(chunks, loop.steps))


def warn_of_parts(loop: InnerLoop, chunk: Chunk) -> None:
    """Warn where the radius follows slopes of different parts of the sequences."""
    length, of = chunk.share
    chunks, batches = ceil(of / length), loop.steps * loop.accumulate_grad_batches
    if isinstance(loop.radius_rule, SlopeRatio) and batches % chunks:
        needed = in_whole_sequences(loop, chunks).accumulate_grad_batches
        rank_zero_warn(
            f"`accumulate_grad_batches` should be {needed}, got {loop.accumulate_grad_batches}: a "
            f"window of {batches} chunks ends within a batch of sequences, which has {chunks}, and "
            "the radius then follows slopes of different parts of them. Pass "
            f"accumulate_grad_batches={needed}."
        )
