"""One gradient evaluation: the user's training_step and a backward pass through Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

TrainingStep = Callable[..., Any]


def evaluate(
    module: Any,
    training_step: TrainingStep,
    arguments: tuple[Any, ...],
    before_backward: Callable[[], None],
) -> tuple[Any, Tensor | None]:
    """Run the user's ``training_step`` and leave the gradient in ``p.grad``.

    The backward pass goes through ``manual_backward``, where strategies average gradients over
    ranks and the backward hooks fire.

    Args:
        module: The LightningModule.
        training_step: The user's function, unbound.
        arguments: What Lightning calls it with.
        before_backward: Called between the two, where gradients are zeroed.

    Returns:
        The user's output, and its loss: None when the user skips the batch.
    """
    module._runs_training_step = True
    try:
        output = training_step(module, *arguments)
    finally:
        module._runs_training_step = False
    loss = loss_of(output)
    before_backward()
    if loss is not None:
        module.manual_backward(loss)
    return output, loss


def loss_of(output: object) -> Tensor | None:
    """The loss in what ``training_step`` returned; None skips the batch.

    Raises:
        TypeError: If it is neither a tensor, nor a mapping with a tensor "loss", nor None.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if isinstance(loss, Tensor) or output is None:
        return loss  # type: ignore[return-value]
    found = f"a dict with the keys {list(output)}" if isinstance(output, Mapping) else repr(output)
    raise TypeError(
        f"`training_step` must return the loss, a dict with the loss under 'loss', or None to "
        f"skip the batch, got {found}. Return the loss as a tensor."
    )
