"""Windows that follow the optimizer: parameters that come and go, freeze and thaw in a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_fw.balls.product import require_all_patterns
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.saved_state import saved_parameters, words_for
from lightning_fw.parameters import trainable
from lightning_fw.window import Window
from lightning_fw.window.movable import movable


def require_parameters(module: Any, inner_loop: InnerLoop, optimizer: Optimizer) -> None:
    """Raise unless windows can move what the optimizer trains.

    Raises:
        ValueError: If there is nothing to move, or the ball cannot serve it; if a pattern of a
            ProductBall gets no parameter of the module, frozen ones included; if an embedding
            changes its weights as it is read.
    """
    parameters, infos = trainable(optimizer.param_groups, module)
    movable(parameters, infos)
    _warn_of_strangers(module, parameters)
    if inner_loop.steps > 1 and inner_loop.trajectory != "fixed":
        _require_reading_embeddings(module, parameters)
    inner_loop.ball.check(infos)
    names = dict.fromkeys([*dict(module.named_parameters()), *(info.name for info in infos)])
    require_all_patterns(inner_loop.ball, list(names))


def _warn_of_strangers(module: Any, parameters: Sequence[Tensor]) -> None:
    """The optimizer of layers that have been replaced since goes on with the old ones."""
    known = set(map(id, module.parameters()))
    strangers = [p for p in parameters if id(p) not in known]
    if strangers:
        shapes = ", ".join(str(tuple(p.shape)) for p in strangers[:3])
        rank_zero_warn(
            f"The optimizer holds {len(strangers)} parameters that are not of the module, of the "
            f"shapes {shapes}{', …' * (len(strangers) > 3)}. If its layers were replaced after the "
            "optimizer was made, the new ones are not trained."
        )


def _require_reading_embeddings(module: Any, parameters: Sequence[Tensor]) -> None:
    moved = {id(p) for p in parameters}
    for name, each in module.named_modules():
        limit = getattr(each, "max_norm", None)
        is_one = isinstance(each, nn.Embedding | nn.EmbeddingBag)
        if is_one and limit is not None and id(each.weight) in moved:
            raise ValueError(
                f"`max_norm` of {name} must be None with FrankWolfeMixin, got {limit}: it shortens "
                "weights where they are read, which the window takes back in all batches but its "
                "first. Shorten them in on_train_batch_end."
            )


def window_of(module: Any, inner_loop: InnerLoop) -> Window:
    """The first window of a fit, on what its optimizer trains."""
    return Window(inner_loop, *trainable(_groups(module), module), may_grow=True)


def followed(window: Window, module: Any) -> Window:
    """The window, or one that goes on in its place with what the optimizer trains now.

    What it trained once stays in its windows when it is frozen, as in the state of an optimizer:
    parts that take turns keep their momentum.

    Args:
        window: The window in progress.
        module: The LightningModule, with its optimizer.
    """
    groups = _groups(module)
    if _has_all(window, groups):
        return window
    # Of those frozen here, too: other ranks may train them.
    with_gradients = [p for p in _parameters(groups) if p.grad is not None]
    held = trainable(groups, module, [*window.parameters, *with_gradients])
    successor = Window(window.inner_loop, *held, may_grow=True)
    successor.succeed(window)
    return successor


def window_as_saved(window: Window, module: Any, settings: Mapping[str, str]) -> Window:
    """The window, or one on the parameters of a saved one, which may be frozen now.

    Args:
        window: On what the optimizer trains now.
        module: The LightningModule, with its optimizer.
        settings: The saved window's, as ``describe`` puts them.
    """
    groups = _groups(module)
    pairs = zip(*trainable(groups, module, _parameters(groups)), strict=True)
    saved = saved_parameters(settings)
    held = [(p, info) for p, info in pairs if words_for(p, info) in saved]
    if len(held) != len(saved):
        return window
    return Window(window.inner_loop, *map(list, zip(*held, strict=True)), may_grow=True)


def drop_strangers(module: Any, moved: Iterable[Tensor]) -> None:
    """Drop plain gradients of parameters that weights in parts let join a window too late."""
    known = set(map(id, moved))
    for parameter in _parameters(_groups(module)):
        if id(parameter) not in known:
            parameter.grad = None


def _has_all(window: Window, groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the window has what the optimizer trains, in its order and its groups.

    Asked at every evaluation, where :func:`trainable`, which walks the module, would take too long.
    """
    known = set(map(id, window.parameters))
    trained: dict[int, int] = {}
    for index, group in enumerate(groups):
        for p in group["params"]:
            if (p.requires_grad or p.grad is not None or id(p) in known) and p.numel() > 0:
                trained.setdefault(id(p), index)
    infos = window.infos or []
    return list(trained.items()) == [
        (id(p), info.group) for p, info in zip(window.parameters, infos, strict=True)
    ]


def _parameters(groups: Iterable[Mapping[str, Any]]) -> list[nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]


def _groups(module: Any) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = module.optimizers().param_groups
    return groups
