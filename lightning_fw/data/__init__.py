"""LightningDataModules of the benchmark tasks."""

from lightning_fw.data.adding import AddingProblem
from lightning_fw.data.chunks import InChunks
from lightning_fw.data.copy_memory import CopyMemory
from lightning_fw.data.corpora import PennTreebank, WikiText2
from lightning_fw.data.digits import SequentialDigits
from lightning_fw.data.dsa import DSA19
from lightning_fw.data.har import HAR2
from lightning_fw.data.mnist import SequentialMNIST
from lightning_fw.data.sequences import SequenceData
from lightning_fw.data.text import TextData

__all__ = [
    "DSA19",
    "HAR2",
    "AddingProblem",
    "CopyMemory",
    "InChunks",
    "PennTreebank",
    "SequenceData",
    "SequentialDigits",
    "SequentialMNIST",
    "TextData",
    "WikiText2",
]
