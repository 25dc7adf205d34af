"""Atoms that stand in the memory of gradients are those of a copy."""

from __future__ import annotations

import pytest
import torch

from lightning_fw import InnerLoop, LinfBall, NoiseFloor, OpenLoop
from lightning_fw.window import Window

SETTINGS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"restart_when": NoiseFloor()},
    {"accumulate_grad_batches": 2},
]


def direction(ball, settings, *, statistics):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3))
    loop = InnerLoop(ball=ball, steps=4, step_size=OpenLoop(), **settings)
    window = Window(loop, [weight], statistics=statistics)
    for _ in range(2):
        while not window.is_full:
            with window.displaced():
                (weight - torch.randn(4, 3)).square().sum().backward()
            window.step()
        window.close()
    return weight.grad


class Plain(LinfBall):
    """The same without the fast path."""

    def atoms_of_spent(self, gradients, infos=None, norms=None):
        return self.atoms(gradients, infos, norms)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_signs_in_place_lead_to_the_same_direction(settings, statistics):
    fast, plain = (
        direction(ball, settings, statistics=statistics)
        for ball in (LinfBall(radius=0.1), Plain(radius=0.1))
    )
    assert torch.equal(fast, plain)


def test_gradients_that_are_read_again_stay():
    gradient = torch.tensor([2.0, -3.0])
    LinfBall().atoms([gradient])
    assert gradient.tolist() == [2.0, -3.0]
