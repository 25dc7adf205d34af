"""Recurrent networks, and initial weights for them."""

from lightning_fw.nn.equilibrium_rnn import EquilibriumRNN
from lightning_fw.nn.fast_grnn import FastGRNN
from lightning_fw.nn.fast_rnn import FastRNN
from lightning_fw.nn.indrnn import IndRNN, indrnn_bound
from lightning_fw.nn.indrnn_stack import IndRNNStack
from lightning_fw.nn.initialization import irnn_, orthogonal_
from lightning_fw.nn.sbo_rnn import SBORNN
from lightning_fw.nn.sequence_model import FrankWolfeSequenceModel, SequenceModel

__all__ = [
    "SBORNN",
    "EquilibriumRNN",
    "FastGRNN",
    "FastRNN",
    "FrankWolfeSequenceModel",
    "IndRNN",
    "IndRNNStack",
    "SequenceModel",
    "indrnn_bound",
    "irnn_",
    "orthogonal_",
]
