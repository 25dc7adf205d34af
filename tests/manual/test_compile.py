"""torch.compile of the whole module and of the network inside: the window stays outside."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.compile import from_compiled
from torch import nn
from torch._dynamo.utils import counters

from lightning_fw import FrankWolfeMixin
from tests.manual.compiled_nets import (
    MODES,
    Breaking,
    ByFrankWolfe,
    Cell,
    Graphs,
    Parts,
    across_a_break,
    inner_loop,
)
from tests.mixin.conftest import make_loader

pytestmark = pytest.mark.usefixtures("forget_graphs")


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


@pytest.mark.parametrize("is_set_on_the_instance", [False, True])
def test_a_fit_compiles_its_step_once_and_not_for_every_batch(
    is_set_on_the_instance, graphs, make_trainer
):
    module, compiled = ByFrankWolfe(), []
    if is_set_on_the_instance:
        module.training_step = module.step
    context = from_compiled(torch.compile(module, backend=graphs))._compiler_ctx

    def compile_noted(function, torchs=context["dynamo_ctx"]):
        compiled.append(function)
        return torchs(function)

    context["dynamo_ctx"] = compile_noted
    make_trainer().fit(module, make_loader())
    assert graphs.calls == 7
    assert len(compiled) == 1


def test_a_step_set_in_mid_fit_takes_the_place_of_the_one_in_the_graph(graphs, make_trainer):
    class Turning(ByFrankWolfe):
        def on_train_epoch_start(self):
            if self.current_epoch:
                self.training_step = self.by_absolutes

        def by_absolutes(self, batch, batch_idx):
            return nn.functional.l1_loss(self(batch[0]), batch[1])

    module, eager = Turning(), Turning()
    make_trainer(max_epochs=2).fit(torch.compile(module, backend=graphs), make_loader())
    make_trainer(max_epochs=2).fit(eager, make_loader())
    assert graphs.compiled == 2
    assert torch.equal(module.weights(), eager.weights())
