"""FWRestartMonitor: what the restarts do, and what they cost against back-propagation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from lightning_utilities.core.rank_zero import rank_zero_only
from rich import get_console
from typing_extensions import override

from lightning_fw.checks import require_count, require_flag
from lightning_fw.mixin import FrankWolfeMixin
from lightning_fw.monitoring.bptt_run import BPTTRun
from lightning_fw.monitoring.frank_wolfe_run import FrankWolfeRun
from lightning_fw.monitoring.loss_curve import LossCurve, Reached, compare
from lightning_fw.monitoring.monitor_file import read_baseline, require_bptt, write
from lightning_fw.monitoring.plot import plot_run
from lightning_fw.monitoring.step_log import StepLog
from lightning_fw.monitoring.tables import tables
from lightning_fw.monitoring.tensorboard_layout import add_layout
from lightning_fw.record import RestartRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    # What the hooks below override; in a running program each namespace adds its own Callback.
    _Hooks = Callback
else:
    _Hooks = object

# Both read well in the three decimals that progress bars show; a gap does not.
_PROGRESS_BAR = frozenset({"fw/ball_usage", "fw/cost_ratio"})


class RestartMonitor(_Hooks):
    """The monitor without the Callback of a namespace: see :class:`FWRestartMonitor`."""

    def __init__(
        self,
        log_every_n_restarts: int = 1,
        baseline: Any = None,  # named a class, jsonargparse reads a file as that class's settings
        table: bool = True,
    ) -> None:
        super().__init__()
        require_count("log_every_n_restarts", log_every_n_restarts)
        require_flag("table", table)
        self.log_every_n_restarts = log_every_n_restarts
        self.table = table
        self.baseline = baseline
        # A file is read at once: a mistake in it must not surface after hours of training.
        self._saved_baseline: LossCurve | None = None
        if isinstance(baseline, (str, os.PathLike)):
            self._saved_baseline = read_baseline(baseline)
        elif baseline is not None and not isinstance(baseline, RestartMonitor):
            raise TypeError(
                f"`baseline` must be a path or a FWRestartMonitor, got {baseline!r}. "
                "Pass what recorded the BPTT run, or the file it saved."
            )
        self._run: FrankWolfeRun | BPTTRun = FrankWolfeRun()
        self._stage: str | None = None
        self._backwards = 0
        self._log = StepLog(_PROGRESS_BAR)

    @property
    def records(self) -> list[RestartRecord]:
        """Restarts of the last fit on this rank, oldest first; empty on a plain module."""
        return self._run.records if isinstance(self._run, FrankWolfeRun) else []

    def curve(self) -> LossCurve:
        """Loss of the last fit against gradient evaluations and seconds, on this rank."""
        return self._run.curve()

    def comparison(self) -> list[Reached]:
        """What it cost to reach the baseline's losses, from high to low; empty without one."""
        baseline = self._baseline_curve()
        return [] if baseline is None else compare(self.curve(), baseline)

    def summary(self) -> dict[str, float]:
        """Statistics and cost of the last fit, by logged name.

        Means over all restarts, totals, and costs from the sums of seconds; averaged over ranks up
        to the last logged restart, and at the end of the fit up to the last. With a baseline also
        ``to_baseline/...``, the cost to reach its best loss, NaN if that was not reached. Empty
        before the first restart; ``bptt/...`` on a plain module.
        """
        summary = self._run.summary()
        reached = self.comparison()
        if summary and reached:
            summary |= {f"to_baseline/{name}": cost for name, cost in asdict(reached[-1]).items()}
        return summary

    @rank_zero_only
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the last fit's run and summary as JSON, on rank zero.

        Args:
            path: The file; its folders are made, and it is replaced in one step.

        Raises:
            RuntimeError: If nothing was recorded.
        """
        if not self.summary():
            raise RuntimeError(
                "save() needs a run, and nothing was recorded yet. Fit a module first."
            )
        write(path, self._run.state_dict(), self.summary())

    def plot(self) -> Figure:
        """Draw loss, gap, ball usage and radii against gradient evaluations, and a batch's cost.

        Returns:
            A figure that belongs to no window; on a plain module it shows the loss alone.

        Raises:
            ModuleNotFoundError: If matplotlib is missing.
            RuntimeError: If nothing was recorded.
        """
        return plot_run(self.records, self.curve(), self._baseline_curve())

    def _baseline_curve(self) -> LossCurve | None:
        if isinstance(self.baseline, RestartMonitor):
            return self.baseline.curve()
        return self._saved_baseline

    @property
    @override
    def state_key(self) -> str:
        # One key for both namespaces and all options: a fit may be resumed with others.
        return "FWRestartMonitor"

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._stage = stage
        if stage != "fit":
            return
        if isinstance(self.baseline, RestartMonitor):
            if not len(self.baseline.curve()):
                raise ValueError(
                    "`baseline` must hold finite losses, got a monitor with none. Fit it first."
                )
            require_bptt(self.baseline._run.method)
        device = trainer.strategy.root_device
        if isinstance(pl_module, FrankWolfeMixin):
            self._run = FrankWolfeRun(device, ranks=trainer.world_size)
            # This early a layout of the user's, of which TensorBoard shows the last, comes later.
            add_layout(trainer)
        else:
            self._run = BPTTRun(device)

    @override
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._log.forget()

    @override
    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._backwards = 0
        self._run.watch.start()

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # After a hook's -1 no batch ends.
        self._run.watch.stop()

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._run.watch.stop()

    @override
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        super().on_before_backward(trainer, pl_module, loss)
        self._backwards += 1

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._run.watch.stop()
        self._log.end_batch(trainer)
        if isinstance(self._run, BPTTRun) and self._backwards:
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            if loss is not None:
                # Lightning hands hooks the loss divided by the batches that one step accumulates.
                loss = loss.detach() * trainer.accumulate_grad_batches
            self._run.add(self._backwards, loss)

    def on_restart(self, trainer: Any, pl_module: Any, record: RestartRecord) -> None:
        """Called by the mixin after every window and the outer step that it made."""
        if not isinstance(self._run, FrankWolfeRun):
            return
        if self._run.add(record) >= self.log_every_n_restarts:
            with self._run.watch.held():
                self._log.log(trainer, pl_module, self._run.gather())

    @override
    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_fit_end(trainer, pl_module)
        if isinstance(self._run, FrankWolfeRun):
            self._run.gather()
        if not self.table or not trainer.is_global_zero:
            return
        losses = self.curve().smoothed().losses if isinstance(self._run, FrankWolfeRun) else []
        for table in tables(self.summary(), self._run.title, losses[-1:], self.comparison()):
            get_console().print(table)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._stage = None
        self._log.forget()

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | self._run.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        method = state_dict.get("method")
        if self._stage is None:
            # Outside of a Trainer the state alone says what it is of.
            self._run = BPTTRun() if method == BPTTRun.method else FrankWolfeRun()
        # Lightning restores callbacks for test(ckpt_path=...) as well: that must not replace the
        # fit's records. Nor do restarts belong to a fit by back-propagation that starts from them.
        if self._stage in (None, "fit") and method == self._run.method:
            self._run.load_state_dict(state_dict)


class FWRestartMonitor(RestartMonitor, Callback):
    """Records every restart of a fit, logs what restarts do, and what they cost against BPTT.

    On a module with :class:`~lightning_fw.FrankWolfeMixin` it logs, every so many restarts, what
    windows did, as means over those since it last logged, and totals and costs over the whole fit,
    all averaged over ranks; the page "Reading the monitor" explains each name. TensorBoard gets a
    page of charts. A step of back-propagation on the same batch costs one gradient evaluation and
    one step of the optimizer; both are timed in the Frank-Wolfe run itself, so ``fw/cost_ratio``
    needs no second run. With ``batches="split"`` it flatters: K chunks take longer than the whole
    batch that back-propagation would evaluate.

    On a plain module it records a baseline, the loss of every training batch against gradient
    evaluations and seconds. With that as ``baseline``, a later run reports the evaluations and
    seconds that each run needed to reach the losses of the baseline. Seconds there are those from
    the start to the end of training batches, but for what the monitor logs, by the same clock in
    both runs; how losses are averaged says :func:`~lightning_fw.monitoring.loss_curve.compare`.
    Under DDP losses are rank zero's.

    It holds one fit: the next one starts anew, unless it resumes from a checkpoint. With a strategy
    that spawns processes records stay in these; launch with ``strategy="ddp"`` to read them.

    Args:
        log_every_n_restarts: How often to log. Under DDP each time costs one small collective.
        baseline: A BPTT run to compare with: the monitor that recorded it, or the file that this
            monitor saved.
        table: Whether to show a table at the end of the fit.

    Raises:
        ValueError: If ``log_every_n_restarts`` is below 1, or ``baseline`` is damaged or not a BPTT
            run; the latter for a monitor when the fit starts.
        FileNotFoundError: If the baseline's file does not exist.
        TypeError: If ``baseline`` is neither a path nor a monitor, ``log_every_n_restarts`` not an
            int, or ``table`` not a bool.

    Example:
        >>> import lightning as L, torch
        >>> from lightning_fw import FrankWolfeMixin, FWRestartMonitor
        >>> class Line(FrankWolfeMixin, L.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         return self.layer(batch).square().mean()
        >>> monitor = FWRestartMonitor(table=False)
        >>> trainer = L.Trainer(
        ...     max_epochs=1, callbacks=[monitor], logger=False, enable_checkpointing=False,
        ...     accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        ... )
        >>> trainer.fit(Line(), torch.utils.data.DataLoader(torch.randn(60, 2), batch_size=5))
        >>> [record.steps for record in monitor.records]
        [5, 5, 2]
        >>> monitor.summary()["fw/gradient_evaluations"]
        12.0
    """
