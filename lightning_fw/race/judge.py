"""What a network is measured on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fw.data import SequenceData, TextData
from lightning_fw.data.sequences import Split
from lightning_fw.data.token_stream import TokenStream
from lightning_fw.nn import SequenceModel

Batches = Iterable[tuple[Tensor, ...]]

_SEQUENCES_AT_ONCE = 500
_PLACES, _TOKENS = 32, 500
_PLACES_AT_ONCE = 4


def judged_on(data: SequenceData | TextData, split: Split) -> Batches:
    """All sequences of a split; of a text's part the first 500 tokens from each of 32 places.

    Raises:
        ValueError: If a part of a text is too short.
    """
    if isinstance(data, TextData):
        size = len(data.tokens(split))
        if size <= _PLACES:
            raise ValueError(
                f"`--data` must hold a text of more than {_PLACES} tokens in each part, got {size} "
                f"in that for {split}. Pass a longer text."
            )
        stream = TokenStream(data.tokens(split), batch_size=_PLACES, chunk_length=_TOKENS)
        x, y = stream[0]
        # One-hot words of all places at once would take gigabytes.
        return list(
            zip(torch.split(x, _PLACES_AT_ONCE), torch.split(y, _PLACES_AT_ONCE), strict=True)
        )
    # A generator of its own: each pass draws a seed, and dropout draws from the same one otherwise.
    return DataLoader(data.split(split), _SEQUENCES_AT_ONCE, generator=torch.Generator())


def mean_metric(model: SequenceModel, batches: Batches) -> float:
    """The metric over all batches together."""
    total = count = 0.0
    for x, y in batches:
        total += len(x) * model.metric((x.to(model.device), y.to(model.device)))
        count += len(x)
    return total / count


def judged_size(data: SequenceData | TextData) -> int:
    """Sequences of the test split, or tokens of a text's test part."""
    return len(data.tokens("test") if isinstance(data, TextData) else data.split("test"))
