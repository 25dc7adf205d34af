"""Progress bars show the loss and what the monitor logs."""

from __future__ import annotations

import io
import re

import pytest
import rich
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from lightning_fw import FWRestartMonitor
from tests.manual.callback_nets import ByFrankWolfe, MemoryLogger


def shown(text, name):
    """Values that a progress bar showed for a name."""
    return re.findall(rf"{re.escape(name)}[=:]\s*([0-9.e-]+)", text)


@pytest.fixture
def own_console():
    """RichProgressBar reconfigures the console that all share."""
    yield
    rich.reconfigure()


@pytest.mark.usefixtures("own_console")
@pytest.mark.parametrize("bar", ["tqdm", "rich"])
def test_a_progress_bar_shows_the_loss_and_what_the_monitor_logs(
    bar, make_trainer, capsys, monkeypatch
):
    screen = io.StringIO()
    if bar == "tqdm":
        progress = TQDMProgressBar(refresh_rate=1)
    else:
        progress = RichProgressBar(
            refresh_rate=1, console_kwargs={"file": screen, "force_terminal": True, "width": 200}
        )
    logged = []

    class Watched(ByFrankWolfe):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            logged.append(outputs["loss"].item())

    make_trainer(
        callbacks=[progress, FWRestartMonitor(table=False)],
        enable_progress_bar=True,
        limit_val_batches=0,
        logger=MemoryLogger(),
    ).fit(Watched())
    text = screen.getvalue() or "".join(capsys.readouterr())
    losses = shown(text, "train_loss")
    assert float(losses[-1]) == pytest.approx(logged[-1], abs=1e-3, rel=1e-2)
    assert 0 < float(shown(text, "fw/ball_usage")[-1]) <= 1.001
    assert float(shown(text, "fw/cost_ratio")[-1]) > 0
