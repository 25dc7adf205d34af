"""Numbers of tensors in parts, and what becomes of them, on three ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_fw.balls import L1Ball, LpBall
from lightning_fw.tensors.foreach import Entrywise, add_scaled_, inners, lerp, tensor_norms
from lightning_fw.tensors.shards import placed_as, saved
from tests.ranks import on_ranks

RANKS = 3

# Of distribute_tensor in torch 2.5, whether or not anything is random.
pytestmark = pytest.mark.filterwarnings("ignore:DTensor random operators may not have complete")


def mesh() -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (RANKS,))


def in_parts(whole: Tensor) -> Tensor:
    from torch.distributed.tensor import Shard, distribute_tensor

    return distribute_tensor(whole, mesh(), [Shard(0)])


def numbers() -> dict[str, Any]:
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    tensors = [torch.randn(5, 2), torch.randn(1), torch.randn(7).double(), torch.tensor([1e-25])]
    parts = [in_parts(tensor) for tensor in tensors]
    equal = in_parts(torch.ones(6))
    return {
        "norms": [
            [(float(x), float(y)) for x, y in zip(tensor_norms(parts, p), tensor_norms(tensors, p))]
            for p in (1, 2, float("inf"))
        ],
        "dtypes": [[norm.dtype for norm in tensor_norms(parts, p)] for p in (1, 2, float("inf"))],
        "dots": list(zip(inners(parts, parts), inners(tensors, tensors), strict=True)),
        "tie": L1Ball().atoms([equal]).tensors[0].full_tensor(),
        "tie of two": [
            a.full_tensor() for a in L1Ball(scope="global").atoms([equal, equal]).tensors
        ],
    }


def test_norms_and_products_are_those_of_the_whole():
    for told in on_ranks(numbers, ranks=RANKS):
        for pairs in (*told["norms"], told["dots"]):
            for in_parts, whole in pairs:
                assert abs(in_parts - whole) <= 1e-6 * abs(whole)
        assert told["norms"][1][3][0] > 0
        assert told["dtypes"] == [[torch.float32, torch.float32, torch.float64, torch.float32]] * 3


def part_of_the_way() -> tuple[Tensor, Tensor]:
    torch.distributed.init_process_group("gloo")
    start, end = in_parts(torch.arange(6.0)), in_parts(torch.full((6,), 8.0))
    (found,) = lerp([start], [end], 0.25)
    return found.full_tensor(), start.full_tensor()


def test_a_share_of_the_way_in_parts_leaves_the_start_where_it_is():
    for found, start in on_ranks(part_of_the_way, ranks=RANKS):
        torch.testing.assert_close(found, 0.75 * torch.arange(6.0) + 2)
        assert torch.equal(start, torch.arange(6.0))


def long_sum() -> Tensor:
    torch.distributed.init_process_group("gloo")
    sums, long = in_parts(torch.ones(2**17)), in_parts(torch.arange(2.0**17))
    add_scaled_([sums], Entrywise(torch.square, [long]), [0.5])
    return sums.full_tensor()


def test_a_function_of_long_tensors_in_parts_is_added_up():
    expected = 1 + torch.arange(2.0**17).square() / 2
    for total in on_ranks(long_sum, ranks=RANKS):
        torch.testing.assert_close(total, expected)


def test_among_equal_entries_one_moves_on_one_rank():
    for told in on_ranks(numbers, ranks=RANKS):
        assert told["tie"].tolist() == [-1, 0, 0, 0, 0, 0]
        assert [atom.tolist() for atom in told["tie of two"]] == [[-1, *[0] * 5], [0] * 6]


def tie_of_ranks_in_two_dimensions() -> Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo")
    square = init_device_mesh("cpu", (2, 2))
    gradient = distribute_tensor(torch.tensor([0.0, 1, 1, 0]), square, [Shard(0), Shard(0)])
    return L1Ball().atoms([gradient]).tensors[0].full_tensor()


def test_so_it_is_where_two_dimensions_of_the_mesh_cut_a_tensor():
    for atom in on_ranks(tie_of_ranks_in_two_dimensions, ranks=4):
        assert atom.tolist() == [0, -1, 0, 0]


def gradient_of_other_placements() -> Tensor:
    from torch.distributed.tensor import DTensor, Partial

    torch.distributed.init_process_group("gloo")
    parameter = in_parts(torch.zeros(4))
    mine = torch.arange(4.0) * (1 + torch.distributed.get_rank())
    gradient = DTensor.from_local(mine, parameter.device_mesh, [Partial()])
    (placed,) = placed_as([gradient], [parameter])
    assert placed.placements == parameter.placements
    return placed.full_tensor()


def test_a_gradient_that_is_not_added_up_yet_is_put_where_its_parameter_is():
    """As tensor parallelism leaves that of a layer norm whose inputs are split along time."""
    for whole in on_ranks(gradient_of_other_placements, ranks=RANKS):
        assert whole.tolist() == [0, 6, 12, 18]


def copy_for_a_checkpoint() -> Tensor:
    torch.distributed.init_process_group("gloo")
    return saved(in_parts(torch.arange(4.0)))


def test_rank_zero_alone_keeps_whole_copies():
    first, *others = on_ranks(copy_for_a_checkpoint, ranks=RANKS)
    assert first.tolist() == [0, 1, 2, 3]
    assert all(other.numel() == 0 for other in others)


def messages_of_an_oracle() -> int:
    torch.distributed.init_process_group("gloo")
    parts = [in_parts(torch.randn(4)) for _ in range(10)]
    reduce, calls = torch.distributed.all_reduce, []

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(arguments)
        return reduce(*arguments, **settings)

    torch.distributed.all_reduce = counted
    LpBall(3.0).atoms(parts)
    return len(calls)


def test_an_oracle_sends_as_many_messages_for_ten_tensors_as_for_one():
    assert on_ranks(messages_of_an_oracle, ranks=RANKS) == [2] * RANKS
