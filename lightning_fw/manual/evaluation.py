"""One gradient evaluation: the user's training_step and a backward pass through Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from lightning_fw.manual.namespaces import sibling

TrainingStep = Callable[..., Any]

_BACKWARD = (
    "`training_step` must leave the backward pass to FrankWolfeMixin, got {}. Return the loss "
    "instead, drop calls of the optimizer's zero_grad() and step(), and "
    "take other gradients by torch.autograd.grad. For truncated back-propagation "
    'pass InnerLoop(batches="split") and override split_batch to cut along time.'
)

_STEP = (
    "`training_step` must leave the optimizer's step to FrankWolfeMixin, got a call of step() in "
    "it. Drop that: a restart makes it, along the direction that the inner loop found."
)


_SCHEDULE = (
    "`training_step` should leave the steps of schedulers to FrankWolfeMixin, got a call of step() "
    "in it: the scheduler that configure_optimizers returned takes both. Drop that, or return no "
    "scheduler."
)


def refuse_backward(module: Any) -> None:
    """Raise if it is the user's ``training_step`` that calls ``manual_backward``.

    Raises:
        RuntimeError: Naming what to do instead.
    """
    if module._runs_training_step:
        raise RuntimeError(_BACKWARD.format("a call of manual_backward in it"))


def evaluate(
    module: Any,
    training_step: TrainingStep,
    arguments: tuple[Any, ...],
    parameters: Sequence[Tensor],
    before_backward: Callable[[], None],
) -> tuple[Any, Tensor | None]:
    """Run the user's ``training_step`` and leave the gradient in ``p.grad``.

    The backward pass goes through the strategy's hook as in automatic optimization: there ranks
    average gradients, the backward hooks fire, and profilers and logs know it by its name.

    Args:
        module: The LightningModule.
        training_step: The user's function, unbound.
        arguments: What Lightning calls it with.
        parameters: The weights.
        before_backward: Called between the two, where gradients are zeroed.

    Returns:
        The user's output, and its loss: None when the user skips the batch.

    Raises:
        RuntimeError: If ``training_step`` stepped the outer optimizer, or left gradients.
        TypeError: If it returned no loss.
        ValueError: If its loss has more than one entry, or no graph to go back through.
    """
    found = [_with_version(p.grad) for p in parameters]
    schedules = _places_in_schedules(module.trainer)
    module._runs_training_step = True
    try:
        with _steps_refused(module.trainer.optimizers):
            output = training_step(module, *arguments)
    finally:
        module._runs_training_step = False
    if _places_in_schedules(module.trainer) != schedules:
        _warn_of_steps(module)
    if any(_is_added_to(p.grad, *before) for p, before in zip(parameters, found, strict=True)):
        raise RuntimeError(_BACKWARD.format("gradients in p.grad after it, as backward() leaves"))
    loss = loss_of(output)
    before_backward()
    _drop_left_over(parameters)
    if loss is not None:
        trainer = module.trainer
        call = sibling(trainer, "trainer.call")
        call._call_strategy_hook(trainer, "backward", loss, trainer.optimizers[0])
    return output, loss


def _places_in_schedules(trainer: Any) -> list[Any]:
    return [getattr(each.scheduler, "last_epoch", None) for each in trainer.lr_scheduler_configs]


def _warn_of_steps(module: Any) -> None:
    """Warn of schedulers that are stepped twice, unless a hook of the user's may leave them."""
    is_overridden = sibling(module.trainer, "utilities.model_helpers").is_overridden
    if not is_overridden("lr_scheduler_step", module):
        rank_zero_warn(_SCHEDULE)


def _with_version(gradient: Tensor | None) -> tuple[Tensor | None, int]:
    """What stands in ``p.grad``, as the window before's direction, and how often it was written.

    A backward pass writes into it, or puts another in its place.
    """
    return gradient, 0 if gradient is None else gradient._version


def _is_added_to(gradient: Tensor | None, before: Tensor | None, version: int) -> bool:
    """Whether there is a gradient that was not there before; the user may zero what was."""
    if gradient is None or (gradient is before and gradient._version == version):
        return False
    return before is None or bool(gradient.any())


def _drop_left_over(parameters: Sequence[Tensor]) -> None:
    """Clear what callbacks or a validation left in mid-window, where no zero_grad comes."""
    for p in parameters:
        p.grad = None


@contextmanager
def _steps_refused(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Raise where an optimizer steps inside."""
    with ExitStack() as stack:
        # Some wrap another optimizer without being made as one.
        hooked = [o for o in optimizers if hasattr(o, "_optimizer_step_pre_hooks")]
        for optimizer in hooked:
            stack.callback(optimizer.register_step_pre_hook(_refuse).remove)
        yield


def _refuse(optimizer: Optimizer, *_: object) -> None:
    # torch steps at a rate of zero, to make the state of an optimizer that it saves in parts.
    if any(group.get("lr", 1.0) != 0 for group in optimizer.param_groups):
        raise RuntimeError(_STEP)


def loss_of(output: object) -> Tensor | None:
    """The loss in what ``training_step`` returned; None skips the batch.

    Raises:
        TypeError: If it is neither a tensor, nor a mapping with a tensor "loss", nor None.
        ValueError: If it has more than one entry, or no graph to go back through.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if output is None:
        return None
    if isinstance(loss, Tensor):
        _require_scalar_with_graph(loss)
        return loss
    if isinstance(output, Mapping):
        has_loss = "loss" in output
        found = f"{loss!r} under 'loss'" if has_loss else f"a dict with the keys {list(output)}"
    else:
        found = repr(output)
    raise TypeError(
        f"`training_step` must return the loss, a dict with the loss under 'loss', or None to "
        f"skip the batch, got {found}. Return the loss as a tensor."
    )


def handed_on(output: Any) -> Any:
    """What ``training_step`` returned, with a mapping as the dict that hooks get of it.

    Under manual optimization Lightning 2.6.6 makes it by the mapping's own ``copy``, which gives
    another kind, or which there is none of (``loops/optimization/manual.py``).
    """
    return dict(output) if isinstance(output, Mapping) else output


def _require_scalar_with_graph(loss: Tensor) -> None:
    if loss.numel() != 1:
        raise ValueError(
            f"`training_step` must return a loss of one entry, got shape {tuple(loss.shape)}. "
            "Return its mean."
        )
    if not loss.requires_grad:
        raise ValueError(
            "`training_step` must return a loss that depends on the parameters, got one without "
            "a graph. Return it before detach() and outside of torch.no_grad()."
        )
