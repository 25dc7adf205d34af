"""Which parameters a window can move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from lightning_fw.parameters import ParameterInfo


def movable(
    parameters: Iterable[Tensor], infos: Sequence[ParameterInfo] | None = None
) -> tuple[list[Tensor], list[ParameterInfo] | None]:
    """The parameters as a list with their infos, if a window can move them.

    Args:
        parameters: As torch's optimizers take them: ``module.parameters()`` can be read once.
        infos: What is known of each of them.

    Raises:
        TypeError: If they are a module or one tensor, or something else is among them.
        ValueError: If there are none, they are not real floating-point leaves of one device, or
            there are more or fewer infos.
    """
    given = _tensors(parameters)
    if infos is not None and len(infos) != len(given):
        raise ValueError(
            f"`infos` must tell of each of {len(given)} parameters, got {len(infos)}. Pass "
            "*trainable(optimizer.param_groups, module)."
        )
    # Tied weights come twice; those without an entry have nothing to move.
    once: dict[int, int] = {}
    for place, p in enumerate(given):
        if p.numel() > 0:
            once.setdefault(id(p), place)
    if not once:
        raise ValueError(
            "`parameters` must hold at least one trainable tensor, got none. "
            "Give the outer optimizer parameters that require a gradient."
        )
    moved = [given[place] for place in once.values()]
    known = None if infos is None else [infos[place] for place in once.values()]
    _require_one_kind(moved, {id(p): info.name for p, info in zip(moved, known or ())})
    return moved, known


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        raise TypeError(
            "`parameters` must be a list of tensors, got a tensor of shape "
            f"{tuple(parameters.shape)}. Pass [tensor]."
        )
    if isinstance(parameters, nn.Module):
        raise TypeError(
            f"`parameters` must be tensors, got a {type(parameters).__name__}. Pass its "
            "parameters(), or *trainable(optimizer.param_groups, module)."
        )
    given = list(parameters)
    for p in given:
        if not isinstance(p, Tensor):
            raise TypeError(
                f"`parameters` must be tensors, got a {type(p).__name__} among them. Pass "
                "module.parameters(), or *trainable(optimizer.param_groups, module)."
            )
        if not (p.is_leaf or p.retains_grad):
            raise ValueError(
                "`parameters` must be leaves of the graph, got a tensor that was computed from "
                "others. Pass those, which backward() gives a gradient."
            )
    return given


def _require_one_kind(parameters: Sequence[Tensor], names: Mapping[int, str]) -> None:
    first = parameters[0]
    for p in parameters:
        found = names.get(id(p)) or "one"
        if not p.is_floating_point():
            raise ValueError(
                f"`parameters` must be real floating-point tensors, got {found} of {p.dtype}. Keep "
                "its numbers in a real tensor, which torch.view_as_complex can read, or leave it "
                "out of the optimizer."
            )
        if p.device != first.device:
            raise ValueError(
                f"`parameters` must be tensors of one device, got {found} on {p.device} beside "
                f"{names.get(id(first)) or 'one'} on {first.device}. Move it, or leave it out of "
                "the optimizer."
            )
