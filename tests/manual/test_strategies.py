"""Strategies that the inner loop cannot work under are refused before anything is trained."""

from __future__ import annotations

import lightning as L
import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy

from lightning_fw import InnerLoop
from lightning_fw.manual.strategies import require_strategy
from tests.ranks import on_ranks
from tests.several_ranks.sharded_fits import Sharded
from tests.several_ranks.sharded_fits import make_trainer as make_sharded_trainer


class DeepSpeedStrategy(DDPStrategy):
    """Of that name; the real one needs a GPU and a package of its own to be made."""


class XLAStrategy(DDPStrategy):
    """Of that name, too."""


class SingleDeviceXLAStrategy(DDPStrategy):
    """And of that one."""


class OwnFSDPStrategy(FSDPStrategy):
    """A user's."""


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        (FSDPStrategy, "FSDPStrategy"),
        (OwnFSDPStrategy, "FSDPStrategy"),
        (DeepSpeedStrategy, "DeepSpeedStrategy"),
        (XLAStrategy, "XLAStrategy"),
        (SingleDeviceXLAStrategy, "SingleDeviceXLAStrategy"),
    ],
)
def test_the_refusal_names_those_to_use(strategy, name):
    expected = (
        f"`strategy` must be one that FrankWolfeMixin can drive, got {name}, which .*"
        r'Trainer\(strategy="ddp"\), or for .* ModelParallelStrategy\(data_parallel_size=\.\.\.'
    )
    with pytest.raises(ValueError, match=expected):
        require_strategy(strategy())


@pytest.mark.parametrize("strategy", [DDPStrategy, ModelParallelStrategy])
def test_others_pass(strategy):
    assert require_strategy(strategy()) is None


class Untouched(Sharded):
    def configure_model(self):
        raise AssertionError("came too far")


def refusal_of_a_strategy() -> str:
    trainer = L.Trainer(accelerator="cpu", strategy=DeepSpeedStrategy(), devices=1, max_epochs=1)
    with pytest.raises(ValueError, match="`strategy`") as error:
        trainer.fit(Untouched(InnerLoop()))
    return str(error.value)


def test_a_fit_asks_before_it_builds_anything():
    assert "got DeepSpeedStrategy" in on_ranks(refusal_of_a_strategy, ranks=1)[0]


def refusal_of_windows_apart() -> str:
    with pytest.raises(ValueError, match="`sync`") as error:
        make_sharded_trainer().fit(Sharded(InnerLoop(sync="restart")))
    return str(error.value)


def test_windows_apart_need_whole_weights():
    expected = '`sync` must be "step" with ModelParallelStrategy, got "restart"'
    for message in on_ranks(refusal_of_windows_apart):
        assert expected in message
