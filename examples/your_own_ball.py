"""
Your own ball
=============

A ball is its linear minimization oracle and two norms. This one keeps each column of a matrix, the
weights out of one unit, in an l2 ball of its own: ‖d‖ = max over columns of ‖column‖₂.
"""

from collections.abc import Sequence
from functools import partial

import lightning as L
import torch
from torch import Tensor

from lightning_fw import FrankWolfeMixin, InnerLoop
from lightning_fw.balls import Atoms, Ball
from lightning_fw.data import SequentialDigits
from lightning_fw.nn import SequenceClassifier


class ColumnBall(Ball):
    def atoms(self, gradients: Sequence[Tensor], infos=None, norms=None) -> Atoms:
        atoms = [-torch.nn.functional.normalize(columns(g), dim=0).view_as(g) for g in gradients]
        return Atoms(atoms, [1.0] * len(atoms))

    def block_norms(self, tensors: Sequence[Tensor], infos=None) -> Tensor:
        return torch.stack([columns(t).norm(dim=0).max() for t in tensors])

    def block_dual_norms(self, gradients: Sequence[Tensor], infos=None) -> Tensor:
        return torch.stack([columns(g).norm(dim=0).sum() for g in gradients])


def columns(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 2 else tensor.view(-1, 1)


# %%
# What every ball must hold: atoms lie in it, and no other point of it does better.
ball, gradient = ColumnBall(radius=0.5), [torch.randn(4, 3), torch.randn(5)]
atom = ball.lmo(gradient)
assert ball.contains(atom)
value = sum((g * s).sum() for g, s in zip(gradient, atom, strict=True))
assert torch.isclose(value, -ball.radius * ball.dual_norm(gradient))


# %%
# It goes where the others go.
class Reader(FrankWolfeMixin, SequenceClassifier):
    def configure_frank_wolfe(self) -> InnerLoop:
        return InnerLoop(
            ball=ColumnBall(radius=0.1), steps=3, momentum=0.9, direction="displacement"
        )


L.seed_everything(0)
# A displacement is a whole step: SGD takes it as it is.
outer = partial(torch.optim.SGD, lr=1.0, momentum=0.5, nesterov=True)
model = Reader("lstm", input_size=8, output_size=10, optimizer=outer)
data = SequentialDigits(batch_size=32)
trainer = L.Trainer(
    accelerator="cpu",
    max_epochs=3,
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    enable_progress_bar=False,
)
trainer.fit(model, data)
accuracy = trainer.test(model, data)[0]["test_metric"]
assert accuracy > 0.8, "guessing gives 0.1"
