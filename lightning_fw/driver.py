"""The driver: one fit's windows, fed with Lightning's batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lightning_fw.cost import CostMeter
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.batches import batch_length, split
from lightning_fw.manual.epoch import is_last_batch
from lightning_fw.manual.evaluation import evaluate
from lightning_fw.parameters import ParameterInfo, trainable
from lightning_fw.window import Window

TrainingStep = Callable[..., Any]


class Driver:
    """Runs the inner loop over the batches of one fit.

    It holds no trainer and no optimizer, so that a module in mid-fit can be copied and pickled.

    Args:
        inner_loop: The settings.
        module: The LightningModule, attached to a Trainer.
    """

    def __init__(self, inner_loop: InnerLoop, module: Any) -> None:
        self.inner_loop = inner_loop
        self.window = self._new_window(module, *self._parameters(module))
        self._meter = CostMeter(module.device)
        self._batches = 0
        self._evaluations = 0.0

    def run_batch(
        self, module: Any, training_step: TrainingStep, arguments: tuple[Any, ...]
    ) -> Any:
        """Spend one training batch on the inner loop.

        Args:
            module: The LightningModule.
            training_step: The user's function, unbound.
            arguments: What Lightning calls it with: the batch, and what it takes besides.

        Returns:
            What the user's function returned at the batch's first evaluation.
        """
        self._batches += 1
        pieces = self._pieces(module, arguments)
        outputs = []
        closes = False
        for position, (piece, share) in enumerate(pieces):
            at_end = position == len(pieces) - 1
            last = at_end and (
                self.inner_loop.batches != "successive" or is_last_batch(module.trainer)
            )
            output, closes = self._inner_step(module, training_step, piece, share, last=last)
            outputs.append(output)
            if closes and self.inner_loop.batches == "same":
                break
        return outputs[0]

    def _pieces(
        self, module: Any, arguments: tuple[Any, ...]
    ) -> list[tuple[tuple[Any, ...], float]]:
        """The arguments of each inner step on this batch, with its share of an evaluation."""
        loop = self.inner_loop
        if loop.batches == "successive":
            return [(arguments, 1.0)]
        if loop.batches == "same":
            return [(arguments, 1.0)] * loop.steps
        batch, *rest = arguments
        chunks = module.split_batch(batch, loop.steps)
        return [((chunk, *rest), 1 / len(chunks)) for chunk in chunks]

    def _inner_step(
        self,
        module: Any,
        training_step: TrainingStep,
        arguments: tuple[Any, ...],
        share: float,
        *,
        last: bool,
    ) -> tuple[Any, bool]:
        """One gradient evaluation and one step of the window; closes the window when due."""
        if self.window.attempts == 0:
            self._follow_optimizer(module)
        with self._meter.measure("inner"):
            with self.window.displaced(), self._meter.measure("gradient"):
                output, loss = evaluate(module, training_step, arguments)
            if loss is not None:
                self._evaluations += share
                self.window.step(loss, last=last)
        early = not self.window.is_full and self._restart_is_wanted(module)
        closes = self.window.attempts > 0 and (last or early or self.window.is_full)
        if closes:
            self._restart(module, early=early and not last)
        return output, closes

    def _restart_is_wanted(self, module: Any) -> bool:
        if self.inner_loop.restart_when is None:
            return False
        wanted = self.window.wants_restart()
        return bool(module.trainer.strategy.reduce_boolean_decision(wanted, all=False))

    def _restart(self, module: Any, *, early: bool) -> None:
        """Close the window, step the outer optimizer and tell everybody."""
        strategy = module.trainer.strategy

        def mean(tensor: Tensor) -> Tensor:
            return strategy.reduce(tensor, reduce_op="mean")  # type: ignore[no-any-return]

        with self._meter.measure("inner"):
            record = self.window.close(early=early, reduce=mean)
        if record.steps:
            optimizer = module.optimizers()
            with self._meter.measure("outer"):
                optimizer.step()
            optimizer.zero_grad()
        seconds = self._meter.take()
        record = replace(
            record,
            batches=self._batches,
            gradient_evaluations=self._evaluations,
            gradient_seconds=seconds.get("gradient", 0.0),
            oracle_seconds=seconds.get("inner", 0.0) - seconds.get("gradient", 0.0),
            outer_seconds=seconds.get("outer", 0.0),
        )
        self._batches, self._evaluations = 0, 0.0
        module.on_restart(record)
        for callback in _listeners(module):
            callback.on_restart(module.trainer, module, record)

    def _follow_optimizer(self, module: Any) -> None:
        """Take up parameters that a callback added or froze since the last window."""
        parameters, infos = self._parameters(module)
        known = self.window.parameters
        if len(parameters) != len(known) or any(
            p is not q for p, q in zip(parameters, known, strict=True)
        ):
            previous, self.window = self.window, self._new_window(module, parameters, infos)
            self.window.succeed(previous)

    def _parameters(self, module: Any) -> tuple[list[nn.Parameter], list[ParameterInfo]]:
        return trainable(module.optimizers().param_groups, module)

    def _new_window(
        self, module: Any, parameters: list[nn.Parameter], infos: list[ParameterInfo]
    ) -> Window:
        is_heard = _listeners(module) or "on_restart" in vars(type(module))
        return Window(self.inner_loop, parameters, infos, statistics=bool(is_heard))

    def state_dict(self) -> dict[str, Any]:
        """The window in progress and the cost counted in it; seconds start anew."""
        return {
            "window": self.window.state_dict(),
            "batches": self._batches,
            "evaluations": self._evaluations,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.window.load_state_dict(state["window"])
        self._batches, self._evaluations = state["batches"], state["evaluations"]


def split_evenly(batch: Any, chunks: int, *, may_be_short: bool) -> list[Any]:
    """Cut a batch into chunks along its first dimension.

    Args:
        batch: Tensors in any nesting of tuples, lists, dicts and dataclasses.
        chunks: K.
        may_be_short: Whether fewer samples than K give as many chunks as samples: an epoch's last
            batch.

    Raises:
        ValueError: If the batch has fewer than K samples, or cannot be split.
    """
    length = batch_length(batch)
    if length < chunks and not may_be_short:
        raise ValueError(
            f'`steps` must be at most the batch size with batches="split", got {chunks} for a '
            f"batch of {length}. Pass fewer steps or a larger batch."
        )
    return split(batch, min(chunks, length))


def _listeners(module: Any) -> list[Any]:
    """The callbacks that want restart records."""
    return [callback for callback in module.trainer.callbacks if hasattr(callback, "on_restart")]
