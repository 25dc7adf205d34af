"""Wide matrices: half precision where it is faster, with the error that float32 has."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls import _polar
from lightning_fw.balls._polar import polar_newton_schulz

from .test_newton_schulz import with_spectrum


@pytest.fixture
def multiplies_bfloat16(monkeypatch):
    """Such products are right on every CPU, and fast on some."""
    monkeypatch.setattr(_polar, "_cpu_multiplies_bfloat16", lambda: True)


def spectra(n: int) -> dict[str, torch.Tensor]:
    return {
        **{f"{decades} decades": torch.logspace(0, -decades, n) for decades in (0, 1, 2, 3, 5)},
        "upper half": torch.linspace(1, 0.5, n),
        "one large": torch.tensor([1.0] + (n - 1) * [1.05e-3]),
    }


@pytest.mark.parametrize("shape", [(128, 128), (156, 128), (256, 256), (640, 256), (256, 1000)])
@pytest.mark.parametrize("spectrum", spectra(1))
def test_the_stated_error_is_kept(multiplies_bfloat16, shape, spectrum):
    values = spectra(min(shape))[spectrum].double()
    matrices = torch.stack([with_spectrum(values, *shape, seed=seed) for seed in (0, 1)]).float()
    atoms = polar_newton_schulz(matrices)
    assert atoms.dtype == torch.float32
    found = torch.linalg.svdvals(atoms.double())
    counts = int((values > 1e-3 * values.norm()).sum())
    assert found.amax() <= 1 + 1e-5
    assert found[:, :counts].amin() >= 0.97
    # Of values that are all alike all may end at the lower end of the interval.
    product = (matrices * atoms).sum((-2, -1)) / values.sum()
    assert product.amin() >= (0.97 if spectrum == "one large" else 0.98)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_low_rank_keeps_the_stated_error_in_either_half_precision(half, seed, monkeypatch):
    monkeypatch.setattr(_polar, "_coarse_dtype", lambda _: half)
    matrix = torch.randn(1, 256, 512, generator=torch.Generator().manual_seed(seed))
    matrix[:, 85:] = 0
    found = torch.linalg.svdvals(polar_newton_schulz(matrix).double())
    assert found.amax() <= 1 + 1e-5
    assert found[:, :85].amin() >= 0.97


def test_a_cpu_takes_bfloat16_from_128_rows_and_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = {n: torch.randn(1, n, 300, generator=generator) for n in (127, 128)}
    found = {}
    for instructions in (True, False):
        monkeypatch.setattr(_polar, "_cpu_multiplies_bfloat16", lambda found=instructions: found)
        found[instructions] = {n: polar_newton_schulz(m) for n, m in matrices.items()}
    assert torch.equal(found[True][127], found[False][127])
    assert not torch.equal(found[True][128], found[False][128])


def test_float64_stays_as_it_is(multiplies_bfloat16: None) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(1, 256, 256, generator=generator, dtype=torch.float64)
    atom = polar_newton_schulz(matrix)
    assert torch.linalg.matrix_norm(atom[0], 2) <= 1 + 1e-12


def test_a_torch_that_does_not_tell_multiplies_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not _polar._cpu_multiplies_bfloat16.__wrapped__()
