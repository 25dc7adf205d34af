"""What a checkpoint holds beside Lightning's own: the window in progress and its conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo

KEY = "frank_wolfe"
_PROGRESS = "epoch_loop.{}_optimization.optim{}_progress"


def describe(
    inner_loop: InnerLoop, parameters: Sequence[Tensor], infos: Sequence[ParameterInfo]
) -> dict[str, str]:
    """What a saved window depends on, in words to compare and to show."""
    settings = {field.name: _words(getattr(inner_loop, field.name)) for field in fields(InnerLoop)}
    moved = ", ".join(
        f"{info.name} {tuple(p.shape)}" for info, p in zip(infos, parameters, strict=True)
    )
    return {**settings, "parameters": moved}


def _words(value: object) -> str:
    # The representation of a function holds an address, which no other process has.
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{getattr(value, '__module__', '')}.{name}"


def differences(saved: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What differs between two descriptions, a phrase each."""
    return [
        f"{name} was {saved.get(name, 'not there')}, is {mine.get(name, 'not there')}"
        for name in {**saved, **mine}
        if saved.get(name) != mine.get(name)
    ]


def put_anchor(checkpoint: dict[str, Any], anchor: Mapping[int, Tensor]) -> None:
    """Put the anchor's weights in the place of displaced ones.

    Args:
        checkpoint: A checkpoint made in mid-evaluation, as a cluster's signal makes it.
        anchor: Copies of the anchor by the address of the weight.
    """
    for key in ("state_dict", "current_model_state"):  # the latter is WeightAveraging's
        weights = checkpoint.get(key, {})
        for name, weight in weights.items():
            weights[name] = anchor.get(weight.data_ptr(), weight)


def share_progress(checkpoint: dict[str, Any]) -> None:
    """Give both kinds of optimization the optimizer steps of the one that took them.

    Lightning counts ``global_step`` apart for each: a module with the mixin would start again at 0
    from the checkpoint of one without it, and the other way round.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    manual = loop.get(_PROGRESS.format("manual", "_step"))
    automatic = loop.get(_PROGRESS.format("automatic", ""))
    if manual is None or automatic is None:
        return
    steps = automatic["optimizer"]["step"]
    source, target = (
        (manual, steps)
        if manual["total"]["completed"] >= steps["total"]["completed"]
        else (steps, manual)
    )
    for span in ("total", "current"):
        target[span].update(source[span])
