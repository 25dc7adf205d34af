"""Training recurrent networks by Frank-Wolfe in PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fw.averaging import AnchorAveraging
    from lightning_fw.balls import (
        L1Ball,
        L2Ball,
        LinfBall,
        LpBall,
        NuclearBall,
        ProductBall,
        RMSBall,
        RowBall,
        SpectralBall,
    )
    from lightning_fw.inner_loop import InnerLoop
    from lightning_fw.mixin import FrankWolfeMixin
    from lightning_fw.monitor import FWRestartMonitor
    from lightning_fw.radius_rules import CosineDecay, LinearDecay, PowerDecay, SlopeRatio
    from lightning_fw.record import RestartRecord
    from lightning_fw.restarts import GapFraction, NoiseFloor
    from lightning_fw.step_sizes import ConstantStep, Harmonic, OpenLoop, ShortStep

# Imported when asked for, and those that need Lightning last: it takes seconds, which a window in
# a plain torch loop and `lightning-fw --help` can do without.
_MODULES = (
    "balls",
    "inner_loop",
    "radius_rules",
    "restarts",
    "step_sizes",
    "record",
    "averaging",
    "mixin",
    "monitor",
)

__all__ = [
    "AnchorAveraging",
    "ConstantStep",
    "CosineDecay",
    "FWRestartMonitor",
    "FrankWolfeMixin",
    "GapFraction",
    "Harmonic",
    "InnerLoop",
    "L1Ball",
    "L2Ball",
    "LinearDecay",
    "LinfBall",
    "LpBall",
    "NoiseFloor",
    "NuclearBall",
    "OpenLoop",
    "PowerDecay",
    "ProductBall",
    "RMSBall",
    "RestartRecord",
    "RowBall",
    "ShortStep",
    "SlopeRatio",
    "SpectralBall",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in (import_module(f"{__name__}.{module}") for module in _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(
        f"`lightning_fw` has no attribute {name!r}. Use one of {', '.join(__all__)}."
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
