"""The networks, trained by Frank-Wolfe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from typing_extensions import override

from lightning_fw import FrankWolfeMixin
from lightning_fw.checks import require_choice, require_count
from lightning_fw.data.chunk_loader import Chunk
from lightning_fw.inner_loop import InnerLoop, Sync
from lightning_fw.manual.outer_optimizer import outer_of
from lightning_fw.nn.cells import Cell
from lightning_fw.nn.classifier import SequenceClassifier
from lightning_fw.nn.language_model import LanguageModel
from lightning_fw.nn.regressor import SequenceRegressor
from lightning_fw.nn.whole_sequences import warn_of_parts

Preset = Literal["spectral", "paper", "authors"]


def preset_loop(
    preset: Preset,
    *,
    sync: Sync = "step",
    steps: int | None = None,
    accumulate_grad_batches: int = 1,
    lr: float | None = None,
) -> InnerLoop:
    """The inner loop of a preset.

    Args:
        preset: ``"spectral"``: :meth:`.InnerLoop.spectral`; ``"paper"``: :meth:`.InnerLoop.paper`;
            ``"authors"``: :meth:`.InnerLoop.authors` with ``lr``.
        sync: When ranks talk, as :class:`.InnerLoop` has it.
        steps: K, where it is not to be the preset's. With one step ``"spectral"`` keeps its
            radius: the rule that moves it compares two slopes.
        accumulate_grad_batches: Batches, or chunks of sequences, that make one inner step.
        lr: Learning rate and radius of ``"authors"``.

    Raises:
        TypeError: If a count is not an int, or ``lr`` not a number.
        ValueError: If ``preset`` or ``sync`` is unknown, a count < 1, or ``lr`` is missing, not
            positive, or given to another preset than ``"authors"``.

    Example:
        >>> preset_loop("spectral", steps=5).steps
        5
    """
    require_choice("preset", preset, get_args(Preset))
    require_choice("sync", sync, get_args(Sync))
    loop = replace(_loop(preset, lr), sync=sync, accumulate_grad_batches=accumulate_grad_batches)
    if steps is None:
        return loop
    require_count("steps", steps)
    return replace(loop, steps=steps, radius_rule=None if steps == 1 else loop.radius_rule)


def _loop(preset: Preset, lr: float | None) -> InnerLoop:
    if preset == "authors":
        if lr is None:
            raise ValueError(
                '`lr` must be given with preset="authors", got None. Pass the learning rate, which '
                "is the radius too."
            )
        return InnerLoop.authors(lr)
    if lr is not None:
        raise ValueError(
            f'`lr` must be None with preset="{preset}", got {lr}: it brings its own. Leave it out, '
            'or pass preset="authors".'
        )
    return InnerLoop.spectral() if preset == "spectral" else InnerLoop.paper()


class PresetMixin(FrankWolfeMixin):
    """Chooses inner loop and outer optimizer by the name of a preset; stands first in the bases.

    Args:
        cell: As :class:`.SequenceModel` has it.
        preset: ``"spectral"``, ``"paper"`` or ``"authors"``, as :func:`preset_loop` has them.
        sync: When ranks talk, as :class:`.InnerLoop` has it.
        steps: K, where it is not to be the preset's.
        accumulate_grad_batches: Batches, or chunks of sequences, that make one inner step.
        lr: Learning rate and radius of ``"authors"``, and of it alone.
        **settings: What the network takes besides, but for ``optimizer``: a preset brings its own.

    Raises:
        TypeError: If a number is of the wrong kind, or an optimizer is passed.
        ValueError: Whatever :func:`preset_loop` or the network refuses.
    """

    def __init__(
        self,
        cell: Cell = "lstm",
        *,
        preset: Preset = "spectral",
        sync: Sync = "step",
        steps: int | None = None,
        accumulate_grad_batches: int = 1,
        lr: float | None = None,
        **settings: Any,
    ) -> None:
        self._inner_loop = loop = preset_loop(
            preset,
            sync=sync,
            steps=steps,
            accumulate_grad_batches=accumulate_grad_batches,
            lr=lr,
        )
        if "optimizer" in settings:
            raise TypeError(
                f"`optimizer` must be left out, got {settings['optimizer']!r}: preset={preset!r} "
                "brings its own. Override configure_optimizers for another."
            )
        super().__init__(cell, optimizer=loop.outer, **settings)  # type: ignore[call-arg]

    @override
    def configure_frank_wolfe(self) -> InnerLoop:
        return self._inner_loop

    @override
    def configure_optimizers(self) -> Optimizer:
        return outer_of(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Warn of inner steps that end within a batch of sequences."""
        if batch_idx == 0 and isinstance(batch, Chunk):
            warn_of_parts(self.configure_frank_wolfe(), batch)
        stop: int | None = super().on_train_batch_start(batch, batch_idx)  # type: ignore[misc]
        return stop


class FrankWolfeRegressor(PresetMixin, SequenceRegressor):
    """:class:`SequenceRegressor`, trained by Frank-Wolfe; arguments as :class:`.PresetMixin`.

    Example:
        >>> model = FrankWolfeRegressor("lstm", input_size=2, output_size=1)
        >>> model.configure_frank_wolfe().steps
        2
    """


class FrankWolfeClassifier(PresetMixin, SequenceClassifier):
    """:class:`SequenceClassifier`, trained by Frank-Wolfe; arguments as :class:`.PresetMixin`.

    Example:
        >>> model = FrankWolfeClassifier(preset="paper", input_size=8, output_size=10)
        >>> model.configure_frank_wolfe() == InnerLoop.paper()
        True
    """


class FrankWolfeLanguageModel(PresetMixin, LanguageModel):
    """:class:`LanguageModel`, trained by Frank-Wolfe; arguments as :class:`.PresetMixin`.

    Example:
        >>> model = FrankWolfeLanguageModel("gru", steps=5, input_size=50, output_size=50)
        >>> model.configure_frank_wolfe().steps
        5
    """
