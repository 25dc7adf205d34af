"""Recurrent networks, and initial weights for them."""

from lightning_fw.nn.cells import make_cell
from lightning_fw.nn.classifier import SequenceClassifier
from lightning_fw.nn.equilibrium_rnn import EquilibriumRNN
from lightning_fw.nn.fast_grnn import FastGRNN
from lightning_fw.nn.fast_rnn import FastRNN
from lightning_fw.nn.frank_wolfe import (
    FrankWolfeClassifier,
    FrankWolfeLanguageModel,
    FrankWolfeRegressor,
)
from lightning_fw.nn.indrnn import IndRNN, indrnn_bound
from lightning_fw.nn.indrnn_stack import IndRNNStack
from lightning_fw.nn.initialization import chrono_, irnn_, orthogonal_
from lightning_fw.nn.language_model import LanguageModel
from lightning_fw.nn.regressor import SequenceRegressor
from lightning_fw.nn.sbo_rnn import SBORNN
from lightning_fw.nn.sequence_model import SequenceModel

__all__ = [
    "SBORNN",
    "EquilibriumRNN",
    "FastGRNN",
    "FastRNN",
    "FrankWolfeClassifier",
    "FrankWolfeLanguageModel",
    "FrankWolfeRegressor",
    "IndRNN",
    "IndRNNStack",
    "LanguageModel",
    "SequenceClassifier",
    "SequenceModel",
    "SequenceRegressor",
    "chrono_",
    "indrnn_bound",
    "irnn_",
    "make_cell",
    "orthogonal_",
]
