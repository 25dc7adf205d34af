"""Strategies that the inner loop can work under, and what it needs of each."""

from __future__ import annotations

from typing import Any

from torch import nn

# By the names of classes: those of two namespaces are not related.
_REFUSED = {
    "FSDPStrategy": "fails in manual optimization (Lightning issues 19626 and 19685)",
    "DeepSpeedStrategy": "steps along gradients of its own, not the direction",
    "XLAStrategy": "averages gradients after the inner loop needs them",
    "SingleDeviceXLAStrategy": "computes when the batch is over, not when an inner step asks",
}


def attend_to_strategy(strategy: Any) -> None:
    """Let a fit begin under this strategy as the first one did.

    Every fit makes its own DDP, whose first pass over a static graph Lightning 2.6.6 averages once
    in a strategy's life (``strategies/ddp.py``, ``post_backward``): ranks would drift apart.

    Raises:
        ValueError: If a fit would fail, or train by something else.
    """
    require_strategy(strategy)
    if hasattr(strategy, "_pl_static_graph_delay_done"):
        strategy._pl_static_graph_delay_done = False


def require_strategy(strategy: Any) -> None:
    """Raise if a fit under this strategy would fail, or train by something else.

    Raises:
        ValueError: Naming those to use instead.
    """
    for base in type(strategy).__mro__:
        if base.__name__ in _REFUSED:
            raise ValueError(
                f"`strategy` must be one that FrankWolfeMixin can drive, got {base.__name__}, "
                f'which {_REFUSED[base.__name__]}. Pass Trainer(strategy="ddp"), or for weights in '
                "parts (FSDP2) ModelParallelStrategy(data_parallel_size=..., "
                "tensor_parallel_size=1)."
            )


def require_local_windows(trainer: Any) -> None:
    """Raise if the strategy cannot leave gradients to each rank.

    Raises:
        ValueError: For several ranks under any strategy but DDP, or with its ``static_graph``.
    """
    names = [base.__name__ for base in type(trainer.strategy).__mro__]
    if trainer.world_size > 1 and "DDPStrategy" not in names:
        raise ValueError(
            f'`sync` must be "step" with {names[0]}, got "restart": windows apart need whole '
            'weights on every rank. Pass sync="step", or Trainer(strategy="ddp").'
        )
    if trainer.world_size > 1 and trainer.strategy._ddp_kwargs.get("static_graph"):
        raise ValueError(
            '`static_graph` must be False with sync="restart", got True: DDP then wants to average '
            'the gradients of a first pass. Pass DDPStrategy() without it, or sync="step".'
        )


def gathering_modules(module: nn.Module) -> list[Any]:
    """The modules that gather their weights for a pass: FSDP2's."""
    # Not by its class, FSDPModule, which has moved from torch to torch.
    return [child for child in module.modules() if hasattr(child, "reshard")]


def drop_gathered(modules: list[Any]) -> None:
    """Free gathered copies of weights that are about to move.

    FSDP2 keeps those of the root module after a forward pass, for a backward pass that validation
    and a skipped batch do not make, and would use them again.
    """
    for child in modules:
        child.reshard()
