"""The anchor: the weights that everybody outside the inner loop sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from lightning_fw.tensors.foreach import add_scaled_, copy_, pick
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import any_sharded


class _Away(NamedTuple):
    """Weights that stand at ω + factor · offsets, and what they are at ω."""

    parameters: list[Tensor]
    weights: list[Tensor]
    offsets: list[Tensor]
    factor: Scalar


class Anchor:
    """Moves weights away from the anchor ω and brings them back to the last bit.

    Args:
        parameters: The weights, changed in place.

    Attributes:
        is_displaced: Whether inside :meth:`displaced`.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._weights = [torch.empty_like(p) for p in parameters]
        self.is_displaced = False
        self._those_away: _Away | None = None
        self._is_restored = False

    @contextmanager
    def displaced(
        self, offsets: list[Tensor] | None, factor: Scalar, moved: Sequence[bool]
    ) -> Iterator[None]:
        """The weights stand at ω + factor · offsets inside, at ω before and after.

        They are brought back on an error too. Those that have not moved are left alone, as all are
        without offsets: what a target network is given inside, it keeps.

        Raises:
            RuntimeError: Within itself, or if the weights have another dtype since.
        """
        self._require_as_made()
        if self.is_displaced:
            raise RuntimeError(
                "`displaced` cannot be entered within itself, got a second one. Leave the first "
                "before, which brings the weights back."
            )
        self.is_displaced = True
        try:
            if offsets is None:
                yield
                return
            with self._away(offsets, factor, [i for i, has in enumerate(moved) if has]):
                yield
        finally:
            self.is_displaced = False

    def _require_as_made(self) -> None:
        """A copy in another dtype would bring rounded weights back."""
        for p, w in zip(self._parameters, self._weights, strict=True):
            if p.dtype is not w.dtype:
                raise RuntimeError(
                    f"`parameters` must stay of the dtype that the window was made with, got "
                    f"{p.dtype} after {w.dtype}. Make the window after the module is converted."
                )

    @contextmanager
    def _away(self, offsets: list[Tensor], factor: Scalar, which: Sequence[int]) -> Iterator[None]:
        parameters, weights = pick(self._parameters, which), pick(self._weights, which)
        with torch.no_grad():
            copy_(weights, parameters)
        self._those_away = away = _Away(parameters, weights, pick(offsets, which), factor)
        try:
            self._move_away(away)
            yield
        finally:
            self._move_back(away)
            self._those_away = None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The weights stand at ω inside, and after it where they stood before.

        A graph made inside cannot be gone back through after it, nor one made before inside: torch
        raises, as of weights that were changed in place.

        Raises:
            RuntimeError: With weights in parts, where they are displaced.
        """
        away = self._those_away
        if away is None or self._is_restored:
            yield
            return
        self._require_whole("be at the anchor")
        with self._unseen_by_autograd(away.parameters):
            self._move_back(away)
            self._is_restored = True
            try:
                yield
            finally:
                self._is_restored = False
                self._move_away(away)

    @contextmanager
    def _unseen_by_autograd(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Weights that are in the end what they were have not changed for a graph made before."""
        with ExitStack() as stack:
            for p in parameters:
                stack.enter_context(_unsafe_preserve_version_counter(p))
            yield

    def copies(self) -> list[tuple[Tensor, Tensor]]:
        """Each weight that stands elsewhere, with a copy of what it is at ω.

        Raises:
            RuntimeError: With weights in parts, where they are displaced.
        """
        away = self._those_away
        if away is None:
            return []
        self._require_whole("save a checkpoint")
        return [(p, w.clone()) for p, w in zip(away.parameters, away.weights, strict=True)]

    def _require_whole(self, purpose: str) -> None:
        """FSDP2 may have gathered weights for the pass in progress: they are not these."""
        if any_sharded(self._parameters):
            raise RuntimeError(
                f"`training_step` cannot {purpose} within itself with weights in parts, "
                "got one that does. Do it after the batch, as in on_train_batch_end."
            )

    def _move_away(self, away: _Away) -> None:
        with torch.no_grad():
            add_scaled_(away.parameters, away.offsets, [away.factor] * len(away.parameters))
        # A user's own torch.autocast would serve its cast of the old weights again.
        torch.clear_autocast_cache()

    def _move_back(self, away: _Away) -> None:
        with torch.no_grad():
            copy_(away.parameters, away.weights)
        torch.clear_autocast_cache()
