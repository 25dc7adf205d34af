"""A product ball gives every parameter to the first pattern that matches its name."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls import L2Ball, LinfBall, ProductBall, RMSBall, SpectralBall
from lightning_fw.balls.product import require_all_patterns
from lightning_fw.parameters import ParameterInfo

NAMES = ("lstm.weight_ih_l0", "lstm.bias_ih_l0", "head.weight", "head.bias")
INFOS = [ParameterInfo(name) for name in NAMES]

WEIGHTS, BIASES, REST = L2Ball(radius=2.0), LinfBall(radius=0.5), RMSBall(radius=0.1)
BALL = ProductBall({"lstm.weight*": WEIGHTS, "*.bias*": BIASES, "*": REST}, radius=0.3)


def gradients() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(8, 3), torch.randn(8), torch.randn(2, 4), torch.randn(2)]


def test_the_first_match_decides() -> None:
    tensors = gradients()
    owners = (WEIGHTS, BIASES, REST, BIASES)
    expected = [0.3 * owner.lmo([tensor])[0] for owner, tensor in zip(owners, tensors, strict=True)]
    torch.testing.assert_close(BALL.lmo(tensors, INFOS), expected)
    swallowed = ProductBall({"*": REST, "*.bias*": BIASES})
    torch.testing.assert_close(swallowed.lmo(tensors, INFOS), REST.lmo(tensors))


def test_norm_is_the_largest_and_dual_norm_the_sum() -> None:
    tensors = gradients()
    parts = (
        (WEIGHTS, [tensors[0]]),
        (BIASES, [tensors[1], tensors[3]]),
        (REST, [tensors[2]]),
    )
    largest = max(float(ball.norm(part)) / ball.radius for ball, part in parts)
    assert float(BALL.norm(tensors, INFOS)) == pytest.approx(largest)
    duals = sum(float(ball.dual_norm(part)) * ball.radius for ball, part in parts)
    assert float(BALL.dual_norm(tensors, INFOS)) == pytest.approx(duals)
    assert BALL.block_norms(tensors, INFOS).shape == (4,)


def test_usage_is_the_mean_over_the_balls() -> None:
    tensors = gradients()
    usage = sum(
        float(ball.usage([tensor])) / ball.radius
        for ball, tensor in zip((WEIGHTS, BIASES, REST, BIASES), tensors, strict=True)
    )
    assert float(BALL.usage(tensors, INFOS)) == pytest.approx(usage / 4)


def test_a_ball_of_many_parameters_counts_once_in_the_usage() -> None:
    ball = ProductBall({"head*": L2Ball(radius=1.0), "*": L2Ball(radius=1.0, scope="global")})
    infos = [ParameterInfo(name) for name in ("a", "b", "c", "head")]
    unit = torch.tensor([1.0, 0.0])
    assert float(ball.usage([unit, 0 * unit, 0 * unit, 0 * unit], infos)) == 0.5


def test_a_global_scope_ends_at_its_part() -> None:
    tensors = gradients()
    ball = ProductBall({"lstm*": L2Ball(radius=1.0, scope="global"), "*": REST})
    atoms = ball.lmo(tensors, INFOS)
    torch.testing.assert_close(atoms[:2], L2Ball(radius=1.0, scope="global").lmo(tensors[:2]))


def test_nested_products_multiply_their_radii() -> None:
    tensors = gradients()
    inner = ProductBall({"*weight*": WEIGHTS, "*": BIASES}, radius=0.5)
    outer = ProductBall({"lstm*": inner, "*": inner}, radius=0.25)
    expected = [
        0.125 * ball.lmo([tensor])[0]
        for ball, tensor in zip((WEIGHTS, BIASES) * 2, tensors, strict=True)
    ]
    torch.testing.assert_close(outer.lmo(tensors, INFOS), expected)
    outer.check(INFOS)


def test_gates_reach_a_matrix_ball_inside() -> None:
    tensors = gradients()
    infos = [ParameterInfo(NAMES[0], gates=4), *INFOS[1:]]
    ball = ProductBall({"lstm.weight*": SpectralBall(), "*": REST})
    atom = ball.lmo(tensors, infos)[0]
    torch.testing.assert_close(atom, SpectralBall().lmo(tensors[:1], infos[:1])[0])


def test_a_part_without_gradients_is_left_out() -> None:
    tensors = gradients()[2:]
    BALL.check(INFOS)
    atoms = BALL.lmo(tensors, INFOS[2:])
    torch.testing.assert_close(atoms[1], 0.3 * BIASES.lmo(tensors[1:])[0])


def test_without_infos_a_star_takes_all() -> None:
    tensors = gradients()
    torch.testing.assert_close(ProductBall({"*": REST}).lmo(tensors), REST.lmo(tensors))


def test_an_unmatched_parameter_is_named() -> None:
    ball = ProductBall({"lstm*": WEIGHTS, "*.weight": REST})
    message = r"`balls` has no pattern for the parameter 'head.bias', got 'lstm\*', '\*.weight'"
    with pytest.raises(ValueError, match=message):
        ball.check(INFOS)
    with pytest.raises(ValueError, match=r"Add a pattern that matches it, or end with '\*'"):
        ball.lmo(gradients(), INFOS)


def test_names_are_matched_with_their_case() -> None:
    with pytest.raises(ValueError, match="no pattern for the parameter 'head.weight'"):
        ProductBall({"HEAD*": REST}).check(INFOS[2:3])


def test_a_pattern_that_gets_nothing_is_named() -> None:
    message = "`balls` has the pattern 'gru.*', which gets no parameter of lstm.weight_ih_l0, "
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        require_all_patterns(ProductBall({"gru.*": WEIGHTS, "*": REST}), NAMES)
    with pytest.raises(ValueError, match=r"move it before a wider pattern"):
        require_all_patterns(ProductBall({"*": REST, "*.bias*": BIASES}), NAMES)
    nested = ProductBall({"x*": REST, "*": REST})
    with pytest.raises(ValueError, match=r"the pattern 'x\*', which gets no parameter"):
        require_all_patterns(ProductBall({"lstm*": nested, "*": REST}), NAMES)
    require_all_patterns(BALL, NAMES)


def test_other_balls_serve_all_parameters() -> None:
    for ball in (WEIGHTS, BIASES, REST, SpectralBall()):
        ball.check(INFOS)
        shapes = [atom.shape for atom in ball.lmo(gradients(), INFOS)]
        assert shapes == [gradient.shape for gradient in gradients()]


def test_a_part_checks_its_own_parameters_alone() -> None:
    inner = ProductBall({"rnn.*": L2Ball()})
    infos = [ParameterInfo("rnn.weight"), ParameterInfo("head.weight")]
    ProductBall({"rnn.*": inner, "*": L2Ball()}).check(infos)
    with pytest.raises(ValueError, match="head.weight"):
        inner.check(infos)
