"""One long text, cut so that each batch goes on where the one before it ended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_fw.data.sequence_loader import InOrder, epoch_length


class TokenStream(Dataset[tuple[Tensor, ...]]):
    """Chunks of a text that is read in ``batch_size`` places at once, for truncated BPTT.

    The N tokens lie in rows, one under the other; a chunk is a few columns. With batch_size = 2,
    chunk_length = 3 and tokens 0 … 12::

        chunk 0       chunk 1         targets: the next tokens
        0  1  2       3  4  5         1 2 3     4  5  6
        6  7  8       9 10 11         7 8 9    10 11 12

    Row b of a chunk goes on where row b of the chunk before it ended, so that the state of a
    recurrent network can be kept, detached, from chunk to chunk. The last chunk may be shorter;
    the (N − 1) mod batch_size tokens that fill no column are left out.

    Of several ranks each reads rows of its own, and every chunk of them.

    Args:
        tokens: Indices, int64, of shape (N,).
        batch_size: Rows of a rank.
        chunk_length: Columns of a chunk.
        rank: Which of the ``ranks`` reads.
        ranks: How many read, each ``batch_size`` rows.

    Raises:
        ValueError: If the tokens do not fill a column.

    Example:
        >>> import torch
        >>> stream = TokenStream(torch.arange(13), batch_size=2, chunk_length=3)
        >>> for x, y in stream.loader():
        ...     print(x.tolist(), y.tolist())
        [[0, 1, 2], [6, 7, 8]] [[1, 2, 3], [7, 8, 9]]
        [[3, 4, 5], [9, 10, 11]] [[4, 5, 6], [10, 11, 12]]
    """

    def __init__(
        self, tokens: Tensor, *, batch_size: int, chunk_length: int, rank: int = 0, ranks: int = 1
    ) -> None:
        rows = batch_size * ranks
        columns = (len(tokens) - 1) // rows
        if columns < 1:
            raise ValueError(
                f"`batch_size` must leave a token and its next one to each row, got {rows} rows "
                f"for {len(tokens)} tokens. Pass a smaller batch_size or a longer text."
            )
        size = rows * columns
        mine = slice(rank * batch_size, (rank + 1) * batch_size)
        self._read = tokens[:size].view(rows, columns)[mine]
        self._next = tokens[1 : size + 1].view(rows, columns)[mine]
        self._chunk_length = chunk_length

    def __len__(self) -> int:
        return -(-self._read.shape[1] // self._chunk_length)

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if not 0 <= index < len(self):
            raise IndexError(
                f"`index` must be at least 0 and below {len(self)}, got {index}. Pass a chunk's."
            )
        start = index * self._chunk_length
        columns = slice(start, start + self._chunk_length)
        return self._read[:, columns], self._next[:, columns]

    def loader(self) -> ChunksInOrder:
        """All chunks, in their order; a fit that was interrupted goes on from chunk to chunk."""
        # On several ranks Lightning puts a DistributedSampler in the place of any other sampler,
        # and would deal the chunks out among the ranks, which tears the rows.
        in_order = InOrder(self, num_replicas=1, rank=0, shuffle=False)
        return ChunksInOrder(self, batch_size=None, sampler=in_order)


class ChunksInOrder(DataLoader[tuple[Tensor, ...]]):
    """A loader that can be resumed in mid-epoch, at the chunk after the last it gave.

    Attributes:
        limit: Chunks after which a Trainer ends an epoch; None: there are no more. Data modules
            set it.

    Example:
        >>> import torch
        >>> loader = TokenStream(torch.arange(13), batch_size=2, chunk_length=3).loader()
        >>> loader.load_state_dict({"position": 1})
        >>> [x.tolist() for x, _ in loader]
        [[[3, 4, 5], [9, 10, 11]]]
    """

    limit: int | None = None
    _position = 0
    _saved: dict[str, int] | None = None

    @override
    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]
        state, self._saved, self._position = self._saved, None, 0
        # That of the end of an epoch goes on with the next one.
        if state is not None and state["position"] != state.get("limit", len(self)):
            self._position = state["position"]
        for chunk in islice(super().__iter__(), self._position, None):
            self._position += 1
            yield chunk

    def state_dict(self) -> dict[str, int]:
        """Chunks of the epoch that were handed out, and after how many it ends."""
        return self._saved or {"position": self._position, "limit": epoch_length(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next iteration."""
        self._saved = dict(state)
