"""configure_optimizers: the default, forms that are accepted, what is refused or warned of."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from lightning_fw.manual.outer_optimizer import warn_of_other_scale
from tests.mixin.conftest import Recurrent, make_loader


def test_the_default_optimizer_is_the_inner_loops(loader, make_trainer):
    class Bare(FrankWolfeMixin, L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def configure_frank_wolfe(self):
            return InnerLoop.spectral()

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

    trainer = make_trainer()
    trainer.fit(Bare(), loader)
    assert trainer.optimizers[0].param_groups[0]["momentum"] == 0.5


class Replaced(Recurrent):
    """Makes its optimizer before some of its layers are replaced."""

    replaced = ("head",)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        for name in self.replaced:
            setattr(self, name, copy.deepcopy(getattr(self, name)))
        return optimizer


def test_an_optimizer_of_layers_that_were_replaced_is_told_of(loader, make_trainer):
    with pytest.warns(UserWarning, match=r"holds 2 .* not of the module, .* \(1,\)\. If"):
        make_trainer().fit(Replaced(), loader)
    module = Replaced()
    module.replaced = ("rnn",)
    told = r"holds 4 .*, of the shapes \(4, 2\), \(4, 4\), \(4,\), …\. If its layers were"
    with pytest.warns(UserWarning, match=told):
        make_trainer().fit(module, loader)
    module = Replaced()
    module.replaced = [name for name, _ in module.named_children()]
    with pytest.raises(ValueError, match="Replaced that has none of its"):
        make_trainer().fit(module, loader)


class WithoutRate(torch.optim.Optimizer):
    """Goes along p.grad by a step of its own."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        loss = closure()
        for p in self.param_groups[0]["params"]:
            p.data -= p.grad
        return loss


def test_an_optimizer_without_a_learning_rate_trains(loader, make_trainer):
    class Rateless(Recurrent):
        def configure_optimizers(self):
            return WithoutRate(self.parameters())

    loop = InnerLoop(steps=3, direction="displacement")
    rateless, plain = Rateless(loop), Recurrent(loop, lr=1.0)
    for module in (rateless, plain):
        make_trainer().fit(module, loader)
    assert torch.equal(rateless.weights(), plain.weights())


@pytest.mark.parametrize(
    ("configured", "error", "message"),
    [
        (
            lambda p: [torch.optim.SGD(p[:1], lr=1.0), torch.optim.Adam(p[1:])],
            ValueError,
            "`configure_optimizers` must return one outer optimizer, got 2: SGD, Adam",
        ),
        (lambda p: None, ValueError, "must return one outer optimizer, got 0: None"),
        (lambda p: {"optimizer": torch.optim.LBFGS(p)}, TypeError, "got LBFGS, which evaluates"),
        (
            lambda p: torch.optim.SGD([{"params": p[:1], "maximize": True}, {"params": p[1:]}]),
            ValueError,
            "`maximize` of the outer optimizer must be False, got True.* the negative loss",
        ),
    ],
)
def test_wrong_optimizers_are_named_before_training(
    configured, error, message, loader, make_trainer
):
    class Wrong(Recurrent):
        def configure_optimizers(self):
            return configured(list(self.parameters()))

    module = Wrong()
    with pytest.raises(error, match=message):
        make_trainer().fit(module, loader)
    assert module.seen == []


@pytest.mark.parametrize(
    "form",
    [
        lambda o, s: o,
        lambda o, s: [o],
        lambda o, s: ([o], [s]),
        lambda o, s: ([o], [{"scheduler": s, "interval": "step"}]),
        lambda o, s: {"optimizer": o, "lr_scheduler": s},
        lambda o, s: ({"optimizer": o, "lr_scheduler": {"scheduler": s}},),
    ],
)
def test_every_form_of_one_optimizer_is_accepted(form, loader, make_trainer):
    class Forms(Recurrent):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
            return form(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1))

    trainer = make_trainer()
    trainer.fit(Forms(), loader)
    assert trainer.global_step == 3


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: torch.optim.Adam(p, lr=1.0), "Adam with lr 1"),
        (lambda p: torch.optim.SGD(p, lr=0.01), "SGD with lr 0.01"),
        (lambda p: torch.optim.SGD(p, lr=1000.0), "SGD with lr 1000"),
    ],
)
def test_an_optimizer_of_far_other_steps_is_warned_of(make, found, loader, make_trainer):
    class Slow(Recurrent):
        def configure_optimizers(self):
            return make(self.parameters())

    module = Slow(InnerLoop(steps=3, direction="displacement"))
    with pytest.warns(UserWarning, match=f'gave {found} for direction="displacement"'):
        make_trainer().fit(module, loader)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_tied_weights_that_the_optimizer_holds_twice_are_trained(loader, make_trainer):
    class Tied(Recurrent):
        def configure_optimizers(self):
            return torch.optim.SGD([*self.parameters(), *self.head.parameters()], lr=0.01)

    module = Tied(InnerLoop(steps=3))
    before = module.head.weight.detach().clone()
    make_trainer().fit(module, loader)
    assert not torch.equal(module.head.weight, before)


def test_an_optimizer_that_evaluates_twice_is_refused(loader, make_trainer):
    optimizers = pytest.importorskip("pytorch_optimizer")

    class Sharp(Recurrent):
        def configure_optimizers(self):
            return optimizers.SAM(self.parameters(), torch.optim.SGD, lr=0.01)

    with pytest.raises(TypeError, match="along one direction, got SAM, which evaluates the loss"):
        make_trainer().fit(Sharp(InnerLoop(steps=3)), loader)


def test_an_optimizer_of_sparse_gradients_is_refused(loader, make_trainer):
    class Sparse(Recurrent):
        def configure_optimizers(self):
            return torch.optim.SparseAdam(list(self.parameters()))

    with pytest.raises(TypeError, match="an optimizer of dense gradients.* got SparseAdam"):
        make_trainer().fit(Sparse(InnerLoop(steps=3)), loader)


def test_an_optimizer_that_lengthens_unit_directions_is_warned_of(loader, make_trainer, recwarn):
    paper = InnerLoop(ball=L2Ball(radius=0.01), steps=3)
    make_trainer().fit(Recurrent(paper, lr=0.05), loader)
    # With one step a window the radius changes nothing; a rule has radii of its own.
    make_trainer().fit(Recurrent(InnerLoop(steps=1), lr=1.0), loader)
    make_trainer().fit(Recurrent(InnerLoop(radius_rule=lambda t: 9.0), lr=1.0), loader)
    assert not [each for each in recwarn if "direction=" in str(each.message)]
    found = "gave SGD with lr 1 .* 100 times the ball's radius 0.01"
    with pytest.warns(UserWarning, match=found):
        make_trainer().fit(Recurrent(paper, lr=1.0), loader)


def test_a_schedule_that_climbs_to_a_whole_step_is_not_warned_of(loader, make_trainer, recwarn):
    class Climbing(Recurrent):
        def configure_optimizers(self):
            optimizer = self.inner_loop.outer(self.parameters())
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
            return [optimizer], [schedule]

    make_trainer().fit(Climbing(InnerLoop(steps=3, direction="displacement")), loader)
    assert not [each for each in recwarn if "a whole step" in str(each.message)]


def test_a_schedule_that_warms_up_to_a_whole_step_is_not_warned_of(loader, make_trainer, recwarn):
    class WarmingUp(Recurrent):
        def configure_optimizers(self):
            optimizer = self.inner_loop.outer(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, 0.01)]

    make_trainer().fit(WarmingUp(InnerLoop(steps=3, direction="displacement")), loader)
    assert not [each for each in recwarn if "a whole step" in str(each.message)]


@pytest.mark.parametrize(
    ("direction", "near", "far"),
    [("displacement", 0.1, 0.09), ("displacement", 10.0, 10.1), ("unit", 0.1, 0.11)],
)
def test_rates_within_a_factor_of_ten_are_not_warned_of(direction, near, far, recwarn):
    loop = InnerLoop(ball=L2Ball(radius=0.01), direction=direction)
    weight = torch.nn.Parameter(torch.zeros(2))
    warn_of_other_scale(torch.optim.SGD([weight], lr=near), loop)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=f'gave SGD with lr {far} for direction="{direction}"'):
        warn_of_other_scale(torch.optim.SGD([weight], lr=far), loop)
    # Of several groups the one that is far off counts.
    groups = [{"params": [weight]}, {"params": [torch.nn.Parameter(torch.zeros(2))], "lr": near}]
    with pytest.warns(UserWarning, match=f'gave SGD with lr {far} for direction="{direction}"'):
        warn_of_other_scale(torch.optim.SGD(groups, lr=far), loop)


@pytest.mark.parametrize("rates", [(0.0, 1.0), (0.0, 0.0)])
def test_a_group_that_is_to_stay_where_it_is_is_not_warned_of(rates, recwarn):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    warn_of_other_scale(torch.optim.SGD(groups), InnerLoop(direction="displacement"))
    assert not recwarn.list


class Wrapping(torch.optim.Optimizer):
    """Is no optimizer of its own, and saves its state in a form of its own."""

    def __init__(self, inner):
        self.inner, self.defaults = inner, inner.defaults
        self.param_groups, self.state = inner.param_groups, inner.state

    def step(self, closure=None):
        return self.inner.step(closure)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad(set_to_none)

    def state_dict(self):
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])


def test_an_optimizer_that_wraps_another_trains_and_resumes(make_trainer, tmp_path):
    class Wrapped(Recurrent):
        def configure_optimizers(self):
            return Wrapping(super().configure_optimizers())

    straight, module, resumed = Recurrent(), Wrapped(), Wrapped()
    make_trainer(max_epochs=2).fit(straight, make_loader())
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, make_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    make_trainer(max_epochs=2).fit(resumed, make_loader(), ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(resumed.weights(), straight.weights())


def test_multipliers_climb_where_a_hook_turns_their_gradients_round(loader, make_trainer):
    class Constrained(Recurrent):
        def __init__(self):
            super().__init__(InnerLoop(steps=3, direction="displacement"), lr=1.0)
            self.multiplier = torch.nn.Parameter(torch.tensor(1.0))
            self.multiplier.register_hook(torch.neg)

        def training_step(self, batch, batch_idx):
            violation = (self.head.weight - 2).square().mean()
            return super().training_step(batch, batch_idx) + self.multiplier * violation

    module = Constrained()
    make_trainer(max_epochs=1).fit(module, loader)
    # All atoms of a tensor of one entry are alike: a whole radius a window.
    climbed = len(module.records) * module.inner_loop.ball.radius
    torch.testing.assert_close(module.multiplier.data, torch.tensor(1 + climbed))
