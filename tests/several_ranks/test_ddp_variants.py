"""Two ranks that average every gradient follow one process, whatever DDP is told to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from tests.ranks import on_ranks
from tests.several_ranks.joined import Branching, Joined, assert_same_windows, fit, loop

VARIANTS: dict[str, tuple[type[Joined], dict[str, Any]]] = {
    "plain": (Joined, {}),
    "bucket views": (Joined, {"gradient_as_bucket_view": True}),
    "static graph": (Joined, {"static_graph": True}),
    "unused parameters": (Branching, {"find_unused_parameters": True}),
}
LOOPS = {
    "successive": loop(),
    "accumulated": loop(accumulate_grad_batches=2),
    "same": loop("same"),
    "split": loop("split"),
}


@pytest.mark.parametrize("inner_loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_follow_one_process_on_the_joined_batches(variant, inner_loop, make_trainer):
    kind, ddp = VARIANTS[variant]

    def on_a_rank():
        return fit(make_trainer, kind(inner_loop), strategy=DDPStrategy(**ddp), devices=2)

    (first, records), (second, _) = on_ranks(on_a_rank)
    assert torch.equal(first, second)
    alone, expected = fit(make_trainer, kind(inner_loop))
    torch.testing.assert_close(first, alone, rtol=1e-9, atol=1e-12)
    assert_same_windows(records, expected)


def test_a_static_graph_is_averaged_over_in_a_second_fit_too(make_trainer):
    def fit_twice(**settings: Any) -> torch.Tensor:
        trainer = make_trainer(precision="64-true", use_distributed_sampler=False, **settings)
        module = Joined(loop())
        trainer.fit(module)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(module)
        return module.weights()

    def on_a_rank():
        return fit_twice(strategy=DDPStrategy(static_graph=True), devices=2)

    first, second = on_ranks(on_a_rank)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, fit_twice(), rtol=1e-9, atol=1e-12)
