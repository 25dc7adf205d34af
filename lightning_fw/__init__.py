"""Training recurrent networks by Frank-Wolfe in PyTorch Lightning."""

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
