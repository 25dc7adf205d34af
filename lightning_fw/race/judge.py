"""What a network is measured on."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fw.data import SequenceData, TextData
from lightning_fw.data.sequences import Split
from lightning_fw.data.token_stream import TokenStream
from lightning_fw.nn import SequenceModel

Batches = Iterable[tuple[Tensor, ...]]

_SEQUENCES_AT_ONCE = 500
_PLACES, _TOKENS = 32, 500


def judged_on(data: SequenceData | TextData, split: Split) -> Batches:
    """All sequences of a split; of a text's part the first 500 tokens from each of 32 places."""
    if isinstance(data, TextData):
        stream = TokenStream(data.tokens(split), batch_size=_PLACES, chunk_length=_TOKENS)
        return [stream[0]]
    return DataLoader(data.split(split), _SEQUENCES_AT_ONCE)


def mean_metric(model: SequenceModel, batches: Batches) -> float:
    """The metric over all batches together."""
    total = count = 0.0
    for x, y in batches:
        total += len(x) * model.metric((x, y))
        count += len(x)
    return total / count


def judged_size(data: SequenceData | TextData) -> int:
    """Sequences of the test split, or tokens of a text's test part."""
    return len(data.tokens("test") if isinstance(data, TextData) else data.split("test"))
