"""A few short sequences in chunks, and a fit on them that is watched."""

from __future__ import annotations

import lightning as L
import torch

from lightning_fw.data import SequenceData

STEPS, CHUNK = 7, 3
A_BATCH = 3  # Chunks of 3, 3 and 1.


class Few(SequenceData):
    """Eleven sequences, their numbers or their classes; the last batch is smaller."""

    input_size, output_size = 2, 3

    def __init__(self, kind="classification", *, batch_size=4, steps=STEPS):
        super().__init__(batch_size=batch_size, seed=0)
        self.kind = kind
        self.steps = steps

    def make_split(self, split):
        generator = torch.Generator().manual_seed(5)
        x = torch.randn(11, self.steps, 2, generator=generator)
        if self.kind == "regression":
            return x, torch.randn(11, 3, generator=generator)
        shape = (11, self.steps) if self.kind == "classification_per_step" else (11,)
        return x, torch.randint(3, shape, generator=generator)


class Watch(L.Callback):
    """Notes the batches, weights, gradients and states of a fit."""

    def __init__(self):
        self.batches, self.weights, self.gradients = [], [], []
        # A reading each: the state that it started from, all states, and the state at its end.
        self.starts, self.states, self.ends = [], [], []

    def setup(self, trainer, pl_module, stage):
        self.hook = pl_module.rnn.register_forward_hook(self._note)

    def teardown(self, trainer, pl_module, stage):
        self.hook.remove()

    def _note(self, rnn, inputs, outputs):
        self.starts.append(copied(inputs[1] if len(inputs) > 1 else None))
        self.states.append(outputs[0].detach())
        self.ends.append(copied(outputs[1]))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch)
        self.weights.append(weights_of(pl_module))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append([p.grad.clone() for p in pl_module.parameters()])


def copied(state):
    """A state apart from the fit; an LSTM's as one tensor."""
    if isinstance(state, tuple):
        state = torch.stack(state)
    return None if state is None else state.detach().clone()


def weights_of(module):
    return [p.detach().clone() for p in module.parameters()]


def fit(model, data, *callbacks, val=None, ckpt_path=None, epochs=2, **settings):
    """The model, trained; without validation where the test does not ask for it."""
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    trainer = L.Trainer(**{"max_epochs": epochs, "callbacks": list(callbacks), **quiet, **settings})
    trainer.fit(model, data, val, ckpt_path=ckpt_path)
    return model


def assert_same_weights(mine, other):
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
