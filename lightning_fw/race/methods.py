"""Who races, with which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.nn import FrankWolfeSequenceModel, SequenceModel

MethodName = Literal["spectral", "local", "paper", "authors", "adam", "adam-clip"]

_TITLES: dict[MethodName, str] = {
    "spectral": "Frank-Wolfe, spectral",
    "local": "Frank-Wolfe, local windows",
    "paper": "Frank-Wolfe, paper",
    "authors": "Frank-Wolfe, authors",
    "adam": "Adam",
    "adam-clip": "Adam + clipping",
}

_MODELS: dict[MethodName, Callable[..., SequenceModel]] = {
    "spectral": partial(FrankWolfeSequenceModel, preset="spectral"),
    "local": partial(FrankWolfeSequenceModel, preset="spectral", sync="restart"),
    "paper": partial(FrankWolfeSequenceModel, preset="paper"),
    "authors": partial(FrankWolfeSequenceModel, preset="authors"),
    "adam": SequenceModel,
    "adam-clip": SequenceModel,
}


@dataclass(frozen=True)
class Setting:
    """What is tuned for a task and a cell.

    Attributes:
        lr: Learning rate.
        clip: Largest norm of a gradient; None: no clipping.
    """

    lr: float
    clip: float | None = None


# Task, cell, method and ranks. Chosen by `python -m lightning_fw.race.tuning`, which tells how; it
# prints these lines.
TUNED: dict[tuple[str, str, str, int], Setting] = {
    ("adding", "lstm", "adam", 1): Setting(0.01),  # 1 of 2, 1438 evaluations
    ("adding", "lstm", "adam-clip", 1): Setting(0.02, 0.1),  # 2 of 2, 575 evaluations
    ("adding", "lstm", "adam-clip", 4): Setting(0.02, 0.1),  # 2 of 2, 388 evaluations
    ("adding", "lstm", "authors", 1): Setting(0.003),  # 0 of 2, 2000 evaluations
    ("digits", "lstm", "adam", 1): Setting(0.02),  # 2 of 2, 188 evaluations
    ("digits", "lstm", "adam-clip", 1): Setting(0.02, 0.1),  # 2 of 2, 175 evaluations
    ("digits", "lstm", "authors", 1): Setting(0.02),  # 2 of 2, 338 evaluations
    ("digits", "gru", "adam", 1): Setting(0.01),  # 2 of 2, 138 evaluations
    ("digits", "gru", "adam-clip", 1): Setting(0.02, 0.1),  # 2 of 2, 138 evaluations
    ("digits", "gru", "authors", 1): Setting(0.03),  # 2 of 2, 262 evaluations
    ("digits", "rnn", "adam", 1): Setting(0.003),  # 2 of 2, 175 evaluations
    ("digits", "rnn", "adam-clip", 1): Setting(0.003, 1),  # 2 of 2, 225 evaluations
    ("digits", "rnn", "authors", 1): Setting(0.01),  # 1 of 2, 700 evaluations
    ("mnist", "lstm", "adam", 1): Setting(0.02),  # 2 of 2, 425 evaluations
    ("mnist", "lstm", "adam-clip", 1): Setting(0.01, 1),  # 2 of 2, 350 evaluations
    ("mnist", "lstm", "authors", 1): Setting(0.01),  # 0 of 2, 1000 evaluations
    ("mnist", "gru", "adam", 1): Setting(0.02),  # 2 of 2, 200 evaluations
    ("mnist", "gru", "adam-clip", 1): Setting(0.01, 1),  # 2 of 2, 212 evaluations
}

# Where nothing was tuned yet: usual values.
_USUAL: dict[MethodName, Setting] = {
    "adam": Setting(0.01),
    "adam-clip": Setting(0.01, 1),
    "authors": Setting(0.003),
}


@dataclass(frozen=True)
class Method:
    """A way to train the task's network.

    Attributes:
        name: Its name on the command line.
        make_model: The module, from what :class:`~lightning_fw.nn.SequenceModel` takes.
        setting: Its settings; None where there is nothing to set.
        is_tuned: Whether they were tuned for the task and the cell.
    """

    name: MethodName
    make_model: Callable[..., SequenceModel]
    setting: Setting | None = None
    is_tuned: bool = False

    @property
    def title(self) -> str:
        """Its name in tables and pictures."""
        return _TITLES[self.name]

    @property
    def batches_a_message(self) -> int:
        """Batches between two all-reduces of the network's size, where there are ranks."""
        return InnerLoop.spectral().steps if self.name == "local" else 1

    @property
    def label(self) -> str:
        """Title and setting."""
        if self.setting is None:
            return f"{self.title} (not tuned)"
        clip = "" if self.setting.clip is None else f", clip {self.setting.clip:g}"
        origin = "tuned" if self.is_tuned else "not tuned"
        return f"{self.title} ({origin}: lr {self.setting.lr:g}{clip})"


def takes(name: str) -> tuple[str, ...]:
    """What can be tuned of a method: names of fields of :class:`Setting`."""
    return {"adam": ("lr",), "authors": ("lr",), "adam-clip": ("lr", "clip")}.get(name, ())


def choose_method(
    name: MethodName,
    task: str,
    cell: str,
    *,
    ranks: int = 1,
    lr: float | None = None,
    clip: float | None = None,
) -> Method:
    """The method with its setting for a task and a cell.

    Args:
        name: Its name.
        task: Name of the task.
        cell: Name of the cell.
        ranks: Processes, each with batches of its own.
        lr: Learning rate instead of the tuned one, where the method takes one.
        clip: Largest norm of a gradient instead of the tuned one, where the method clips.

    Returns:
        The method; where nothing was tuned for the task, the cell and so many ranks, with what was
        tuned for one, or with usual values.
    """
    if not takes(name):
        return with_setting(name, None)
    tuned = TUNED.get((task, cell, name, ranks))
    setting = tuned or TUNED.get((task, cell, name, 1)) or _USUAL[name]
    if lr is not None:
        setting = replace(setting, lr=lr)
    if clip is not None and "clip" in takes(name):
        setting = replace(setting, clip=clip)
    return with_setting(name, setting, tuned)


def with_setting(name: MethodName, setting: Setting | None, tuned: Setting | None = None) -> Method:
    """The method with a setting.

    Args:
        name: Its name.
        setting: Its settings.
        tuned: Those that were tuned for the task, to tell where the settings come from.

    Raises:
        ValueError: If a method that has something to tune gets None, or another method a setting.
    """
    if (setting is not None) != bool(takes(name)):
        needed = f"a Setting of {' and '.join(takes(name))}" if takes(name) else "None"
        raise ValueError(f"`setting` of {name} must be {needed}, got {setting}. Pass {needed}.")
    model = _MODELS[name]
    if setting is None:
        return Method(name, model)
    return Method(name, partial(model, lr=setting.lr), setting, is_tuned=setting == tuned)
