from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from prunepolicy.envs.shaping.spectral import ks_distances
from prunepolicy.envs.spectra import kept_spectra, spectrum


def choices(rows: int, keep: int, draws: int = 3) -> torch.Tensor:
    kept = torch.zeros(draws, rows, dtype=torch.bool)
    for row in kept:
        row[torch.randperm(rows)[:keep]] = True
    return kept


@pytest.mark.parametrize("keep", [60, 40, 20, 8, 1])
def test_spectra_from_gram_matrices_are_those_of_the_full_decomposition(keep: int) -> None:
    rows = torch.randn(64, 12)
    kept = choices(64, keep)
    found = kept_spectra(rows, kept)
    for choice, values in zip(kept, found, strict=True):
        expected = torch.linalg.svdvals(rows[choice].double())
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)


def test_a_nearly_singular_matrix_is_decomposed_in_full() -> None:
    rows = torch.randn(32, 8)
    rows[:, 7] = rows[:, 0] * (1 + 1e-5) + 1e-6 * torch.randn(32)
    kept = choices(32, 24)
    expected = torch.stack([torch.linalg.svdvals(rows[choice].double()) for choice in kept])
    torch.testing.assert_close(kept_spectra(rows, kept), expected, rtol=1e-6, atol=0)


def test_removing_rows_lowers_every_singular_value_but_not_below_the_interlaced_one() -> None:
    rows = torch.randn(40, 10)
    dense = spectrum(rows)
    for removed in (1, 3, 6):
        for after in kept_spectra(rows, choices(40, 40 - removed)):
            assert (after <= dense + 1e-9).all()
            assert (after[: 10 - removed] >= dense[removed:] - 1e-9).all()


def test_ks_is_that_of_scipy() -> None:
    first = np.random.default_rng(0).normal(size=(5, 30))
    second = np.random.default_rng(1).normal(0.3, 1.2, size=(5, 21))
    second[0, :3] = first[0, :3]  # ties count on both sides
    expected = [ks_2samp(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ks_distances(first, second), expected, atol=1e-12)
