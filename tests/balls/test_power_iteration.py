"""Power iteration: the nuclear ball's oracle and the spectral ball's estimate."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls import NuclearBall, SpectralBall
from lightning_fw.balls._polar import leading_singular_vectors


def quality(matrices: torch.Tensor, iterations: int) -> torch.Tensor:
    """uᵀ G v / σ₁, one for an exact oracle."""
    u, v = leading_singular_vectors(matrices, iterations)
    found = (u.mT @ matrices @ v).squeeze(-1).squeeze(-1)
    return found / torch.linalg.matrix_norm(matrices, 2)


@pytest.mark.parametrize("shape", [(40, 128, 128), (40, 20, 50), (40, 50, 20), (40, 1, 9)])
def test_default_oracle_of_random_matrices(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    found = quality(torch.randn(shape), NuclearBall().iterations)
    assert found.min() > 0.98
    assert found.mean() > 0.998
    assert found.max() <= 1 + 1e-6


def test_a_gap_in_the_spectrum_makes_it_exact() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(40, 30, 20, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s[:, 1:] *= 0.5 * s[:, :1] / s[:, 1:2]
    found_u, found_v = leading_singular_vectors(u @ torch.diag_embed(s) @ vh, 40)
    torch.testing.assert_close(found_u @ found_v.mT, u[..., :1] @ vh[:, :1])


def test_the_longest_row_may_be_orthogonal_to_the_answer() -> None:
    # Row 0 is the longest and an eigenvector of its own; the other block has σ₁ = 1.6.
    matrix = torch.zeros(1, 8, 8)
    matrix[0, 0, 0] = 1.0
    matrix[0, 1:5, 1:5] = 0.4
    assert quality(matrix, 20) == pytest.approx(1.0, rel=1e-5)


def test_sparse_matrices() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(40, 128, 128) * (torch.rand(40, 128, 128) < 0.01)
    assert quality(matrices, NuclearBall().iterations).min() > 0.98


def test_vectors_are_of_unit_length_or_zero() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(4, 6, 5)
    matrices[2] = 0
    matrices[3] *= 1e-30
    for vectors in leading_singular_vectors(matrices, 5):
        lengths = torch.linalg.vector_norm(vectors, dim=(-2, -1))
        torch.testing.assert_close(lengths, torch.tensor([1.0, 1.0, 0.0, 1.0]))


def test_the_estimate_of_the_spectral_norm_is_a_lower_bound() -> None:
    torch.manual_seed(0)
    for shape in ((128, 128), (512, 16), (1, 40)):
        tensors = [torch.randn(shape)]
        norm, estimate = SpectralBall().norm(tensors), SpectralBall().usage(tensors)
        assert 0.95 * norm <= estimate <= norm * (1 + 1e-6)


def test_no_random_number_is_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = NuclearBall().lmo([torch.ones(3, 4)])[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(NuclearBall().lmo([torch.ones(3, 4)])[0], first)
