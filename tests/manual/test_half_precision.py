"""16-mixed on a CPU, with gradients that overflow."""

from __future__ import annotations

import re

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from lightning_fw import InnerLoop, L2Ball
from tests.manual.interrupted import Module
from tests.manual.scaled_fits import OUTERS, Scaling, fit

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")


class Dense(Module):
    """Layers that autocast to float16 on a CPU; its gradients overflow there at a large scale."""

    def __init__(self, inner_loop=None, outer=None):
        super().__init__(inner_loop, outer)
        torch.manual_seed(0)
        self.rnn = None
        self.body = torch.nn.Linear(10, 4)

    def forward(self, x):
        y = self.head(torch.tanh(self.body(x.flatten(1))))
        self.dtype_seen = y.dtype
        return y.float()


class TestHalf:
    def test_gradients_that_overflow_back_the_scale_off_until_they_fit(self, make_trainer):
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**24))
        loop = InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3)
        outer = OUTERS["SGD"]
        module, trainer, watch = fit(make_trainer, loop, outer, kind=Dense, plugins=[plugin])
        assert module.dtype_seen == torch.float16
        skipped = sum(record.skipped for record in watch.records)
        assert 0 < skipped < 14
        assert plugin.scaler.get_scale() == 2.0 ** (24 - skipped)
        assert trainer.global_step == len(watch.records)

    def test_it_trains_as_float32_does(self, make_trainer):
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**10))
        loop = InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=3, momentum=0.9)
        outer = OUTERS["SGD"]
        module, _, watch = fit(make_trainer, loop, outer, kind=Dense, plugins=[plugin])
        expected, _, other = fit(make_trainer, loop, outer, kind=Dense)
        start = Dense().weights()
        way = expected.weights() - start
        assert (module.weights() - start - way).norm() <= 0.01 * way.norm()
        for mine, theirs in zip(watch.records, other.records, strict=True):
            assert mine.gap_first == pytest.approx(theirs.gap_first, rel=0.02)
            assert mine.loss_first == pytest.approx(theirs.loss_first, rel=0.02)

    def test_weights_in_half_precision_under_a_scaler_are_refused_by_torch(self, make_trainer):
        class Halved(Module):
            def __init__(self, *args):
                super().__init__(*args)
                self.half()

            def training_step(self, batch, batch_idx):
                return sum(p.sum() for p in self.parameters()).float()

        message = re.escape("Attempting to unscale FP16 gradients.")
        with pytest.raises(ValueError, match=message):
            fit(make_trainer, kind=Halved, plugins=[Scaling()])
