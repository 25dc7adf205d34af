"""Inner steps of whole sequences, where these are read in chunks."""

from __future__ import annotations

from math import ceil

from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_fw.data.chunk_loader import Chunk
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.radius_rules import SlopeRatio


def warn_of_parts(loop: InnerLoop, chunk: Chunk) -> None:
    """Warn where the radius follows slopes of different parts of the sequences.

    The loss of a chunk depends on where in the sequences it lies, and so do the slopes that
    :class:`SlopeRatio` compares.
    """
    length, of = chunk.share
    chunks, batches = ceil(of / length), loop.accumulate_grad_batches
    if isinstance(loop.radius_rule, SlopeRatio) and batches % chunks:
        rank_zero_warn(
            f"`accumulate_grad_batches` should be {chunks}, got {batches}: sequences come in "
            f"{chunks} chunks, and inner steps that end within them let the radius follow slopes "
            f"of different parts. Pass accumulate_grad_batches={chunks}."
        )
