"""What one ball spans: a tensor, a param group, everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_fw.balls import L1Ball, L2Ball, LinfBall, LpBall, RMSBall
from lightning_fw.balls._vector import VectorBall
from lightning_fw.parameters import ParameterInfo

BALLS = (L1Ball(), L2Ball(), LinfBall(), LpBall(3.0), RMSBall())
every_ball = pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)

# Groups that alternate: a block's members need not be neighbours.
INFOS = [ParameterInfo("a", 1), ParameterInfo("b", 0), ParameterInfo("c", 1)]


def gradients() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 2), torch.randn(4), torch.randn(5)]


@every_ball
@pytest.mark.parametrize(
    ("scope", "blocks"),
    [("tensor", [[0], [1], [2]]), ("group", [[0, 2], [1]]), ("global", [[0, 1, 2]])],
)
def test_a_block_has_the_atom_of_its_entries_in_one_vector(
    ball: VectorBall, scope: str, blocks: list[list[int]]
) -> None:
    tensors = gradients()
    atoms = replace(ball, scope=scope).lmo(tensors, INFOS)
    for block in blocks:
        joined = torch.cat([tensors[index].flatten() for index in block])
        found = torch.cat([atoms[index].flatten() for index in block])
        torch.testing.assert_close(found, replace(ball, scope="tensor").lmo([joined])[0])


@every_ball
def test_group_scope_without_infos_is_one_group(ball: VectorBall) -> None:
    tensors = gradients()
    grouped = replace(ball, scope="group").lmo(tensors)
    together = replace(ball, scope="global").lmo(tensors)
    torch.testing.assert_close(grouped, together, rtol=0, atol=0)


def test_a_global_l1_atom_moves_one_entry_of_one_tensor() -> None:
    tensors = [torch.tensor([1.0, -5.0]), torch.tensor([[4.0], [2.0]])]
    atoms = L1Ball(radius=0.5, scope="global").lmo(tensors)
    assert torch.equal(atoms[0], torch.tensor([0.0, 0.5]))
    assert not atoms[1].any()


def test_an_l1_tie_goes_to_the_first_entry() -> None:
    tensors = [torch.tensor([2.0, -2.0]), torch.tensor([2.0])]
    assert torch.equal(L1Ball(radius=1.0).lmo(tensors)[0], torch.tensor([-1.0, 0.0]))
    atoms = L1Ball(radius=1.0, scope="global").lmo(tensors)
    assert torch.equal(torch.cat(atoms), torch.tensor([-1.0, 0.0, 0.0]))


def test_a_zero_tensor_in_a_global_ball_stays() -> None:
    tensors = [torch.zeros(3), torch.tensor([3.0, 4.0])]
    for ball in BALLS:
        atoms = replace(ball, radius=1.0, scope="global").lmo(tensors)
        assert not atoms[0].any()
        assert atoms[1].any()
