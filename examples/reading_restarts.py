"""
Reading restarts
================

:class:`~lightning_fw.FWRestartMonitor` keeps a record of every window and draws them.
:doc:`/monitor` tells what the numbers mean and what to do about them.
"""

import lightning as L
import torch

from lightning_fw import FWRestartMonitor
from lightning_fw.data import AddingProblem
from lightning_fw.nn import FrankWolfeRegressor

L.seed_everything(0)
monitor = FWRestartMonitor()
trainer = L.Trainer(
    accelerator="cpu",
    max_epochs=1,
    limit_train_batches=300,
    callbacks=[monitor],
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    enable_progress_bar=False,
)
data = AddingProblem(sequence_length=30)
model = FrankWolfeRegressor("lstm", input_size=2, output_size=1, hidden_size=64)
trainer.fit(model, data)

# %%
# One record a window: plain numbers, to store and compare.
first, last = monitor.records[0], monitor.records[-1]
print(f"radius {first.radius:.3f} → {last.radius:.3f}")
print(f"ball usage {first.ball_usage:.2f} → {last.ball_usage:.2f}")
print(f"loss {first.loss_first:.3f} → {last.loss_first:.3f}")

# %%
# The same over the run.
figure = monitor.plot()
figure.savefig("restarts.png")

assert len(monitor.records) == trainer.global_step == 150
assert last.loss_first < first.loss_first
assert torch.tensor([record.ball_usage for record in monitor.records]).max() <= 1.01
