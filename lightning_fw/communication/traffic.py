"""Collectives, counted where torch makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class Counts(NamedTuple):
    """Collectives so far.

    Attributes:
        all_reduces: Calls of all-reduce.
        others: Calls of any other collective.
        bytes: Of the tensors that this rank handed to them: what a sum or a copy is made of, and
            not what an algorithm sends for it over the wire.
    """

    all_reduces: float
    others: float
    bytes: float

    def per_batch_since(self, before: Counts, batches: int) -> Counts:
        """How many of each came in so many batches, a batch."""
        return Counts(*((now - then) / batches for now, then in zip(self, before, strict=True)))


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the collectives that this process takes part in, DDP's own included, while entered.

    Every operation passes through it, so that what runs inside is slow.

    Attributes:
        counts: The collectives so far.

    Example:
        >>> with Traffic() as traffic:
        ...     pass
        >>> traffic.counts
        Counts(all_reduces=0, others=0, bytes=0)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = Counts(0, 0, 0)

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "c10d":
            reduces = "allreduce" in func.name()
            size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(args))
            all_reduces, others, sent = self.counts
            self.counts = Counts(all_reduces + reduces, others + (not reduces), sent + size)
        return func(*args, **(kwargs or {}))


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)
