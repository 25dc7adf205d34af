"""
The adding problem
==================

Add two marked numbers out of a sequence of 30 by a plain tanh RNN, which has no gates to remember
with: the same network from the same weights by Frank-Wolfe and by Adam, one batch a gradient
evaluation in both. :class:`~lightning_fw.nn.SequenceRegressor` is a LightningModule that trains
itself; :class:`~lightning_fw.nn.FrankWolfeRegressor` is the same with the mixin.
"""

# sphinx_gallery_thumbnail_path = 'results/tasks/adding-30-rnn/race.png'

import lightning as L

from lightning_fw import AnchorAveraging
from lightning_fw.data import AddingProblem
from lightning_fw.nn import FrankWolfeRegressor, SequenceRegressor


def error_after(batches: int, model: L.LightningModule, *callbacks: L.Callback) -> float:
    """The mean squared error on 1,000 new sequences."""
    data = AddingProblem(sequence_length=30, seed=0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=batches,
        limit_val_batches=0,
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return trainer.test(model, data, verbose=False)[0]["test_metric"]


sizes = {"input_size": 2, "output_size": 1, "hidden_size": 128}
L.seed_everything(0)
by_frank_wolfe = error_after(400, FrankWolfeRegressor("rnn", **sizes), AnchorAveraging())
L.seed_everything(0)
by_adam = error_after(400, SequenceRegressor("rnn", **sizes))
print(f"after 400 batches: Frank-Wolfe {by_frank_wolfe:.4f}, Adam {by_adam:.4f}")

assert by_frank_wolfe < 0.02 < by_adam, "predicting 1 has the error 1/6"
