"""Newton-Schulz: always feasible, and within 3 % wherever a singular value counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_fw.balls import NuclearBall, SpectralBall, _polar
from lightning_fw.balls._polar import polar_newton_schulz, polar_svd

from .cases import PROPERTY

# The interval that the docstrings promise for σ ≥ 1e-3 ‖G‖_F.
LOWEST, COUNTS = 0.97, 1e-3

# As an embedding's or a head's of many words: its quintic steps are taken on Gram matrices.
OBLONG = (48, 1500)

ROUNDING = {torch.float64: 1e-12, torch.float32: 2e-6}


def with_spectrum(spectrum: Tensor, rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix of given singular values between random orthonormal bases, float64."""
    generator = torch.Generator().manual_seed(seed)
    bases = [
        torch.linalg.qr(torch.randn(n, len(spectrum), generator=generator, dtype=torch.float64))[0]
        for n in (rows, columns)
    ]
    return bases[0] @ torch.diag(spectrum.double()) @ bases[1].mT


def assert_feasible_and_near_optimal(
    matrix: Tensor, dtype: torch.dtype, scale: float = 1.0
) -> None:
    polar = polar_newton_schulz((matrix * scale).to(dtype)[None])[0].double()
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.linalg.matrix_norm(polar, 2) <= 1 + ROUNDING[dtype]
    counts = s >= COUNTS * s.norm() * (1 + 1e-3)
    found = (u.mT @ polar @ vh.mT)[counts][:, counts]
    # Same singular vectors, and singular values in the interval.
    torch.testing.assert_close(found, torch.diag(found.diagonal()), atol=1e-3, rtol=0)
    assert (found.diagonal() >= LOWEST - 1e-3).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    exponent=st.integers(-20, 20),
    decay=st.floats(0, 8),
)
def test_singular_values_of_any_matrix(
    dtype: torch.dtype, seed: int, rows: int, columns: int, exponent: int, decay: float
) -> None:
    spectrum = torch.logspace(0, -decay, min(rows, columns), dtype=torch.float64)
    assert_feasible_and_near_optimal(
        with_spectrum(spectrum, rows, columns, seed), dtype, 2.0**exponent
    )


def test_every_singular_value_ends_in_the_interval() -> None:
    """The composed polynomial itself, on a fine grid: 2 × 2 diagonal matrices of norm one."""
    angles = torch.linspace(0, torch.pi / 4, 100_001, dtype=torch.float64)
    matrices = torch.diag_embed(torch.stack([angles.cos(), angles.sin()], dim=-1))
    ends = polar_newton_schulz(matrices).diagonal(dim1=-2, dim2=-1)
    assert (ends >= 0).all()
    assert ends.max() <= 1 + 1e-12
    counts = angles.sin() >= COUNTS
    assert ends[counts].min() >= LOWEST
    assert ends[:, 0].min() >= LOWEST


@pytest.mark.parametrize("shape", [(64, 64), (16, 128), (128, 16), (4, 200), OBLONG, OBLONG[::-1]])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("decay", [0.0, 2.0, 6.0, 12.0])
def test_ill_conditioned_matrices(shape: tuple[int, int], dtype: torch.dtype, decay: float) -> None:
    spectrum = torch.logspace(0, -decay, min(shape), dtype=torch.float64)
    assert_feasible_and_near_optimal(with_spectrum(spectrum, *shape), dtype)


@pytest.mark.parametrize("shape", [(20, 30), OBLONG])
@pytest.mark.parametrize("rank", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rank_deficient_matrices(shape: tuple[int, int], rank: int, dtype: torch.dtype) -> None:
    matrix = with_spectrum(torch.ones(rank), *shape)
    assert_feasible_and_near_optimal(matrix, dtype)
    polar = polar_newton_schulz(matrix.to(dtype)[None])[0].double()
    # Rounding outside of the range is lifted by at most the product of the slopes, about 1.4e3.
    outside = polar - matrix @ (matrix.mT @ polar)
    assert outside.abs().max() <= 2e3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("shape", [OBLONG, OBLONG[::-1]])
@pytest.mark.parametrize("decay", [0.0, 2.0, 6.0])
def test_steps_on_gram_matrices_are_those_on_whole_ones(
    shape: tuple[int, int], decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectrum = torch.logspace(0, -decay, min(shape), dtype=torch.float64)
    matrices = torch.stack([with_spectrum(spectrum, *shape, seed=seed) for seed in (0, 1)]).float()
    fast = polar_newton_schulz(matrices)
    monkeypatch.setattr(_polar, "_LONG", float("inf"))
    plain = polar_newton_schulz(matrices)
    assert not torch.equal(fast, plain)
    assert torch.linalg.matrix_norm(fast - plain, 2).max() <= 1e-3


def set_for_all(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    yield
    torch.set_float32_matmul_precision(before)


def set_for(backend, precision):
    if not hasattr(torch.backends.mkldnn, "matmul"):
        pytest.skip("torch sets it apart for each backend as of 2.9")
    matmul = getattr(torch.backends, backend).matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    yield
    matmul.fp32_precision = before


@pytest.fixture(params=["all", "cpu"])
def rough_products(request):
    yield from set_for_all("medium") if request.param == "all" else set_for("mkldnn", "bf16")


@pytest.fixture
def rough_products_of_gpus():
    yield from set_for("cuda", "tf32")


def test_how_gpus_multiply_changes_nothing_on_a_cpu(
    rough_products_of_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 48), *OBLONG).float()[None]
    found = polar_newton_schulz(matrix)
    monkeypatch.setattr(_polar, "_LONG", float("inf"))
    plain = polar_newton_schulz(matrix)
    assert not torch.equal(found, plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-3)


def test_where_products_may_be_rough_the_steps_are_on_whole_matrices(
    rough_products: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 48), *OBLONG).float()[None]
    found = polar_newton_schulz(matrix)
    monkeypatch.setattr(_polar, "_LONG", float("inf"))
    assert torch.equal(found, polar_newton_schulz(matrix))
    assert torch.linalg.matrix_norm(found[0], 2) < 1.05


def test_an_atom_under_autocast_stays_in_its_ball() -> None:
    gradient = with_spectrum(torch.logspace(0, -3, 48), *OBLONG).float()
    with torch.autocast("cpu", torch.bfloat16):
        atom = SpectralBall(radius=1.0).lmo([gradient])[0].float()
    assert torch.linalg.matrix_norm(atom, 2) < 1.05
    assert (gradient * atom).sum() < 0


def test_one_row_and_one_column_are_exact() -> None:
    row = torch.tensor([[[3.0, 0.0, 4.0]]])
    torch.testing.assert_close(polar_newton_schulz(row), row / 5)
    torch.testing.assert_close(polar_newton_schulz(row.mT), row.mT / 5)


def test_zero_matrix_beside_another() -> None:
    matrices = torch.stack([torch.zeros(3, 4), torch.eye(3, 4)])
    for polar in (polar_newton_schulz, polar_svd):
        found = polar(matrices)
        assert not found[0].any()
        torch.testing.assert_close(found[1], matrices[1], atol=0.03, rtol=0)


@pytest.mark.parametrize("shape", [(32, 32), (8, 40), (40, 8)])
def test_bfloat16_gradients_are_iterated_in_float32(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(shape).bfloat16()
    ball = SpectralBall(radius=1.0)
    atom = ball.lmo([gradient])[0]
    assert atom.dtype == torch.bfloat16
    assert torch.equal(atom, ball.lmo([gradient.float()])[0].bfloat16())


def test_svd_oracle_leaves_the_null_space_alone() -> None:
    matrix = with_spectrum(torch.tensor([1.0, 0.5]), 6, 8)
    polar = polar_svd(matrix[None])[0]
    singular = torch.linalg.svdvals(polar)
    torch.testing.assert_close(singular, torch.tensor([1.0, 1, 0, 0, 0, 0]).double())


@pytest.mark.parametrize(
    "ball",
    [SpectralBall(radius=1.0), SpectralBall(radius=1.0, oracle="svd"), NuclearBall(radius=1.0)],
)
@pytest.mark.parametrize("shape", [(32, 32), (64, 28), OBLONG])
def test_atoms_are_the_same_under_autocast(ball, shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (plain,) = ball.lmo([gradient])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = ball.lmo([gradient])
    assert torch.equal(cast, plain)


def test_svd_oracle_leaves_a_large_null_space_alone() -> None:
    """Whose singular values are roundings of many products."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(1, 256, 4, generator=generator) for _ in range(2))
    polar = polar_svd(left @ right.mT)
    assert int(torch.linalg.matrix_rank(polar[0])) == 4
