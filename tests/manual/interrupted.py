"""What is needed to interrupt a fit and to tell whether it went on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lightning_fw import FWRestartMonitor, InnerLoop, RestartRecord
from tests.mixin.conftest import Recurrent, make_loader

Outer = Callable[[Any], Any]


class Batches:
    """Batches in order; its state is how many of the epoch's were handed out."""

    def __init__(self, samples: int = 28, batch_size: int = 4) -> None:
        self.batches = list(make_loader(samples, batch_size))
        self.position = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        self.position %= len(self.batches)
        while self.position < len(self.batches):
            self.position += 1
            yield self.batches[self.position - 1]

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Module(Recurrent):
    """With an outer optimizer of the test's choice."""

    def __init__(self, inner_loop: InnerLoop | None = None, outer: Outer | None = None) -> None:
        super().__init__(inner_loop)
        self.outer = outer

    def configure_optimizers(self) -> Any:
        if self.outer is None:
            return super().configure_optimizers()
        return self.outer(self.parameters())


class Plain(L.LightningModule):
    """The same network by automatic optimization."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = torch.nn.RNN(2, 4, batch_first=True)
        self.head = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return torch.nn.functional.mse_loss(self.head(self.rnn(x)[0][:, -1]), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def weights(self) -> torch.Tensor:
        return torch.nn.utils.parameters_to_vector(self.parameters()).detach().clone()


class SaveAfter(L.Callback):
    """Saves a checkpoint after some batches, numbered over all epochs."""

    def __init__(self, folder: Path, batches: range | list[int]) -> None:
        self.folder = folder
        self.batches = batches
        self.weights: dict[int, torch.Tensor] = {}

    def path(self, batch: int) -> Path:
        return self.folder / f"{batch}.ckpt"

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        batch = trainer.fit_loop.epoch_loop.total_batch_idx
        if batch in self.batches:
            trainer.save_checkpoint(self.path(batch))
            self.weights[batch] = module.weights()


def monitor() -> FWRestartMonitor:
    return FWRestartMonitor(table=False)


def told(records: list[RestartRecord]) -> list[dict[str, str]]:
    """Records to the last digit, NaN equal to NaN, without the time they took."""
    return [
        {name: repr(value) for name, value in asdict(record).items() if "seconds" not in name}
        for record in records
    ]


def counts(summary: dict[str, float]) -> dict[str, str]:
    """A summary without the time that it took."""
    timed = ("seconds", "cost_ratio")
    return {
        name: repr(value) for name, value in summary.items() if not any(t in name for t in timed)
    }


def weights_in(checkpoint: dict[str, Any], key: str = "state_dict") -> torch.Tensor:
    """A checkpoint's weights as one vector."""
    return torch.nn.utils.parameters_to_vector(checkpoint[key].values())
