"""A read-only view of the live window."""

from __future__ import annotations

from contextlib import AbstractContextManager

from lightning_fw.window import Window


class WindowView:
    """What ``module.frank_wolfe`` shows of the window in progress.

    Args:
        window: The live window.
    """

    def __init__(self, window: Window) -> None:
        self._window = window

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
        """The weights stand at the anchor ω inside the context.

        They do so anyway outside ``training_step``.
        """
        return self._window.at_anchor()
