"""Feasible sets of the inner loop, one per file."""

from lightning_fw.balls._base import Atoms, Ball
from lightning_fw.balls.l1 import L1Ball
from lightning_fw.balls.l2 import L2Ball
from lightning_fw.balls.linf import LinfBall
from lightning_fw.balls.lp import LpBall
from lightning_fw.balls.nuclear import NuclearBall
from lightning_fw.balls.product import ProductBall
from lightning_fw.balls.rms import RMSBall
from lightning_fw.balls.row import RowBall
from lightning_fw.balls.spectral import SpectralBall

__all__ = [
    "Atoms",
    "Ball",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "LpBall",
    "NuclearBall",
    "ProductBall",
    "RMSBall",
    "RowBall",
    "SpectralBall",
]
