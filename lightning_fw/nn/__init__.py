"""Recurrent networks, and initial weights for them."""

from lightning_fw.nn.initialization import irnn_, orthogonal_
from lightning_fw.nn.sequence_model import FrankWolfeSequenceModel, SequenceModel

__all__ = ["FrankWolfeSequenceModel", "SequenceModel", "irnn_", "orthogonal_"]
