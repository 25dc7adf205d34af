"""Autocast of the user's own, as a decorator and inside training_step."""

from __future__ import annotations

import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent


def test_autocast_as_a_decorator_is_autocast_inside(loader, make_trainer):
    dtypes = []

    class Inside(Recurrent):
        def training_step(self, batch, batch_idx):
            with torch.autocast("cpu", torch.bfloat16):
                return nn.functional.mse_loss(self.head(batch[0][:, 0].repeat(1, 2)), batch[1])

    class Outside(Recurrent):
        @torch.autocast("cpu", torch.bfloat16)
        def training_step(self, batch, batch_idx):
            output = self.head(batch[0][:, 0].repeat(1, 2))
            dtypes.append(output.dtype)
            return nn.functional.mse_loss(output, batch[1])

    loop = InnerLoop(ball=L2Ball(radius=0.2), steps=4, batches="same")
    decorated, inside = Outside(loop), Inside(loop)
    make_trainer().fit(decorated, loader)
    make_trainer().fit(inside, loader)
    assert set(dtypes) == {torch.bfloat16}
    assert torch.equal(decorated.weights(), inside.weights())


def test_each_point_is_seen_fresh_inside_the_users_autocast(loader, make_trainer):
    pairs = []

    class Both(Recurrent):
        def training_step(self, batch, batch_idx):
            x = batch[0][:, 0].repeat(1, 2)
            with torch.autocast("cpu", torch.bfloat16):
                displaced = self.head(x)
                with self.frank_wolfe.at_anchor():
                    at_anchor = self.head(x)
                assert torch.equal(self.head(x), displaced)
            with self.frank_wolfe.at_anchor(), torch.autocast("cpu", torch.bfloat16):
                pairs.append((at_anchor, self.head(x), displaced))
            return displaced.float().square().mean()

    make_trainer().fit(Both(InnerLoop(ball=L2Ball(radius=0.2), steps=3, batches="same")), loader)
    assert all(torch.equal(found, expected) for found, expected, _ in pairs)
    moved = [not torch.equal(found, displaced) for found, _, displaced in pairs]
    assert moved == [False, True, True] * 7
