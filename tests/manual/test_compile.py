"""torch.compile of the whole module and of the network inside: the window stays outside."""

from __future__ import annotations

import lightning as L
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torch import nn
from torch._dynamo.utils import counters

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from tests.mixin.conftest import make_loader

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


@pytest.fixture(autouse=True)
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


@pytest.mark.usefixtures("no_recompilation")
@pytest.mark.parametrize(("batches", "evaluations"), MODES)
@pytest.mark.parametrize("fullgraph", [False, True])
def test_the_whole_module_trains_in_one_graph_as_eagerly(
    batches, evaluations, fullgraph, graphs, make_trainer
):
    module, eager = ByFrankWolfe(inner_loop(batches)), ByFrankWolfe(inner_loop(batches))
    compiled, trainer = torch.compile(module, backend=graphs, fullgraph=fullgraph), make_trainer()
    trainer.fit(compiled, make_loader())
    assert (graphs.compiled, graphs.breaks) == (1, 0)
    assert graphs.calls == 7 * evaluations
    assert "mse_loss" in graphs.code  # of the step, not of the network
    make_trainer().fit(eager, make_loader())
    assert torch.equal(module.weights(), eager.weights())
    assert trainer.global_step == (3 if batches == "successive" else 7)


def test_through_autograds_own_graph_weights_agree_to_rounding(make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    make_trainer().fit(torch.compile(module, backend="aot_eager"), make_loader())
    make_trainer().fit(eager, make_loader())
    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(module.weights(), eager.weights(), rtol=1e-5, atol=1e-6)


def fit_and_count(parts, make_trainer, loader, *mixin):
    torch._dynamo.reset()
    counters.clear()
    graphs = Graphs()
    module = type("Module", (*mixin, parts, L.LightningModule), {})()
    make_trainer(max_epochs=2).fit(torch.compile(module, backend=graphs), loader)
    return graphs.compiled, graphs.calls, graphs.breaks


@across_a_break
@pytest.mark.parametrize(
    ("parts", "samples", "expected"),
    [(Parts, 28, (1, 14, 0)), (Parts, 26, (2, 14, 0)), (Breaking, 28, (2, 28, 2))],
    ids=["whole", "short last batch", "breaks of the user's own"],
)
def test_there_are_as_many_graphs_and_breaks_as_without_the_mixin(
    parts, samples, expected, make_trainer
):
    loader = make_loader(samples)
    assert fit_and_count(parts, make_trainer, loader) == expected
    assert fit_and_count(parts, make_trainer, loader, FrankWolfeMixin) == expected


@pytest.mark.usefixtures("no_recompilation")
@pytest.mark.parametrize(("batches", "evaluations"), MODES)
def test_the_network_inside_trains_in_one_graph_as_eagerly(
    batches, evaluations, graphs, make_trainer
):
    net = Cell()
    module = ByFrankWolfe(inner_loop(batches), torch.compile(net, backend=graphs))
    eager = ByFrankWolfe(inner_loop(batches))
    make_trainer().fit(module, make_loader())
    make_trainer().fit(eager, make_loader())
    assert (graphs.compiled, graphs.breaks) == (1, 0)
    assert graphs.calls == 7 * evaluations
    assert torch.equal(module.weights(), eager.weights())


def test_a_compiled_training_step_trains_as_eagerly(graphs, make_trainer):
    class Decorated(ByFrankWolfe):
        training_step = torch.compile(Parts.training_step, backend=graphs, fullgraph=True)

    module, eager = Decorated(), ByFrankWolfe()
    make_trainer().fit(module, make_loader())
    make_trainer().fit(eager, make_loader())
    assert (graphs.compiled, graphs.calls) == (1, 7)
    assert torch.equal(module.weights(), eager.weights())


@pytest.mark.usefixtures("no_recompilation")
def test_a_step_that_calls_super_is_one_graph(graphs, make_trainer):
    class Doubled(ByFrankWolfe):
        def training_step(self, batch, batch_idx):
            return 2 * super().training_step(batch, batch_idx)

    class Offset(Doubled):
        def training_step(self, batch, batch_idx):
            return 1 + super().training_step(batch, batch_idx)

    module, eager = Offset(), Offset()
    make_trainer().fit(torch.compile(module, backend=graphs, fullgraph=True), make_loader())
    make_trainer().fit(eager, make_loader())
    assert (graphs.compiled, graphs.calls) == (1, 7)
    assert torch.equal(module.weights(), eager.weights())


def test_a_step_set_on_the_instance_trains_in_its_graph(graphs, make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    module.training_step = module.step
    compiled = torch.compile(module, backend=graphs)
    for one in (compiled, compiled, eager, eager):
        make_trainer().fit(one, make_loader())
    assert (graphs.calls, graphs.breaks) == (14, 0)
    assert "mse_loss" in graphs.code
    assert torch.equal(module.weights(), eager.weights())


def test_validation_sees_the_anchor_in_a_graph_too(graphs, make_trainer):
    seen = []

    class Validated(ByFrankWolfe):
        def validation_step(self, batch, batch_idx):
            return self.training_step(batch, batch_idx)

    class Noting(L.Callback):
        def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(outputs.item())

    def losses(module):
        seen.clear()
        make_trainer(callbacks=[Noting()], val_check_interval=2, limit_val_batches=2).fit(
            module, make_loader(), make_loader()
        )
        return list(seen)

    assert losses(torch.compile(Validated(), backend=graphs, fullgraph=True)) == losses(Validated())
    assert graphs.breaks == 0


@pytest.mark.usefixtures("no_recompilation")
def test_a_second_fit_uses_the_same_graph(graphs, make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    compiled = torch.compile(module, backend=graphs)
    for one in (compiled, compiled, eager, eager):
        make_trainer().fit(one, make_loader())
    assert graphs.calls == 14
    assert torch.equal(module.weights(), eager.weights())


@pytest.mark.parametrize("fits", [0, 1])
def test_it_can_be_uncompiled_and_trained_on(fits, graphs, make_trainer):
    module, eager = ByFrankWolfe(), ByFrankWolfe()
    compiled = from_compiled(torch.compile(module, backend=graphs))
    for _ in range(fits):
        make_trainer().fit(compiled, make_loader())
        make_trainer().fit(eager, make_loader())
    calls = graphs.calls
    assert to_uncompiled(compiled) is module
    make_trainer().fit(module, make_loader())
    make_trainer().fit(eager, make_loader())
    assert graphs.calls == calls == 7 * fits
    assert torch.equal(module.weights(), eager.weights())
    batch = next(iter(make_loader()))
    assert torch.equal(module.training_step(batch, 0), eager.training_step(batch, 0))


@across_a_break
def test_logs_and_restarts_are_those_of_the_eager_run(graphs, make_trainer):
    class Logs(ByFrankWolfe):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

    def logged(compile):
        trainer = make_trainer()
        trainer.fit(compile(Logs(inner_loop("same"))), make_loader())
        return trainer.callback_metrics

    compiled = logged(lambda module: torch.compile(module, backend=graphs))
    assert set(compiled) == {"loss", "loss_step", "loss_epoch"}
    torch.testing.assert_close(compiled, logged(lambda module: module))
    assert graphs.calls >= 7 * 3


def test_a_compiled_fit_resumes_from_its_checkpoint(graphs, make_trainer, tmp_path):
    straight, saved, resumed = ByFrankWolfe(), ByFrankWolfe(), ByFrankWolfe()
    make_trainer(max_epochs=2).fit(straight, make_loader())
    trainer = make_trainer()
    trainer.fit(torch.compile(saved, backend=graphs), make_loader())
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    make_trainer(max_epochs=2).fit(
        torch.compile(resumed, backend=graphs), make_loader(), ckpt_path=tmp_path / "compiled.ckpt"
    )
    assert torch.equal(resumed.weights(), straight.weights())


@pytest.mark.usefixtures("no_recompilation")
def test_the_other_namespace_trains_in_one_graph_too(graphs, tmp_path):
    def fit(compile):
        module = type("Other", (FrankWolfeMixin, Parts, pytorch_lightning.LightningModule), {})()
        trainer = pytorch_lightning.Trainer(
            accelerator="cpu",
            default_root_dir=tmp_path,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(compile(module), make_loader())
        return module.weights()

    compiled = fit(lambda module: torch.compile(module, backend=graphs))
    assert (graphs.compiled, graphs.calls, graphs.breaks) == (1, 7, 0)
    assert torch.equal(compiled, fit(lambda module: module))
