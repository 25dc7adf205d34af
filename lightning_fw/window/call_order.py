"""The order in which a loop calls a window, and what it forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lightning_fw.window.displacement import Displacement
    from lightning_fw.window.window import Window


def require_evaluation(
    window: Window, call: str, displacement: Displacement, loss: Tensor | None
) -> None:
    """Raise unless a further gradient has its place in the window, and was made for it.

    Args:
        window: The window.
        call: The name of the method that was called.
        displacement: Of the window.
        loss: What the call was given.

    Raises:
        RuntimeError: If it is full, or ``p.grad`` still holds the direction of the one before.
        TypeError: If the loss is no tensor.
        ValueError: If it has more than one entry.
    """
    if loss is not None:
        _require_scalar_tensor(loss)
    if window.is_full:
        raise RuntimeError(
            f"`{call}` must come at most {window.inner_loop.steps} times a window, got one more. "
            "Call close() first."
        )
    if window.has_direction and displacement.is_handed_over:
        raise RuntimeError(
            f"`{call}` must come after an evaluation inside displaced(), got the direction of the "
            "window before in `p.grad`. Make loss and backward pass in "
            "`with window.displaced():`."
        )


def _require_scalar_tensor(loss: object) -> None:
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"`loss` must be a tensor, got {loss!r}. Pass what backward() was called on."
        )
    if loss.numel() != 1:
        raise ValueError(
            f"`loss` must have one entry, got shape {tuple(loss.shape)}. Pass its mean."
        )


def require_anchor(window: Window) -> None:
    """Raise inside ``displaced()``, where a step of the outer optimizer would be lost.

    Raises:
        RuntimeError: Inside it.
    """
    if window.anchor.is_displaced:
        raise RuntimeError(
            "`close` must come after the block of displaced(), got one inside: an outer step "
            "there is lost when the weights are brought back. Call both after the block."
        )
