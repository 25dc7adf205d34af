"""Who races, with which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_fw.nn import FrankWolfeSequenceModel, SequenceModel


@dataclass(frozen=True)
class Method:
    """A way to train the task's network.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables and pictures.
        make_model: The module, from what :class:`~lightning_fw.nn.SequenceModel` takes.
        trainer: Settings of the Trainer.
        settings: What was tuned for the task; empty where nothing was.
    """

    name: str
    title: str
    make_model: Callable[..., SequenceModel]
    trainer: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Title and tuned settings."""
        chosen = ", ".join(f"{name} {value:g}" for name, value in self.settings.items())
        return f"{self.title} ({'tuned: ' + chosen if chosen else 'not tuned'})"


MethodName = Literal["spectral", "paper", "adam", "adam-clip"]

# Learning rate and clipping of the baselines: the best of six, lr in {3e-3, 1e-2, 2e-2} with clip
# in {0.1, 1} (Adam alone: lr in {1e-3, 3e-3, 1e-2}), by the last point's metric at 500 evaluations
# on seed 100, which no race reports. `lightning-fw race --methods adam-clip --lr LR --clip CLIP
# --first-seed 100 --seeds 1` makes one of them again.
_TUNED: dict[tuple[str, str], dict[str, tuple[float, float | None]]] = {
    ("adding", "lstm"): {"adam": (1e-2, None), "adam-clip": (2e-2, 0.1)},
    ("adding", "gru"): {"adam": (1e-2, None), "adam-clip": (2e-2, 0.1)},
    ("adding", "rnn"): {"adam": (1e-3, None), "adam-clip": (3e-3, 0.1)},
    ("digits", "lstm"): {"adam": (1e-2, None), "adam-clip": (1e-2, 1.0)},
    ("digits", "gru"): {"adam": (1e-2, None), "adam-clip": (1e-2, 1.0)},
    ("digits", "rnn"): {"adam": (3e-3, None), "adam-clip": (3e-3, 1.0)},
    ("mnist", "lstm"): {"adam": (1e-2, None), "adam-clip": (1e-2, 1.0)},
    ("mnist", "gru"): {"adam": (1e-2, None), "adam-clip": (1e-2, 1.0)},
    ("mnist", "rnn"): {"adam": (3e-3, None), "adam-clip": (3e-3, 1.0)},
}


def choose_method(
    name: MethodName, task: str, cell: str, *, lr: float | None = None, clip: float | None = None
) -> Method:
    """The method with its settings for a task and a cell.

    Args:
        name: Its name.
        task: Name of the task.
        cell: Name of the cell.
        lr: Learning rate of a baseline instead of the tuned one.
        clip: Largest gradient norm of ``"adam-clip"`` instead of the tuned one.
    """
    if name == "spectral":
        return Method(name, "Frank-Wolfe, spectral", FrankWolfeSequenceModel)
    if name == "paper":
        return Method(
            name,
            "Frank-Wolfe, paper",
            lambda **settings: FrankWolfeSequenceModel(preset="paper", **settings),
        )
    tuned_lr, tuned_clip = _TUNED[task, cell][name]
    lr = tuned_lr if lr is None else lr
    clip = tuned_clip if clip is None or tuned_clip is None else clip
    settings = {"lr": lr, **({} if clip is None else {"clip": clip})}
    return Method(
        name,
        "Adam + clipping" if clip else "Adam",
        lambda **model: SequenceModel(lr=lr, **model),
        {} if clip is None else {"gradient_clip_val": clip},
        settings,
    )
