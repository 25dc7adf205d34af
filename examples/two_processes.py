"""
Two processes
=============

DDP needs nothing of the module. With ``sync="restart"`` each process runs a window of its own, and
the two talk once when it closes instead of at every batch. Lightning starts the second process
itself. Where this was written it printed
``accuracy 0.910, the windows agree to 0.79``.
"""

# sphinx_gallery_thumbnail_path = 'images/local-windows.png'

import lightning as L

from lightning_fw import FWRestartMonitor
from lightning_fw.data import SequentialDigits
from lightning_fw.nn import FrankWolfeClassifier


def main() -> None:
    L.seed_everything(0)
    monitor = FWRestartMonitor(table=False)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        callbacks=[monitor],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    model = FrankWolfeClassifier("lstm", input_size=8, output_size=10, sync="restart", steps=5)
    data = SequentialDigits(batch_size=16)
    trainer.fit(model, data)
    accuracy = trainer.validate(model, data, verbose=False)[0]["val_metric"]

    agreement = monitor.records[-1].agreement
    if trainer.is_global_zero:
        print(f"accuracy {accuracy:.3f}, the windows agree to {agreement:.2f}")
    assert accuracy > 0.8
    assert 0.5 < agreement <= 1, "1 / √2 of windows that have nothing in common"


if __name__ == "__main__":
    main()
