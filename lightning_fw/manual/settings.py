"""The settings of a fit: the inner loop's, and the Trainer's that have no work left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_fw.inner_loop import InnerLoop, require_inner_loop
from lightning_fw.manual.schedulers import counted_in_windows
from lightning_fw.radius_rules import SlopeRatio
from lightning_fw.window.saved_settings import changes, settings_in_words


def configured_inner_loop(module: Any) -> InnerLoop:
    """What the module's ``configure_frank_wolfe`` returns.

    Raises:
        TypeError: If that is no InnerLoop, or it is no method.
    """
    configure = module.configure_frank_wolfe
    if not callable(configure):
        raise TypeError(
            f"`configure_frank_wolfe` must be a method, got {configure!r}. "
            "Return it from def configure_frank_wolfe(self)."
        )
    inner_loop = require_inner_loop("configure_frank_wolfe()", configure())
    _warn_of_one_that_nobody_returns(module, inner_loop)
    if isinstance(inner_loop.radius_rule, SlopeRatio | None):
        return inner_loop
    # A schedule may be as long as the fit, which is counted in windows once these are known.
    with counted_in_windows(module, inner_loop):
        return require_inner_loop("configure_frank_wolfe()", configure())


def _warn_of_one_that_nobody_returns(module: Any, inner_loop: InnerLoop) -> None:
    if getattr(module.configure_frank_wolfe, "__module__", "") != "lightning_fw.mixin":
        return
    for name, value in vars(module).items():
        if isinstance(value, InnerLoop) and value != inner_loop:
            rank_zero_warn(
                f"`configure_frank_wolfe` should return the InnerLoop in `{name}`, got the "
                "paper's: it is not defined. Write def configure_frank_wolfe(self) to return it."
            )


def goes_on(driver: Any, inner_loop: InnerLoop) -> bool:
    """Whether a fit's windows go on where optimizers are made anew, as for layers that are added.

    Args:
        driver: The fit's; None before it has any.
        inner_loop: The settings now.
    """
    return driver is not None and not changes(
        settings_in_words(driver.inner_loop), settings_in_words(inner_loop)
    )


def require_trainer_settings(trainer: Any, configured: Any) -> None:
    """Raise if the Trainer is asked for what the inner loop replaces.

    Args:
        trainer: The Trainer.
        configured: What ``configure_callbacks`` returned: a callback or several.

    Raises:
        ValueError: For gradient clipping and gradient accumulation.
    """
    clip = trainer.gradient_clip_val
    if clip:
        raise ValueError(
            f"`gradient_clip_val` must be None with FrankWolfeMixin, got {clip}: the "
            "direction is bounded already, by the ball, and a clip would only shorten the "
            "step. Remove it from the Trainer, and lower the learning rate for shorter steps."
        )
    batches = trainer.accumulate_grad_batches
    if batches != 1:
        raise ValueError(
            f"`accumulate_grad_batches` must be 1 with FrankWolfeMixin, got {batches}. "
            f"Return dataclasses.replace(inner_loop, accumulate_grad_batches={batches}) of yours "
            "from configure_frank_wolfe instead; networks of lightning_fw.nn take it themselves, "
            f"on the command line as --model.accumulate_grad_batches={batches}."
        )
    own = configured if isinstance(configured, Sequence) else [configured]
    for callback in (*trainer.callbacks, *own):
        if hasattr(callback, "get_accumulate_grad_batches"):
            raise ValueError(
                f"`callbacks` must hold no {type(callback).__name__} with FrankWolfeMixin, whose "
                "windows count on a fixed number of batches a step. Remove it, and return "
                "dataclasses.replace(inner_loop, accumulate_grad_batches=...) of yours from "
                "configure_frank_wolfe."
            )
