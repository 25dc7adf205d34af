"""A read-only view of the live window."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fw.driver import Driver
    from lightning_fw.window import Window


class WindowView:
    """What ``module.frank_wolfe`` shows of the window in progress.

    Args:
        driver: Whoever holds the live window, which another one succeeds when parameters join;
            None where there is none.

    Raises:
        RuntimeError: Whatever is read of it, if no fit is in progress, or no training batch has
            come yet.

    Example:
        >>> import lightning as L, torch
        >>> from lightning_fw import FrankWolfeMixin
        >>> class Line(FrankWolfeMixin, L.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         loss = self.layer(batch).square().mean()
        ...         with self.frank_wolfe.at_anchor(), torch.no_grad():
        ...             at_anchor = self.layer(batch).square().mean()
        ...         if batch_idx < 3:
        ...             print(self.frank_wolfe.k, bool(loss == at_anchor))
        ...         return loss
        >>> trainer = L.Trainer(
        ...     max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
        ...     enable_progress_bar=False, enable_model_summary=False,
        ... )
        >>> trainer.fit(Line(), torch.utils.data.DataLoader(torch.randn(60, 2), batch_size=10))
        0 True
        1 False
        2 False
    """

    def __init__(self, driver: Driver | None) -> None:
        self._driver = driver

    @property
    def _window(self) -> Window:
        # Not before it is read: torch.jit reads all properties of a module.
        if self._driver is None:
            raise RuntimeError(
                "`frank_wolfe` is the live window of a fit, and there is none before the first "
                "training batch or after the fit. Read it in training_step or in a hook after it, "
                "in validation_step unless self.trainer.sanity_checking."
            )
        return self._driver.window

    @property
    def restart(self) -> int:
        """Windows closed before this one."""
        return self._window.restart

    @property
    def k(self) -> int:
        """Inner steps taken in this window; skipped ones do not count."""
        return int(self._window.k)

    @property
    def radius(self) -> float:
        """δ of this window."""
        return float(self._window.radius)

    def at_anchor(self) -> AbstractContextManager[None]:
        """The weights stand at the anchor ω inside, also after a forward pass at ω + d.

        They do so anyway outside ``training_step``. Go back through a graph that was made inside by
        ``torch.autograd.grad`` before you leave: torch refuses a loss from there afterwards.
        """
        return self._window.anchor.restored()
