"""What gloo showed, under NCCL: ranks on GPUs follow one process on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from lightning_fw import InnerLoop, RestartRecord
from tests.ranks import on_ranks
from tests.several_ranks import job
from tests.several_ranks.joined import Joined, assert_same_windows, loop
from tests.several_ranks.poisoned import A_STEP, A_WINDOW, Poisoned, by_hand
from tests.several_ranks.test_ddp_variants import LOOPS, VARIANTS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each rank"),
]
# cuDNN adds in another order.
RTOL = 1e-8


def trained(
    module: Joined, accelerator: str, ranks: int, ddp: dict[str, Any]
) -> tuple[torch.Tensor, list[RestartRecord]]:
    strategy = DDPStrategy(**ddp)
    job.trainer(1, ranks, accelerator=accelerator, strategy=strategy).fit(module)
    return module.weights().cpu(), module.records


def on_two_gpus(module: Joined, ddp: dict[str, Any] | None = None) -> Any:
    """Weights, which both ranks agree on, and the records of each."""
    told = on_ranks(trained, module, "gpu", 2, ddp or {}, ranks=2, limit=110, start="spawn")
    (first, records), (second, others) = told
    assert torch.equal(first, second)
    assert first.isfinite().all()
    return first, records, others


def alone(module: Joined) -> tuple[torch.Tensor, list[RestartRecord]]:
    job.trainer(1, 1, strategy="auto").fit(module)
    return module.weights(), module.records


@pytest.mark.parametrize("inner_loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_they_follow_one_process_on_the_joined_batches(variant, inner_loop):
    kind, ddp = VARIANTS[variant]
    weights, records, _ = on_two_gpus(kind(inner_loop), ddp)
    expected, windows = alone(kind(inner_loop))
    torch.testing.assert_close(weights, expected, rtol=RTOL, atol=1e-12)
    assert_same_windows(records, windows, rtol=RTOL)


@pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")
@pytest.mark.parametrize("batches", [A_STEP, A_WINDOW], ids=["a step", "a window"])
def test_with_a_message_a_step_all_skip_a_gradient_of_nan(batches):
    weights, records, others = on_two_gpus(Poisoned(loop(), batches))
    assert [r.skipped for r in records] == [r.skipped for r in others] == 2 * [len(batches), 0, 0]
    expected, _ = alone(Poisoned(loop(), batches))
    torch.testing.assert_close(weights, expected, rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("batches", [[], A_STEP, A_WINDOW], ids=["none", "a step", "a window"])
def test_windows_apart_are_the_mean_of_windows_run_one_after_the_other(batches):
    inner_loop: InnerLoop = loop(radius_rule=None, sync="restart")
    weights, _, others = on_two_gpus(Poisoned(inner_loop, batches))
    assert [r.skipped for r in others] == 2 * [len(batches), 0, 0]
    expected = by_hand(Poisoned(inner_loop, batches))
    torch.testing.assert_close(weights, expected, rtol=RTOL, atol=1e-12)
