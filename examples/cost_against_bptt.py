"""
Cost against BPTT
=================

The monitor on a plain module records a baseline; given to the monitor of a Frank-Wolfe run, it
tells how many gradient evaluations and seconds that run took to reach the baseline's losses. The
baseline here is Adam at its default learning rate; the results page has tuned ones.
"""

import lightning as L
import torch

from lightning_fw import FWRestartMonitor
from lightning_fw.data import AddingProblem
from lightning_fw.nn import FrankWolfeRegressor, SequenceRegressor


def fit(model: L.LightningModule, monitor: FWRestartMonitor) -> None:
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=200,
        callbacks=[monitor],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, AddingProblem(sequence_length=30))


sizes = {"input_size": 2, "output_size": 1, "hidden_size": 64}
bptt = FWRestartMonitor(table=False)
fit(SequenceRegressor("lstm", optimizer=torch.optim.Adam, **sizes), bptt)
frank_wolfe = FWRestartMonitor(baseline=bptt)
fit(FrankWolfeRegressor("lstm", **sizes), frank_wolfe)

# %%
# A training batch costs one gradient evaluation in both. What the inner loop adds in seconds is
# measured in the run itself.
cost = frank_wolfe.summary()
print(f"a batch costs {cost['fw/cost_ratio']:.2f} of one of back-propagation")
for reached in frank_wolfe.comparison()[-3:]:
    ours, theirs = reached.evaluations, reached.baseline_evaluations
    print(f"loss {reached.loss:.2f}: {ours:.0f} evaluations, back-propagation {theirs:.0f}")

# %%
# Both runs, and what a batch costs in each.
figure = frank_wolfe.plot()

assert cost["to_baseline/evaluations"] < cost["to_baseline/baseline_evaluations"]
