"""``torch.compile`` of the whole module: the user's step in a graph, the window outside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fw.manual.evaluation import TrainingStep

_KEY = "frank_wolfe_training_step"


def uncompile_around(module: Any) -> None:
    """Take the mixin's own code out of what Lightning compiles as ``training_step``."""
    context = module._compiler_ctx
    if context is not None:
        module.training_step = context["original_training_step"]


def step_in_graph(module: Any, training_step: TrainingStep) -> TrainingStep:
    """The user's ``training_step``, compiled where the module is."""
    context = module._compiler_ctx
    if context is None:
        return training_step
    known: tuple[TrainingStep, TrainingStep] | None = context.get(_KEY)
    if known is None or known[0] is not training_step:
        # Once, since it takes 0.2 ms; beside Lightning's own, which to_uncompiled forgets with it.
        known = context[_KEY] = training_step, context["dynamo_ctx"](training_step)
    return known[1]
