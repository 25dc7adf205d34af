"""What a checkpoint holds beside Lightning's own: the window in progress and its conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lightning_fw import balls, inner_loop, radius_rules, restarts, step_sizes
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window.saved_settings import changes, settings_in_words

KEY = "frank_wolfe"
_PARAMETERS = "parameters"
_SEPARATOR = "; "
# Of parameters that differ; a large model has hundreds.
_SHOWN = 5
# Settings that save_hyperparameters keeps, for torch.load(weights_only=True) to read back.
_SETTINGS = {
    found
    for module in (balls, inner_loop, radius_rules, restarts, step_sizes)
    for found in vars(module).values()
    if isinstance(found, type) and is_dataclass(found)
}
torch.serialization.add_safe_globals(list(_SETTINGS))

_PROGRESS = "epoch_loop.{}_optimization.optim{}_progress"


def describe(
    inner_loop: InnerLoop, parameters: Sequence[Tensor], infos: Sequence[ParameterInfo]
) -> dict[str, str]:
    """What a saved window depends on, in words to compare and to show."""
    moved = [words_for(p, info) for p, info in zip(parameters, infos, strict=True)]
    return {**settings_in_words(inner_loop), _PARAMETERS: _SEPARATOR.join(moved)}


def words_for(parameter: Tensor, info: ParameterInfo) -> str:
    """A parameter's name, shape and group."""
    group = f" of group {info.group}" if info.group else ""
    return f"{info.name} {tuple(parameter.shape)}{group}"


def saved_parameters(settings: Mapping[str, str]) -> list[str]:
    """The parameters in a description, in the words of :func:`words_for`."""
    return settings[_PARAMETERS].split(_SEPARATOR)


def differences(saved: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What differs between two descriptions, a phrase each."""
    phrases = changes(_without_parameters(saved), _without_parameters(mine))
    if saved[_PARAMETERS] != mine[_PARAMETERS]:
        phrases += _moved_differences(saved_parameters(saved), saved_parameters(mine))
    return phrases


def _without_parameters(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: words for name, words in settings.items() if name != _PARAMETERS}


def _moved_differences(before: list[str], now: list[str]) -> list[str]:
    gone = [parameter for parameter in before if parameter not in now]
    new = [parameter for parameter in now if parameter not in before]
    named = {"parameters that are gone": gone, "new parameters": new}
    phrases = [f"{phrase}: {_enumerated(which)}" for phrase, which in named.items() if which]
    return phrases or ["the optimizer holds its parameters in another order"]


def _enumerated(parameters: list[str]) -> str:
    more = len(parameters) - _SHOWN
    return ", ".join(parameters[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def can_resume(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a fit can go on from it: weights alone (``save_weights_only``) need no window."""
    return "optimizer_states" in checkpoint


def put_anchor(checkpoint: dict[str, Any], anchor: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Put the anchor's weights in the place of displaced ones, and of copies of these.

    A copy is known by its values, whatever its name, its dtype and its device.

    Args:
        checkpoint: A checkpoint made in mid-evaluation, as a cluster's signal makes it.
        anchor: Each displaced weight with a copy of what it is at the anchor.
    """
    if not anchor:
        return
    for key in ("state_dict", "current_model_state"):  # the latter is WeightAveraging's
        weights = checkpoint.get(key, {})
        for name, weight in weights.items():
            if _may_be_a_weight(weight):
                weights[name] = _at_anchor(weight, anchor)


def _may_be_a_weight(state: object) -> TypeGuard[Tensor]:
    """Not a counter or a mask, which may have a weight's values once that is rounded."""
    return (
        isinstance(state, Tensor)
        and state.layout == torch.strided
        and state.is_floating_point()
        and not state.is_meta
    )


def _at_anchor(weight: Tensor, anchor: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    for displaced, kept in anchor:
        offset = _offset_within(weight, displaced)
        if offset is None:
            continue
        if (weight.shape, weight.stride()) == (displaced.shape, displaced.stride()):
            return kept
        if kept.stride() == displaced.stride():
            return kept.as_strided(weight.shape, weight.stride(), kept.storage_offset() + offset)
    for displaced, kept in anchor:
        if weight.shape == displaced.shape and torch.equal(weight, displaced.to(weight)):
            return kept.to(weight)
    return weight


def _offset_within(part: Tensor, whole: Tensor) -> int | None:
    """From where in the memory of one tensor another one lies, in entries; None: outside it."""
    # A tensor that wraps others has no memory, which is at 0; its storage must not be asked.
    if not (part.data_ptr() and whole.data_ptr()):
        return None
    if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    offset = int(part.storage_offset() - whole.storage_offset())
    is_within = 0 <= offset <= _extent(whole) - _extent(part)
    return offset if is_within and part.dtype == whole.dtype else None


def _extent(tensor: Tensor) -> int:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


def share_progress(checkpoint: dict[str, Any], *, saves: bool) -> None:
    """Give both kinds of optimization the optimizer steps of the one that took them.

    Lightning counts ``global_step`` apart for each: a module with the mixin would start again at 0
    from the checkpoint of one without it, and the other way round.

    Args:
        checkpoint: Changed in place.
        saves: Whether a module with the mixin saves it: one without may have fitted in the same
            Trainer before, and taken more.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    manual = loop.get(_PROGRESS.format("manual", "_step"))
    automatic = loop.get(_PROGRESS.format("automatic", ""))
    if manual is None or automatic is None:
        return
    steps = automatic["optimizer"]["step"]
    source, target = (
        (manual, steps)
        if saves or manual["total"]["completed"] >= steps["total"]["completed"]
        else (steps, manual)
    )
    for span in ("total", "current"):
        target[span].update(source[span])
