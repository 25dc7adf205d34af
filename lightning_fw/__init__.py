"""Training recurrent networks by Frank-Wolfe in PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
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

# Imported when asked for, those that need Lightning last: it takes seconds, which a window in a
# plain torch loop and `lightning-fw --help` can do without.
_PLAIN = ("balls", "inner_loop", "radius_rules", "record", "restarts", "step_sizes")
# All at once: LightningCLI knows callbacks by their names once they are imported.
_FOR_LIGHTNING = ("averaging", "mixin", "monitor")

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


# Out of sight of type checkers, to which it would make every name valid.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in __all__:
            return _public(name)
        # Some ask for "function.<locals>", which find_spec would take for a path.
        is_module_name = name.isidentifier() and not name.startswith("_")
        if is_module_name and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(
            f"`lightning_fw` has no attribute {name!r}. Use one of {', '.join(__all__)}."
        )


def _public(name: str) -> object:
    for homes in (_PLAIN, _FOR_LIGHTNING):
        modules = [import_module(f"{__name__}.{home}") for home in homes]
        for module in modules:
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AssertionError(f"`__all__` has {name!r}, which no module has. Name its module above.")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
