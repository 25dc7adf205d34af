"""
Truncated back-propagation
==========================

Text is read in chunks, row by row: the network carries its state, detached, from chunk to chunk,
and every chunk is one gradient evaluation of a window. :doc:`/truncated-bptt` tells how to cut
other sequences.
"""

# sphinx_gallery_thumbnail_path = 'results/digits-pixel-tbptt/race.png'

import tempfile
from pathlib import Path

import lightning as L

from lightning_fw import AnchorAveraging
from lightning_fw.data import TextData
from lightning_fw.nn import FrankWolfeLanguageModel

VERBS = ("sees", "hears", "meets", "leaves")
NOUNS = ("the cat", "a dog", "the old man", "a child")
# Sentences without meaning: what a network can learn of them is how they are spelled.
lines = [f"{NOUNS[i % 4]} {VERBS[i * i % 3]} {NOUNS[i * 7 % 5 % 4]}.\n" for i in range(6000)]

L.seed_everything(0)
with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "sentences.txt")
    path.write_text("".join(lines))
    data = TextData(path, level="character", batch_size=32, chunk_length=32)
    model = FrankWolfeLanguageModel(
        "lstm", input_size=data.input_size, output_size=data.output_size, hidden_size=64
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[AnchorAveraging()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, data)
    loss = trainer.test(model, data)[0]["test_metric"]

print(f"{loss:.2f} nats a character")
assert loss < 0.5, "the frequencies of single characters give 2.6"
