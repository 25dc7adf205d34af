"""Back-propagation by the optimizers that a sceptical reader asks for."""

from __future__ import annotations

from dataclasses import replace

from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from lightning_fw.balls import SpectralBall
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.nn import SequenceModel
from lightning_fw.race.method import Method
from lightning_fw.race.muon_per_gate import MuonPerGate
from lightning_fw.race.normalized_sgd import NormalizedSGD
from lightning_fw.race.search_space import Range, Setting

_ADAM_LR = Range(3e-4, 3e-2)
_CLIP = Range(0.03, 3.0)
_MOMENTUM = Range(0.5, 0.95, linear=True)


def adam(network: SequenceModel, setting: Setting) -> Optimizer:
    """Adam at the learning rate ``lr``."""
    return Adam(network.parameters(), lr=setting["lr"])


def _adamw(network: SequenceModel, setting: Setting) -> Optimizer:
    decay = setting["weight_decay"]
    return AdamW(network.parameters(), lr=setting["lr"], weight_decay=decay)


def _nesterov(network: SequenceModel, setting: Setting) -> Optimizer:
    momentum = setting["momentum"]
    return SGD(network.parameters(), lr=setting["lr"], momentum=momentum, nesterov=True)


def _rmsprop(network: SequenceModel, setting: Setting) -> Optimizer:
    return RMSprop(network.parameters(), lr=setting["lr"])


def _normalized(network: SequenceModel, setting: Setting) -> Optimizer:
    momentum = setting["momentum"]
    return NormalizedSGD(network.parameters(), lr=setting["lr"], momentum=momentum)


def _lookahead(network: SequenceModel, setting: Setting) -> Optimizer:
    from pytorch_optimizer import Lookahead

    lookahead: Optimizer = Lookahead(adam(network, setting), k=5, alpha=setting["alpha"])
    return lookahead


def _schedule_free(network: SequenceModel, setting: Setting) -> Optimizer:
    from schedulefree import AdamWScheduleFree

    optimizer: Optimizer = AdamWScheduleFree(network.parameters(), lr=setting["lr"])
    return optimizer


def _muon(network: SequenceModel, setting: Setting) -> Optimizer:
    recurrent = {id(p) for p in network.rnn.parameters()}
    others = [p for p in network.parameters() if id(p) not in recurrent]
    return MuonPerGate(network.rnn, others, lr=setting["lr"], adam_lr=setting["adam_lr"])


def _scion(setting: Setting) -> InnerLoop:
    """A window of one step is Scion's: momentum, then the oracle, then the step."""
    ball = SpectralBall(radius=setting["radius"], scale_by_shape=True)
    return InnerLoop(ball=ball, steps=1, momentum=setting["momentum"], direction="displacement")


def _plain_sgd(network: SequenceModel, setting: Setting) -> Optimizer:
    return SGD(network.parameters(), lr=1.0)


_ADAM_CLIP = Method(
    name="adam-clip",
    title="Adam + clipping",
    family="back-propagation",
    optimizer=adam,
    space={"lr": _ADAM_LR, "clip": _CLIP},
    usual={"lr": 0.01, "clip": 1.0},
)

_MUON = Method(
    name="muon",
    title="Muon per gate, AdamW",
    family="one LMO a step",
    optimizer=_muon,
    space={"lr": Range(1e-3, 1e-1), "adam_lr": _ADAM_LR},
    usual={"lr": 0.01, "adam_lr": 0.01},
)

_SCION = Method(
    name="scion",
    title="Scion's way, per gate",
    family="one LMO a step",
    inner_loop=_scion,
    optimizer=_plain_sgd,
    space={"radius": Range(1e-3, 1e-1), "momentum": _MOMENTUM},
    usual={"radius": 0.01, "momentum": 0.9},
)

BASELINES = (
    Method(
        name="adam",
        title="Adam",
        family="back-propagation",
        optimizer=adam,
        space={"lr": _ADAM_LR},
        usual={"lr": 0.01},
    ),
    Method(
        name="adamw",
        title="AdamW",
        family="back-propagation",
        optimizer=_adamw,
        space={"lr": _ADAM_LR, "weight_decay": Range(1e-3, 1.0)},
        usual={"lr": 0.01, "weight_decay": 0.01},
    ),
    _ADAM_CLIP,
    Method(
        name="sgd",
        title="SGD, Nesterov + clipping",
        family="back-propagation",
        optimizer=_nesterov,
        space={"lr": Range(0.01, 3.0), "momentum": _MOMENTUM, "clip": _CLIP},
        usual={"lr": 0.1, "momentum": 0.9, "clip": 1.0},
    ),
    Method(
        name="rmsprop",
        title="RMSprop",
        family="back-propagation",
        optimizer=_rmsprop,
        space={"lr": Range(1e-4, 1e-2)},
        usual={"lr": 1e-3},
    ),
    Method(
        name="normalized-sgd",
        title="normalized SGD",
        family="back-propagation",
        optimizer=_normalized,
        space={"lr": Range(0.01, 1.0), "momentum": _MOMENTUM},
        usual={"lr": 0.1, "momentum": 0.9},
    ),
    Method(
        name="lookahead",
        title="Lookahead, Adam + clipping",
        family="back-propagation",
        optimizer=_lookahead,
        space={"lr": _ADAM_LR, "alpha": Range(0.3, 0.9, linear=True), "clip": _CLIP},
        usual={"lr": 0.01, "alpha": 0.5, "clip": 1.0},
        package="pytorch_optimizer",
    ),
    Method(
        name="schedule-free",
        title="Schedule-Free AdamW + clipping",
        family="back-propagation",
        optimizer=_schedule_free,
        space={"lr": Range(1e-3, 1e-1), "clip": _CLIP},
        usual={"lr": 0.01, "clip": 1.0},
        package="schedulefree",
    ),
    replace(
        _ADAM_CLIP,
        name="adam-accumulated",
        title="Adam + clipping, 3 batches a step",
        accumulate_grad_batches=3,
    ),
    replace(
        _ADAM_CLIP,
        name="adam-clip-tbptt",
        title="Adam + clipping, truncated",
        in_chunks=True,
    ),
    _MUON,
    _SCION,
    *(
        replace(
            method, name=f"{method.name}-averaged", title=f"{method.title}, averaged", averaged=True
        )
        for method in (_ADAM_CLIP, _MUON, _SCION)
    ),
    *(
        replace(
            method,
            name=f"{method.name}-cosine",
            title=f"{method.title}, cosine decay",
            decays=True,
        )
        for method in (_ADAM_CLIP, _MUON)
    ),
)
