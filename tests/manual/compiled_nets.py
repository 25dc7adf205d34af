"""A network that a graph can hold, modules around it, and a backend that counts its graphs."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball

# Dynamo's own, of a tensor that goes from one graph into the next (torch 2.13).
across_a_break = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"
)
MODES = [("successive", 1), ("same", 3), ("split", 2)]


def inner_loop(batches="successive"):
    steps = {"successive": 3, "same": 3, "split": 2}[batches]
    return InnerLoop(ball=L2Ball(radius=0.05), steps=steps, batches=batches)


class Cell(nn.Module):
    """A recurrent network in operations that a graph can hold; nn.RNN breaks it by itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.step = nn.Linear(2, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        hidden = torch.zeros(len(x), 4)
        for t in range(x.shape[1]):
            hidden = torch.tanh(self.enter(x[:, t]) + self.step(hidden))
        return self.head(hidden)


class Parts:
    """What a user writes."""

    def __init__(self, inner_loop=None, net=None):
        super().__init__()
        self.net = Cell() if net is None else net
        self.inner_loop = inner_loop

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def weights(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


class Plain(Parts, L.LightningModule):
    pass


class ByFrankWolfe(FrankWolfeMixin, Plain):
    def configure_frank_wolfe(self):
        return self.inner_loop or inner_loop()


class Breaking(Parts):
    """A step with breaks of the user's own."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        torch._dynamo.graph_break()
        loss = nn.functional.mse_loss(self(x), y)
        torch._dynamo.graph_break()
        return 2 * loss


class Graphs:
    """A backend that runs its graphs as they are, and counts them, their calls and the breaks."""

    def __init__(self):
        self.compiled = self.calls = 0
        self.code = ""

    def __call__(self, graph, inputs):
        self.compiled += 1
        self.code += graph.code

        def run(*arguments):
            self.calls += 1
            return graph(*arguments)

        return run

    @property
    def breaks(self):
        return sum(counters["graph_break"].values())


@pytest.fixture
def forget_graphs():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def graphs():
    return Graphs()


@pytest.fixture
def no_recompilation():
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
