"""Getting around methods that the user's class defines in front of the mixin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

# Marks a method that is wrapped already, and names the set of methods that an instance is in.
_WRAPPED = "_frank_wolfe_wrapped"
_ENTERED = "_frank_wolfe_entered"


def is_lightning_core(method: Callable[..., Any]) -> bool:
    """Whether a method is LightningModule's own, in either namespace."""
    owner = inspect.unwrap(method).__qualname__.rpartition(".")[0]
    return owner == "LightningModule" and method.__module__.split(".")[0] in (
        "lightning",
        "pytorch_lightning",
    )


def require_base_order(cls: type, mixin: type) -> None:
    """Raise if LightningModule stands before the mixin, which would then never be called.

    Raises:
        TypeError: Naming the right order.
    """
    for base in cls.__mro__:
        if base is mixin:
            return
        if "automatic_optimization" in base.__dict__:
            bases = ", ".join(base.__name__ for base in cls.__bases__)
            others = ", ".join(base.__name__ for base in cls.__bases__ if base is not mixin)
            raise TypeError(
                f"`{mixin.__name__}` must stand first in the bases of {cls.__name__}, got "
                f"({bases}). Write class {cls.__name__}({mixin.__name__}, {others})."
            )


def wrap_method(
    cls: type, name: str, around: Callable[..., Any], *, only_overridden: bool = False
) -> None:
    """Put ``around(module, method, *arguments)`` around what ``cls`` has as its method.

    Nothing is done where the method is wrapped already. A call from within, by ``super()``, goes
    straight to the method. So the mixin does its part where a user overrides a hook without
    calling ``super()``, as Lightning's own documentation does.

    Args:
        cls: The class to change.
        name: The method's name.
        around: Gets the instance, the unbound method and its arguments.
        only_overridden: Whether to leave Lightning's own method as it is.
    """
    method = getattr(cls, name, None)
    if method is None or hasattr(method, _WRAPPED):
        return
    if only_overridden and is_lightning_core(method):
        return

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        entered = self.__dict__.setdefault(_ENTERED, set())
        if name in entered:
            return method(self, *args, **kwargs)
        entered.add(name)
        try:
            return around(self, functools.partial(_call, method, kwargs), *args)
        finally:
            entered.discard(name)

    # Lightning reads the signature through one `__wrapped__` only.
    wrapper.__wrapped__ = inspect.unwrap(method)
    setattr(wrapper, _WRAPPED, True)
    setattr(cls, name, wrapper)


def _call(method: Callable[..., Any], kwargs: dict[str, Any], self: Any, *args: Any) -> Any:
    return method(self, *args, **kwargs)
