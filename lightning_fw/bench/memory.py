"""Bytes that training keeps beside the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lightning_fw.bench.contenders import new_window
from lightning_fw.inner_loop import InnerLoop


def bytes_kept(module: nn.Module) -> dict[str, int]:
    """Bytes of tensors: the parameters, Adam's state, and windows after a step, outer state aside.

    Args:
        module: Whose parameters stay where they are.
    """
    parameters = list(module.parameters())
    adam = torch.optim.Adam(parameters, lr=0.0)
    _give_gradients(parameters)
    adam.step()
    found = {
        "parameters": _bytes_of(parameters),
        "Adam": _bytes_of(list(adam.state.values())),
    }
    for name in ("paper", "spectral"):
        inner_loop: InnerLoop = getattr(InnerLoop, name)()
        window = new_window(module, inner_loop)
        for _ in range(2):
            with window.displaced():
                _give_gradients(parameters)
            window.step()
        known = {id(p) for p in parameters}
        found[f"window of InnerLoop.{name}()"] = _bytes_of(window, known)
    return found


def _give_gradients(parameters: list[nn.Parameter]) -> None:
    for p in parameters:
        p.grad = torch.zeros_like(p)


def _bytes_of(thing: object, known: set[int] | None = None) -> int:
    tensors = _tensors_in(thing, set(known or ()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors_in(thing: object, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that it holds, once."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from _tensors_in(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _tensors_in(value, seen)
    elif type(thing).__module__.startswith("lightning_fw."):
        yield from _tensors_in(vars(thing), seen)
