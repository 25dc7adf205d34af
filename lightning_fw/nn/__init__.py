"""Networks of the benchmark tasks."""

from lightning_fw.nn.sequence_model import FrankWolfeSequenceModel, SequenceModel

__all__ = ["FrankWolfeSequenceModel", "SequenceModel"]
