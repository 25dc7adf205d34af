"""Lightning's two namespaces, in which its own modules are looked up."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any


@lru_cache
def _namespace(loop_class: type) -> str:
    loops = (base.__module__ for base in loop_class.__mro__ if base.__name__ == "_FitLoop")
    return next(loops).removesuffix(".loops.fit_loop")


def sibling(trainer: Any, name: str) -> Any:
    """A module of the trainer's own namespace: ``lightning.pytorch`` or ``pytorch_lightning``.

    Args:
        trainer: A Trainer of either.
        name: The module's name below it, such as ``"trainer.call"``.
    """
    loop_class: type = type(trainer.fit_loop)
    return import_module(f"{_namespace(loop_class)}.{name}")
