"""Getting around methods that the user's class defines in front of the mixin."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

# Marks a method that is wrapped already by itself, since functools.wraps copies marks to methods
# that are not; and names the set of methods that an instance is in.
_WRAPPED = "_frank_wolfe_wrapped"
ENTERED = "_frank_wolfe_entered"
_NAMESPACES = ("lightning", "pytorch_lightning")

# The mixin's, which a user may define.
_HOOKS = ("configure_frank_wolfe", "split_batch", "on_restart")

# By the lists in which a class may tell them.
_UNKNOWN_TO_TORCHSCRIPT = {
    "__jit_unused_properties__": ["frank_wolfe"],
    "__jit_ignored_attributes__": ["_frank_wolfe_driver", "_saved_driver_state", "_default_dtype"],
}


def hide_from_torchscript(cls: type) -> None:
    """Tell TorchScript which attributes of the mixin it is to leave out."""
    for listed, names in _UNKNOWN_TO_TORCHSCRIPT.items():
        setattr(cls, listed, list(dict.fromkeys([*getattr(cls, listed, ()), *names])))


def is_lightning_core(method: Callable[..., Any]) -> bool:
    """Whether a method is LightningModule's own, in either namespace."""
    owner = inspect.unwrap(method).__qualname__.rpartition(".")[0]
    return owner == "LightningModule" and method.__module__.split(".")[0] in _NAMESPACES


def require_base_order(cls: type, mixin: type) -> None:
    """Raise if LightningModule stands before the mixin, which would then never be called.

    Raises:
        TypeError: Naming the right order.
    """
    for base in cls.__mro__:
        if base is mixin:
            return
        if base.__name__ == "LightningModule" and base.__module__.split(".")[0] in _NAMESPACES:
            # Those that bring the mixin come first.
            right = sorted(cls.__bases__, key=lambda base: not issubclass(base, mixin))
            raise TypeError(
                f"`{mixin.__name__}` must stand first in the bases of {cls.__name__}, got "
                f"({_names(cls.__bases__)}). Write class {cls.__name__}({_names(right)})."
            )


def _names(classes: Iterable[type]) -> str:
    return ", ".join(cls.__name__ for cls in classes)


def warn_of_misspelt_hooks(cls: type, mixin: type) -> None:
    """Warn of methods that nearly have the name of a hook that the class does not define."""
    for hook in (hook for hook in _HOOKS if getattr(cls, hook) is getattr(mixin, hook)):
        for name in get_close_matches(hook, vars(cls), cutoff=0.9):
            warnings.warn(
                f"`{name}` of {cls.__name__} is never called by {mixin.__name__}. Did you mean "
                f"`{hook}`?",
                stacklevel=3,
            )


def wrap_methods(cls: type, arounds: Mapping[str, Callable[..., Any]]) -> None:
    """:func:`wrap_method` for each name; a training_step only where a user wrote one."""
    for name, around in arounds.items():
        wrap_method(cls, name, around, only_overridden=name == "training_step")


def wrap_assigned(module: Any, arounds: Mapping[str, Callable[..., Any]]) -> None:
    """Wrap methods assigned since the class was made: to it, or, by LightningCLI, to the module."""
    wrap_methods(type(module), arounds)
    for name, around in arounds.items():
        wrap_attribute(module, name, around)


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
    if method is None or _is_wrapped(method):
        return
    if only_overridden and is_lightning_core(method):
        return

    # training_step as it is: torch.compile sees each frame around it.
    is_own = only_overridden or name in vars(cls)
    inner = method if is_own else _next_in_line(cls, name)

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _enter(self, name, around, inner, args, kwargs)

    # Lightning reads the signature through one `__wrapped__` only.
    wrapper.__wrapped__ = inspect.unwrap(method)
    setattr(wrapper, _WRAPPED, wrapper)
    setattr(cls, name, wrapper)


def _next_in_line(cls: type, name: str) -> Callable[..., Any]:
    """What comes after ``cls`` in the instance's own order, where another base may stand."""

    def inherited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(cls, self), name)(*args, **kwargs)

    return inherited


def wrap_attribute(instance: Any, name: str, around: Callable[..., Any]) -> None:
    """Put ``around`` around a method that hides the class's as an attribute of the instance.

    Args:
        instance: The instance; one without such an attribute is left alone.
        name: The method's name.
        around: As for :func:`wrap_method`.
    """
    method = vars(instance).get(name)
    if method is None or _is_wrapped(method):
        return
    # A partial, for a copy of the instance to run on itself: a closure would stay with this one.
    inner = functools.partial(_drop_first, method)
    wrapper = functools.partial(_enter_attribute, instance, name, around, inner)
    vars(wrapper)["__wrapped__"] = inspect.unwrap(method)
    setattr(wrapper, _WRAPPED, _enter_attribute)
    setattr(instance, name, wrapper)


def _is_wrapped(method: Any) -> bool:
    own = getattr(method, "func", getattr(method, "__func__", method))
    return getattr(method, _WRAPPED, None) is own


def _enter_attribute(
    instance: Any, name: str, around: Callable[..., Any], method: Any, *args: Any, **kwargs: Any
) -> Any:
    return _enter(instance, name, around, method, args, kwargs)


def _drop_first(method: Callable[..., Any], _: Any, *args: Any, **kwargs: Any) -> Any:
    return method(*args, **kwargs)


def _enter(
    instance: Any,
    name: str,
    around: Callable[..., Any],
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    # Not setdefault, which the compiler of torch 2.5 does not know of a module's attributes.
    entered: set[str] | None = instance.__dict__.get(ENTERED)
    if entered is None:
        entered = set()
        setattr(instance, ENTERED, entered)
    if name in entered:
        return method(instance, *args, **kwargs)
    entered.add(name)
    if kwargs and name != "training_step":
        # What is put around a hook takes its arguments by their places.
        by_place = inspect.signature(getattr(instance, name)).bind(*args, **kwargs)
        args, kwargs = by_place.args, by_place.kwargs
    try:
        # The method as it is where it can be: torch.compile sees each frame around it.
        return around(instance, functools.partial(method, **kwargs) if kwargs else method, *args)
    finally:
        entered.discard(name)
