"""Tokens and the indices that stand for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

UNKNOWN = "<unk>"


class Vocabulary:
    """The tokens of a training text; any other token has the index 0, which is ``<unk>``.

    The rest are in the order of their counts, the most frequent first, then of the alphabet, so
    that the indices depend on the text alone.

    Args:
        training: The tokens of the training text. A ``<unk>`` of its own is that of index 0.
        min_count: Tokens less frequent than this count as unknown.

    Example:
        >>> vocabulary = Vocabulary(["to", "be", "or", "not", "to", "be"])
        >>> vocabulary.tokens
        ('<unk>', 'be', 'to', 'not', 'or')
        >>> vocabulary.encode(["to", "see"])
        tensor([2, 0])
        >>> vocabulary.decode([2, 0])
        ['to', '<unk>']
    """

    def __init__(self, training: Iterable[str], *, min_count: int = 1) -> None:
        counts = Counter(training)
        counts.pop(UNKNOWN, None)
        known = sorted(
            (token for token, count in counts.items() if count >= min_count),
            key=lambda token: (-counts[token], token),
        )
        self.tokens: tuple[str, ...] = (UNKNOWN, *known)
        self._indices = {token: index for index, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """Indices of tokens: int64, of shape (tokens,)."""
        return torch.tensor([self._indices.get(token, 0) for token in tokens], dtype=torch.int64)

    def decode(self, indices: Sequence[int] | Tensor) -> list[str]:
        """The tokens that indices stand for."""
        return [self.tokens[int(index)] for index in indices]
