"""Learning-rate schedulers: rates equal automatic optimization's, with an outer step for a step."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import lr_scheduler as torch_schedulers

from tests.manual.scheduled_fits import (
    assert_rates_are_automatics,
    halving,
    plateau,
    rates_of_both,
    with_scheduler,
)
from tests.manual.twins import NAMESPACES, Parts, fit, sgd, twins
from tests.mixin.conftest import Recurrent, make_loader

FORMS = {
    "lists": lambda o: ([o], [halving(o)]),
    "list and scheduler": lambda o: ([o], halving(o)),
    "lists with a dict": lambda o: ([o], [{"scheduler": halving(o), "interval": "step"}]),
    "dict": lambda o: {"optimizer": o, "lr_scheduler": halving(o)},
    "dict of dicts": lambda o: {
        "optimizer": o,
        "lr_scheduler": {"scheduler": halving(o), "interval": "step", "name": "rate"},
    },
    "tuple of a dict": lambda o: ({"optimizer": o, "lr_scheduler": halving(o)},),
    "list of a dict": lambda o: [{"optimizer": o, "lr_scheduler": {"scheduler": halving(o)}}],
    "dict with monitor": lambda o: {
        "optimizer": o,
        "lr_scheduler": plateau(o),
        "monitor": "at_validation",
    },
    "dict of dicts with monitor": lambda o: {
        "optimizer": o,
        "lr_scheduler": {"scheduler": plateau(o), "monitor": "at_batch", "strict": True},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_configure_optimizers_schedules_as_in_automatic(form):
    assert_rates_are_automatics(lambda module: FORMS[form](sgd(module)))


@pytest.mark.parametrize("form", [lambda o: o, lambda o: [o], lambda o: (o,), lambda o: ([o], [])])
def test_without_a_scheduler_the_rate_stays(form):
    automatic, mine = rates_of_both(lambda module: form(sgd(module)))
    assert mine == automatic
    assert {rates for _, rates in mine} == {(0.1,)}


@pytest.mark.parametrize("frequency", [1, 2, 3])
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "settings", [{}, {"monitor": "at_validation"}, {"monitor": "at_batch"}], ids=str
)
def test_interval_and_frequency_mean_what_they_mean_in_automatic(interval, frequency, settings):
    configure = with_scheduler(
        plateau if settings else halving, interval=interval, frequency=frequency, **settings
    )
    # Validation before the first step: its metric is there when a step scheduler asks.
    validates = {"val_check_interval": 1} if interval == "step" else {"max_epochs": 6}
    assert_rates_are_automatics(configure, **validates)


SCHEDULERS = {
    "one cycle": lambda o: torch_schedulers.OneCycleLR(o, max_lr=0.5, total_steps=22),
    "warm-up": lambda o: torch_schedulers.LambdaLR(o, lambda step: min(1.0, (step + 1) / 9)),
    "sequential": lambda o: torch_schedulers.SequentialLR(
        o,
        [
            torch_schedulers.LinearLR(o, total_iters=5),
            torch_schedulers.CosineAnnealingLR(o, T_max=15),
        ],
        milestones=[5],
    ),
    "chained": lambda o: torch_schedulers.ChainedScheduler(
        [torch_schedulers.ConstantLR(o, total_iters=4), torch_schedulers.ExponentialLR(o, 0.9)]
    ),
    "warm restarts": lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, T_0=4),
    "cyclic": lambda o: torch_schedulers.CyclicLR(o, base_lr=0.01, max_lr=0.2, step_size_up=3),
}


# SequentialLR's own in torch 2.5.
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_torchs_schedulers_run_as_in_automatic(scheduler):
    assert_rates_are_automatics(with_scheduler(SCHEDULERS[scheduler], interval="step"))


def test_one_cycle_moves_momentum_too():
    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        cycle = torch_schedulers.OneCycleLR(optimizer, max_lr=0.5, total_steps=22)
        return [optimizer], [{"scheduler": cycle, "interval": "step"}]

    momenta = []
    for twin in twins():
        momenta.append(fit(twin(configure)).optimizers[0].param_groups[0]["momentum"])
    assert momenta[0] == momenta[1] != 0.9


def test_one_cycle_that_is_too_short_is_an_error_as_in_automatic():
    configure = with_scheduler(
        lambda o: torch_schedulers.OneCycleLR(o, max_lr=0.5, total_steps=3), interval="step"
    )
    for twin in twins():
        with pytest.raises(ValueError, match="Tried to step 4 times"):
            fit(twin(configure))


def test_several_schedulers_run_at_once():
    def configure(module):
        optimizer = torch.optim.SGD(
            [{"params": [module.layer.weight]}, {"params": [module.layer.bias], "lr": 0.3}], lr=0.1
        )
        return [optimizer], [
            {"scheduler": halving(optimizer, every=4), "interval": "step", "frequency": 2},
            torch_schedulers.ExponentialLR(optimizer, 0.9),
            {"scheduler": plateau(optimizer), "monitor": "at_validation"},
        ]

    assert_rates_are_automatics(configure)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_both_namespaces_schedule(namespace):
    def configure(module):
        optimizer = sgd(module)
        return [optimizer], [
            {"scheduler": halving(optimizer), "interval": "step", "frequency": 3},
            {"scheduler": plateau(optimizer), "monitor": "at_validation", "strict": True},
        ]

    assert_rates_are_automatics(configure, namespace=namespace)


def test_the_trainer_shows_the_configuration_that_the_user_gave():
    shown = []
    settings = {"monitor": "at_validation", "strict": False, "name": "rate", "frequency": 2}
    for twin in twins():
        (config,) = fit(twin(with_scheduler(plateau, **settings))).lr_scheduler_configs
        del config.scheduler
        shown.append(vars(config))
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (lambda o: {"optimizer": o, "lr_scheduler": plateau(o)}, "must include a monitor"),
        (lambda o: ([o], [{"scheduler": plateau(o)}]), "must include a monitor"),
        (lambda o: ([o], [{"interval": "step"}]), 'must have the key "scheduler"'),
        (lambda o: ([o], [{"scheduler": halving(o), "interval": "batch"}]), 'must be "step" or'),
        (lambda o: ([o], [halving(torch.optim.SGD([torch.ones(1)], lr=1.0))]), "attached with an"),
    ],
)
def test_what_automatic_refuses_is_refused(form, error):
    for twin in twins():
        with pytest.raises(MisconfigurationException, match=error):
            fit(twin(lambda module: form(sgd(module))))


def test_an_unknown_key_is_reported_once():
    for twin in twins():
        with pytest.warns(RuntimeWarning, match="unsupported keys in the lr scheduler") as caught:
            fit(twin(with_scheduler(intervall="step")))
        assert sum(warning.category is RuntimeWarning for warning in caught) == 1


def test_a_scheduler_is_stepped_too_where_setup_sets_what_configures_it(make_trainer):
    class SetUp(Recurrent):
        def setup(self, stage):
            self.configure_optimizers = self.configure_later

        def configure_later(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": halving(optimizer), "interval": "step"},
            }

    trainer = make_trainer()
    trainer.fit(SetUp(), make_loader())
    assert trainer.global_step == 3
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 / 2**3)


class ByHand(Parts):
    def training_step(self, batch, batch_idx):
        self.lr_schedulers().step()
        return super().training_step(batch, batch_idx)


class ByHandAlone(ByHand):
    def lr_scheduler_step(self, scheduler, metric):
        pass


# Torch's word to whoever steps one before the optimizer.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_one_that_training_step_steps_is_told_unless_it_does_so_alone():
    with pytest.warns(UserWarning, match="`training_step` should leave the steps of schedulers to"):
        fit(twins(ByHand)[1](with_scheduler()), max_epochs=1)
    module = twins(ByHandAlone)[1](with_scheduler())
    fit(module, max_epochs=1)
    assert module.lr_schedulers().last_epoch == 7
