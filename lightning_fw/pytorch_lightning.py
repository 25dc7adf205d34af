"""The callbacks for people who import ``pytorch_lightning``; the mixin serves both namespaces."""

from __future__ import annotations

from lightning_fw.averaging import PolynomialAveraging
from lightning_fw.monitor import RestartMonitor

try:
    from pytorch_lightning import Callback
    from pytorch_lightning.callbacks import WeightAveraging
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "lightning_fw.pytorch_lightning needs pytorch_lightning. Install it: "
        "pip install pytorch-lightning"
    ) from error

__all__ = ["AnchorAveraging", "FWRestartMonitor"]


class FWRestartMonitor(RestartMonitor, Callback):  # type: ignore[misc]
    """:class:`lightning_fw.FWRestartMonitor` as a callback of ``pytorch_lightning``'s Trainer.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_fw.pytorch_lightning import FWRestartMonitor
        >>> trainer = pl.Trainer(callbacks=[FWRestartMonitor()], accelerator="cpu", logger=False)
        >>> isinstance(trainer.callbacks[0], FWRestartMonitor)
        True
    """


class AnchorAveraging(PolynomialAveraging, WeightAveraging):
    """:class:`lightning_fw.AnchorAveraging` as a callback of ``pytorch_lightning``'s Trainer.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_fw.pytorch_lightning import AnchorAveraging
        >>> trainer = pl.Trainer(callbacks=[AnchorAveraging()], accelerator="cpu", logger=False)
        >>> isinstance(trainer.callbacks[0], AnchorAveraging)
        True
    """
