"""An average of the anchors, which forgets the early ones: weights to validate, save and keep."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from math import inf
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lightning_fw.checks import require_flag, require_number
from lightning_fw.manual.namespaces import sibling
from lightning_fw.tensors.foreach import working_dtype


class PolynomialAveraging:
    """What :class:`AnchorAveraging` adds to either namespace's ``WeightAveraging``."""

    _average_model: AveragedModel | None
    _device: torch.device | int | None
    _use_buffers: bool
    _kwargs: dict[str, Any]
    _last_anchor: dict[str, Any] | None = None
    _fitted: int | None = None
    _is_swapped = False

    def __init__(
        self,
        *,
        power: float = 16.0,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
    ) -> None:
        require_number("power", power)
        if not 0 <= power < inf:
            raise ValueError(
                f"`power` must be finite and >= 0, got {power}. Pass 0 for the mean of all anchors."
            )
        require_flag("use_buffers", use_buffers)
        self.power = power
        super().__init__(  # type: ignore[call-arg]
            device=device, use_buffers=use_buffers, multi_avg_fn=partial(average_, power=power)
        )

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what no average can be of or be saved by, before any weights are trained."""
        self._require_namespace(trainer)
        if stage == "fit":
            self._require_whole_weights(trainer)
            self._require_full_precision(trainer, pl_module)
            self._require_no_other(trainer)
            self._require_lasting_layers(trainer)
            self._require_whole_files(trainer)
            # A Trainer before this one may have come further.
            self._latest_update_step = trainer.global_step
            self._last_anchor = None
        super().setup(trainer, pl_module, stage)  # type: ignore[misc]
        if stage == "fit":
            self._place(trainer)

    def _require_namespace(self, trainer: Any) -> None:
        base = sibling(trainer, "callbacks").WeightAveraging
        if not isinstance(self, base):
            namespace = base.__module__.removesuffix(".callbacks.weight_averaging")
            where = {"pytorch_lightning": "lightning_fw.pytorch_lightning"}
            raise TypeError(
                "`AnchorAveraging` must be of the Trainer's namespace, got a Trainer of "
                f"{namespace}. Import it from {where.get(namespace, 'lightning_fw')}."
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Average the layers, too, that the module made after this callback's setup."""
        super().on_fit_start(trainer, pl_module)  # type: ignore[misc]
        self._take_in_late_layers(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        """Average the anchor that stands now; from it alone, if the module has other layers."""
        # Lightning's pairs weights by their order, and its files hold those of the average alone.
        self._take_in_late_layers(trainer, pl_module)
        super().on_train_batch_end(trainer, pl_module, *batch)  # type: ignore[misc]

    def _take_in_late_layers(self, trainer: Any, pl_module: Any) -> None:
        average = self._average_model
        if average is not None and _layers(average.module) != _layers(pl_module):
            self._average_model = AveragedModel(
                pl_module, self._device, use_buffers=self._use_buffers, **self._kwargs
            )
            # Copied along in mid-fit: the live window, several times as large as the weights.
            vars(self._average_model.module).pop("_frank_wolfe_driver", None)
            self._place(trainer)

    def _place(self, trainer: Any) -> None:
        """Put the average where the module will be, in its precision.

        Lightning moves and converts the module after setup.
        """
        average = self._average_model
        assert average is not None
        if self._device is None:
            average.to(trainer.strategy.root_device)
        if trainer.precision == "64-true":
            average.double()

    def _require_whole_weights(self, trainer: Any) -> None:
        if any(base.__name__ == "ModelParallelStrategy" for base in type(trainer.strategy).__mro__):
            raise ValueError(
                "`strategy` must leave weights whole with AnchorAveraging, got "
                "ModelParallelStrategy: Lightning's average is of a copy, which weights in parts "
                'do not allow. Pass strategy="ddp", or leave the callback out.'
            )

    def _require_full_precision(self, trainer: Any, pl_module: Any) -> None:
        has_halves = any(
            p.requires_grad and p.dtype != working_dtype(p.dtype) for p in pl_module.parameters()
        )
        if has_halves or trainer.precision.endswith("16-true"):
            raise ValueError(
                "`precision` must leave weights in float32 with AnchorAveraging, got "
                f"{trainer.precision} and weights in half precision: an average moves by less than "
                "they are rounded by. Pass bf16-mixed or 16-mixed."
            )

    def _require_no_other(self, trainer: Any) -> None:
        for other in trainer.callbacks:
            if other is not self and hasattr(other, "_average_model"):
                raise ValueError(
                    "`callbacks` must hold no other average beside AnchorAveraging, got "
                    f"{type(other).__name__}: each would take the other's weights for the "
                    "module's. Remove one of them."
                )

    def _require_lasting_layers(self, trainer: Any) -> None:
        for other in trainer.callbacks:
            if hasattr(other, "make_pruning_permanent"):
                raise ValueError(
                    "`callbacks` must hold no callback that prunes beside AnchorAveraging, got "
                    f"{type(other).__name__}: it replaces weights that are averaged, and pruned "
                    "layers cannot be copied. Prune after the fit, or leave one of the two out."
                )

    def _require_whole_files(self, trainer: Any) -> None:
        for callback in trainer.checkpoint_callbacks:
            if getattr(callback, "save_weights_only", False):
                raise ValueError(
                    "`save_weights_only` must be False with AnchorAveraging, got True in "
                    f"{type(callback).__name__}: Lightning asks no callback for weights alone, and "
                    "its files would hold the anchors in place of their average. Leave it out."
                )

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the average into a fit's validation; elsewhere the module's weights count."""
        if trainer.state.fn == "fit" and self._has_average:
            super().on_validation_epoch_start(trainer, pl_module)  # type: ignore[misc]
            self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the anchor back."""
        if self._is_swapped:
            super().on_validation_epoch_end(trainer, pl_module)  # type: ignore[misc]
            self._is_swapped = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put the anchor back, if the exception ends a validation."""
        self.on_validation_epoch_end(trainer, pl_module)
        super().on_exception(trainer, pl_module, exception)  # type: ignore[misc]

    @property
    def _has_average(self) -> bool:
        """Whether a window has closed: before, the copy holds what the module once was."""
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the average into the module; checkpoints that are saved later hold the anchor."""
        if self._has_average:
            self._last_anchor = deepcopy(pl_module.state_dict())
            self._fitted = id(pl_module)
            super().on_train_end(trainer, pl_module)  # type: ignore[misc]

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the average into the module of a fit with nothing left to train."""
        if self._last_anchor is None:
            self.on_train_end(trainer, pl_module)
        super().on_fit_end(trainer, pl_module)  # type: ignore[misc]

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the average as the module's weights, and the anchor to go on from."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)  # type: ignore[misc]
        extra = _extra_states(checkpoint.get("current_model_state", {}))
        if "current_model_state" in checkpoint and not self._has_average:
            checkpoint["state_dict"] = dict(checkpoint["current_model_state"])
        if self._last_anchor is not None and self._fitted == id(pl_module):
            checkpoint["current_model_state"] = self._last_anchor
        if self._is_swapped:
            average, anchor = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, anchor
        for state in (checkpoint["state_dict"], checkpoint.get("current_model_state", {})):
            state.update(extra)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Put average and anchor back where training goes on; elsewhere the file's weights count.

        After a fit Lightning's would put the anchor into a test, too (Lightning 2.6.6).
        """
        if trainer.state.fn == "fit":
            self._take_in_late_layers(trainer, pl_module)
            super().on_load_checkpoint(trainer, pl_module, checkpoint)  # type: ignore[misc]


class AnchorAveraging(PolynomialAveraging, WeightAveraging):
    """Averages the anchors of all windows, late ones more.

    That after window t = 1, 2, …, also one whose steps were all skipped, is ω_t, and has a weight
    that grows like t^η::

        x_t = (1 − c_t) x_{t−1} + c_t ω_t,  c_t = (η + 1) / (t + η)

    so that about the last t / (η + 1) anchors count, however long training goes on: there is no
    length of a run to know. Noise in single batches moves the anchors; their average it hardly
    moves, and the radius need not shrink for it.

    It is Lightning's ``WeightAveraging`` with these weights: validation, checkpoints and the module
    after training get the average, training goes on from the anchor. Also averages the steps of a
    module without the mixin. It looks once a batch: of several windows in one the last counts. It
    begins anew where a module gets other layers in mid-fit.

    The running statistics of a batch norm are averaged like weights, and are not quite those of
    the averaged weights: ``torch.optim.swa_utils.update_bn(batches, module)`` makes these, in
    validation and after training, as :doc:`choosing` shows. Batches that are far off stay
    in the average for long; with ``use_buffers=False`` the latest statistics count.

    Source: Shamir, Zhang (2013), arXiv:1212.1824, polynomial-decay averaging.

    Args:
        power: η ≥ 0; 0: the mean of all anchors.
        device: Where the average lives; None: where the module does.
        use_buffers: Whether to average buffers too; counters, masks and sparse ones are the latest.

    Raises:
        TypeError: If ``power`` is not a number, or ``use_buffers`` not a bool.
        ValueError: If ``power`` is negative or not finite; before training, if weights are in half
            precision or in parts (``ModelParallelStrategy``), another callback averages too or
            prunes, or one saves weights only.

    Example:
        >>> import lightning as L
        >>> trainer = L.Trainer(callbacks=[AnchorAveraging()], accelerator="cpu", logger=False)
        >>> isinstance(trainer.callbacks[0], AnchorAveraging)
        True
    """


def _layers(module: nn.Module) -> list[tuple[str, torch.Size | None]]:
    # A buffer may change its shape from batch to batch, as a carried state does.
    weights = [(name, weight.shape) for name, weight in module.named_parameters()]
    return [*weights, *((name, None) for name, _ in module.named_buffers())]


def _extra_states(state: dict[str, Any]) -> dict[str, Any]:
    """What a module's get_extra_state gave: the average's own is of before the fit."""
    return {name: extra for name, extra in state.items() if name.endswith("_extra_state")}


@torch.no_grad()
def average_(
    averages: list[Tensor], latest: list[Tensor], updates: Tensor, *, power: float
) -> None:
    """Move averages toward the latest anchor, in place; counters and masks become its own.

    x_t = (1 − c_t) x_{t−1} + c_t ω_t with c_t = (η + 1) / (t + η).

    Args:
        averages: x_{t−1}, all of one dtype.
        latest: ω_t.
        updates: t − 1, the anchors averaged so far.
        power: η.
    """
    if not (averages[0].is_floating_point() or averages[0].is_complex()):  # counters, masks
        torch._foreach_copy_(averages, latest)
        return
    share = (power + 1) / (float(updates) + 1 + power)
    for average, new in zip(averages, latest, strict=True):
        if new.layout != torch.strided:  # a graph's edges, which torch cannot compare
            average.copy_(new)
            continue
        # What is constant stays, also where it is infinite, as in a mask of attention.
        average.copy_(torch.where(average == new, new, torch.lerp(average, new, share)))
