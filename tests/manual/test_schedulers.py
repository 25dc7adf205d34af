"""Learning-rate schedulers: rates equal automatic optimization's, with an outer step for a step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.optim import lr_scheduler as torch_schedulers

from lightning_fw import InnerLoop
from lightning_fw.restarts import Progress, RestartRule
from tests.manual.twins import (
    NAMESPACES,
    Configure,
    Parts,
    batches,
    fit,
    rates_recorder,
    sgd,
    trainer,
    twins,
)

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")

resumes = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
# With ``strict=False``, before the first validation.
asks_too_early = pytest.mark.filterwarnings("ignore:.*ReduceLROnPlateau.*at_:RuntimeWarning")


def halving(optimizer: Any, every: int = 1) -> Any:
    return torch_schedulers.StepLR(optimizer, step_size=every, gamma=0.5)


def plateau(optimizer: Any) -> Any:
    return torch_schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)


def with_scheduler(make: Any = halving, /, **settings: Any) -> Configure:
    """A ``configure_optimizers`` with one scheduler in a dict."""

    def configure(module: Any) -> Any:
        optimizer = sgd(module)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": make(optimizer), **settings},
        }

    return configure


def rates_of_both(
    configure: Configure | None,
    parts: type = Parts,
    namespace: Any = lightning.pytorch,
    callbacks: Any = list,
    **settings: Any,
) -> list[list[Any]]:
    """What the two twins' learning rates were, K = 1, over three epochs of seven batches."""
    found = []
    for twin in twins(parts, namespace):
        recorder = rates_recorder(namespace)
        fit(twin(configure), callbacks=[*callbacks(), recorder], namespace=namespace, **settings)
        found.append(recorder.rates)
    return found


def assert_rates_are_automatics(configure: Configure | None, **settings: Any) -> None:
    automatic, mine = rates_of_both(configure, **settings)
    assert mine == automatic
    assert len({rates for _, rates in automatic}) > 1  # else nothing was scheduled


def rates_after_batches(
    configure: Configure, inner_loop: InnerLoop, loader: Any = None, **settings: Any
) -> list[float]:
    """The learning rate after each batch, with the mixin."""
    recorder = rates_recorder()
    module = twins()[1](configure, inner_loop)
    fit(module, loader, [recorder], **settings)
    return recorder.after_batches()


def halved(*times: int) -> list[float]:
    return [0.1 / 2**n for n in times]


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


@asks_too_early
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_validation_in_mid_epoch_informs_a_plateau_scheduler(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="at_validation", strict=False)
    assert_rates_are_automatics(configure, val_check_interval=3)


class Gentle:
    """A scheduler that is not one of torch's."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.calls = optimizer, []

    def update(self, value: Any) -> None:
        self.calls.append(None if value is None else float(value))
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9 if value is None else 1 - 0.1 * float(value)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


class StepsGentle(Parts):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.update(metric)


@pytest.mark.parametrize(
    "settings",
    [
        {"interval": "step", "frequency": 2},
        {"interval": "epoch"},
        {"interval": "step", "reduce_on_plateau": True, "monitor": "at_batch"},
        {"interval": "epoch", "reduce_on_plateau": True, "monitor": "at_validation"},
        {"interval": "step", "reduce_on_plateau": False, "monitor": "at_batch"},
    ],
    ids=str,
)
def test_a_scheduler_of_ones_own_is_stepped_through_the_hook(settings):
    configure = with_scheduler(Gentle, **settings)
    assert_rates_are_automatics(configure, parts=StepsGentle)


class StepsByEpoch(Parts):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.last_epoch = self.current_epoch + 4
        super().lr_scheduler_step(scheduler, metric)


def test_lr_scheduler_step_may_be_overridden():
    assert_rates_are_automatics(
        with_scheduler(
            lambda o: torch_schedulers.LambdaLR(o, lambda epoch: 1 / (epoch + 1)), interval="step"
        ),
        parts=StepsByEpoch,
    )


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_both_namespaces_schedule(namespace):
    def configure(module):
        optimizer = sgd(module)
        return [optimizer], [
            {"scheduler": halving(optimizer), "interval": "step", "frequency": 3},
            {"scheduler": plateau(optimizer), "monitor": "at_validation", "strict": True},
        ]

    assert_rates_are_automatics(configure, namespace=namespace)


class Appends(lightning.pytorch.Callback):
    """Brings a scheduler of its own."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        scheduler = torch_schedulers.ExponentialLR(trainer.optimizers[0], 0.9)
        config = LRSchedulerConfig(scheduler, interval="step", frequency=2)
        trainer.lr_scheduler_configs.append(config)


class Changes(Appends):
    """Later changes its own and the user's, and replaces the user's."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        configs = trainer.lr_scheduler_configs
        if trainer.current_epoch == 1:
            configs[0].frequency, configs[1].interval = 4, "epoch"
        if trainer.current_epoch == 2:
            scheduler = halving(trainer.optimizers[0])
            configs[0] = LRSchedulerConfig(scheduler, interval="step", frequency=3)


@pytest.mark.parametrize(
    ("configure", "callback"),
    [
        (None, Appends),
        (with_scheduler(interval="step"), Appends),
        (with_scheduler(interval="step"), Changes),
        (with_scheduler(plateau, interval="step", monitor="at_batch"), Changes),
    ],
)
def test_schedulers_that_a_callback_brings_or_changes_are_stepped(configure, callback):
    assert_rates_are_automatics(configure, callbacks=lambda: [callback()])


def test_the_trainer_shows_the_configuration_that_the_user_gave():
    shown = []
    settings = {"monitor": "at_validation", "strict": False, "name": "rate", "frequency": 2}
    for twin in twins():
        (config,) = fit(twin(with_scheduler(plateau, **settings))).lr_scheduler_configs
        del config.scheduler
        shown.append(vars(config))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_missing_metric_is_an_error_when_strict(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="nowhere")
    for twin, message in zip(twins(), ("metric nowhere", "got 'nowhere'"), strict=True):
        with pytest.raises(MisconfigurationException, match=message):
            fit(twin(configure))


def test_the_error_names_what_was_logged():
    with pytest.raises(
        MisconfigurationException,
        match="`monitor` of ReduceLROnPlateau must be a logged metric, got 'nowhere'; "
        "logged so far: 'at_batch', 'at_validation'. Log it before the scheduler's turn, "
        "or set strict to False.",
    ):
        fit(twins()[1](with_scheduler(plateau, monitor="nowhere")))


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_missing_metric_is_a_warning_when_not_strict(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="nowhere", strict=False)
    with pytest.warns(RuntimeWarning, match="got 'nowhere'.*The learning rate stays"):
        rates = rates_after_batches(configure, InnerLoop(steps=1))
    assert rates == [0.1] * 21


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


# With K > 1 a step is an outer step. Seven batches of K = 3 are windows of 3, 3 and 1.


def test_a_step_scheduler_steps_once_a_restart():
    rates = rates_after_batches(with_scheduler(interval="step"), InnerLoop(steps=3), max_epochs=2)
    assert rates == halved(0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6)


def test_frequency_counts_the_outer_steps_of_an_epoch():
    configure = with_scheduler(interval="step", frequency=2)
    rates = rates_after_batches(configure, InnerLoop(steps=3), max_epochs=2)
    assert rates == halved(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2)


def test_an_epoch_scheduler_steps_once_an_epoch():
    configure = with_scheduler(interval="epoch", frequency=2)
    rates = rates_after_batches(configure, InnerLoop(steps=3), batches(3), max_epochs=4)
    assert rates == halved(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2)


@pytest.mark.parametrize("kind", ["same", "split"])
def test_a_batch_that_is_a_window_is_a_step(kind):
    configure = with_scheduler(interval="step")
    loop = InnerLoop(steps=3, batches=kind)
    assert rates_after_batches(configure, loop, max_epochs=1) == halved(1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class AtOnce(RestartRule):
    def __call__(self, progress: Progress) -> bool:
        return True


@pytest.mark.parametrize(("frequency", "expected"), [(1, (4, 8, 12)), (3, (1, 2, 4))])
def test_several_restarts_in_a_batch_are_several_steps(frequency, expected):
    loop = InnerLoop(steps=4, batches="split", restart_when=AtOnce())
    configure = with_scheduler(interval="step", frequency=frequency)
    assert rates_after_batches(configure, loop, batches(3), max_epochs=1) == halved(*expected)


def test_held_batches_are_no_steps():
    loop = InnerLoop(steps=2, accumulate_grad_batches=2)
    rates = rates_after_batches(with_scheduler(interval="step"), loop, max_epochs=1)
    assert rates == halved(0, 0, 0, 1, 1, 1, 2)


def test_a_window_without_a_step_is_no_step():
    loop, loader = InnerLoop(steps=3), batches(9, nan_in=(3, 4, 5))
    for frequency, expected in ((1, (0, 0, 1, 1, 1, 1, 1, 1, 2)), (2, (0,) * 8 + (1,))):
        configure = with_scheduler(interval="step", frequency=frequency)
        rates = rates_after_batches(configure, loop, loader, max_epochs=1)
        assert rates == halved(*expected)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (1, 2, 3, 3, 4, 5, 6)), (3, (0, 0, 1, 1, 1, 1, 2))]
)
def test_a_batch_that_training_step_skips_is_no_step(steps, expected):
    class Skips(Parts):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 3 else super().training_step(batch, batch_idx)

    recorder = rates_recorder()
    module = twins(Skips)[1](with_scheduler(interval="step"), InnerLoop(steps=steps))
    fit(module, callbacks=[recorder], max_epochs=1)
    assert recorder.after_batches() == halved(*expected)


def test_a_plateau_scheduler_sees_the_metric_at_each_restart():
    seen = []

    class Notes(Parts):
        def lr_scheduler_step(self, scheduler, metric):
            seen.append(float(metric))

    configure = with_scheduler(plateau, interval="step", monitor="at_batch")
    module = twins(Notes)[1](configure, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert seen == [0.0, 0.0, 1.0]  # of the batches 2, 5 and 6; it is 1 at 0, 3 and 6


class EndsEarly(Parts):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 3 or self.current_epoch == 0 else None


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_an_epoch_that_a_hook_ends_is_an_epoch_to_schedulers():
    assert_rates_are_automatics(with_scheduler(interval="epoch"), parts=EndsEarly)


def test_a_batch_that_a_hook_skips_is_no_step():
    module = twins(EndsEarly)[1](with_scheduler(interval="step"), InnerLoop(steps=2))
    assert fit(module).global_step == 3 == module.lr_schedulers().last_epoch


# Checkpoints.


class SavesAt(lightning.pytorch.Callback):
    """Saves once, at the end of a batch or of the validation after it."""

    def __init__(
        self, path: Any, batch: int, hook: str = "on_train_batch_end", epoch: int = 1
    ) -> None:
        self.path, self.moment = path, (epoch, batch)
        setattr(self, hook, self._save)

    def _save(self, trainer: Any, *arguments: Any) -> None:
        if (trainer.current_epoch, trainer.fit_loop.batch_idx) == self.moment:
            trainer.save_checkpoint(self.path)


def rates_with_and_without_interruption(
    twin: type, configure: Configure, loop: InnerLoop, path: Any, *saved: Any, **settings: Any
) -> tuple[list[Any], list[Any]]:
    whole, resumed = rates_recorder(), rates_recorder()
    fit(twin(configure, loop), None, [whole, SavesAt(path, *saved)], **settings)
    trainer([resumed], **settings).fit(
        twin(configure, loop), batches(7), batches(2), ckpt_path=path, weights_only=True
    )
    return whole.after_batches(), resumed.after_batches()


@resumes
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("batch", [0, 2, 4, 5])
def test_a_fit_that_resumes_in_mid_epoch_goes_on_scheduling(batch, steps, tmp_path):
    def configure(module):
        optimizer = sgd(module)
        return [optimizer], [
            {"scheduler": halving(optimizer), "interval": "step", "frequency": 2},
            torch_schedulers.ExponentialLR(optimizer, 0.9),
        ]

    whole, resumed = rates_with_and_without_interruption(
        twins()[1], configure, InnerLoop(steps=steps), tmp_path / "c.ckpt", batch
    )
    assert len(resumed) == 21 - 7 - (batch + 1)
    assert resumed == whole[-len(resumed) :]


@resumes
@asks_too_early
@pytest.mark.parametrize(
    ("batch", "hook"),
    [
        (2, "on_train_batch_end"),
        (3, "on_train_batch_end"),
        (2, "on_validation_end"),
    ],
)
@pytest.mark.parametrize("monitor", ["at_batch", "at_validation"])
def test_a_fit_that_resumes_before_a_validation_is_as_automatics(batch, hook, monitor, tmp_path):
    configure = with_scheduler(plateau, interval="step", monitor=monitor, strict=False)
    saved = tmp_path / "c.ckpt", batch, hook
    automatic, mine = (
        rates_with_and_without_interruption(
            twin, configure, InnerLoop(steps=1), *saved, val_check_interval=3
        )
        for twin in twins()
    )
    assert mine == automatic
    assert len(set(mine[1])) > 1


@resumes
@asks_too_early
def test_a_fit_that_resumes_in_mid_validation_is_as_automatics(tmp_path):
    path = tmp_path / "c.ckpt"

    class Saves(Parts):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            if self.trainer.fit_loop.total_batch_idx == 9 and not path.exists():
                self.trainer.save_checkpoint(path)

    configure = with_scheduler(plateau, interval="step", monitor="at_validation", strict=False)
    found = []
    for twin in twins(Saves):
        found.append(
            rates_with_and_without_interruption(
                twin, configure, InnerLoop(steps=1), path, -1, val_check_interval=3
            )
        )
        path.unlink()
    automatic, mine = found
    assert mine == automatic
    assert mine[1] == mine[0][-len(mine[1]) :]


@resumes
def test_a_plateau_scheduler_of_epochs_resumes_as_automatics(tmp_path):
    configure = with_scheduler(plateau, monitor="at_batch")
    automatic, mine = (
        rates_with_and_without_interruption(
            twin, configure, InnerLoop(steps=1), tmp_path / "c.ckpt", 3, max_epochs=4
        )
        for twin in twins()
    )
    assert mine == automatic
    assert len(set(mine[1])) > 1


def test_a_loaded_module_that_is_fitted_anew_counts_from_the_start(tmp_path):
    configure = with_scheduler(interval="step", frequency=2)
    path, loop = tmp_path / "c.ckpt", InnerLoop(steps=1)
    fit(twins()[1](configure, loop), callbacks=[SavesAt(path, 0, epoch=0)])
    module = twins()[1].load_from_checkpoint(path, configure=configure, inner_loop=loop)
    recorder = rates_recorder()
    fit(module, batches(5), [recorder], max_epochs=2)
    assert recorder.after_batches() == halved(0, 1, 1, 2, 2, 2, 3, 3, 4, 4)


def test_scheduler_states_and_progress_are_saved_as_in_automatic(tmp_path):
    configure = with_scheduler(plateau, interval="step", monitor="at_batch", frequency=2)
    saved = []
    for twin in twins():
        fit(twin(configure), callbacks=[SavesAt(tmp_path / "c.ckpt", 4)])
        checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.scheduler_progress"]
        saved.append((checkpoint["lr_schedulers"], progress))
    assert saved[0] == saved[1]
    assert saved[0][1]["total"]["completed"] == 5


@resumes
def test_scheduler_states_come_back(tmp_path):
    configure = with_scheduler(interval="step")
    path = tmp_path / "c.ckpt"
    fit(twins()[1](configure, InnerLoop(steps=3)), callbacks=[SavesAt(path, 4)])

    class Reads(Parts):
        def on_train_start(self):
            self.found = self.lr_schedulers().last_epoch

    module = twins(Reads)[1](configure, InnerLoop(steps=3))
    trainer().fit(module, batches(7), batches(2), ckpt_path=path, weights_only=True)
    assert module.found == 4  # three restarts in the first epoch, one in the second


# The Trainer afterwards.


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_trainer_goes_on_with_another_module_as_lightnings_own(order):
    configures = (
        with_scheduler(interval="step", frequency=3),
        with_scheduler(plateau, monitor="at_validation", interval="epoch"),
    )

    def rates(first: int, second: int) -> list[Any]:
        recorder = rates_recorder()
        reused = trainer([recorder])
        for which, configure in zip((first, second), configures, strict=True):
            reused.fit(twins()[which](configure), batches(7), batches(2))
            reused.fit_loop.max_epochs += 3
        return recorder.rates

    mine = rates(*order)
    assert mine == rates(0, 0)
    assert len(re.findall("on_train_batch_end", str(mine))) == 42


def test_a_module_with_manual_optimization_is_left_alone_afterwards():
    class Manual(Parts):
        def training_step(self, batch, batch_idx):
            pass

    plain = twins(Manual)[0](_lists)
    plain.automatic_optimization = False
    reused = fit(twins()[1](with_scheduler(interval="step")))
    reused.fit_loop.max_epochs += 3
    reused.fit(plain, batches(2), batches(2))
    assert plain.lr_schedulers().last_epoch == 0


def _lists(module: Any) -> Any:
    optimizer = sgd(module)
    return [optimizer], [halving(optimizer)]
