"""The re-fit equals ridge regression in double precision with every candidate tried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prunepolicy.pruning.repair import refit
from prunepolicy.pruning.repair.refit import RIDGES, LeastSquares, Moments, Refitter, Samples, divided, gram

COLUMNS, OUTPUTS = 96, 40


def drawn(tokens: int, seed: int, noise: float = 0.5) -> tuple[Samples, Samples, Tensor]:
    """Samples whose columns differ much in size, and columns that miss what other columns would write."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(1, -2, COLUMNS)
    mixing = torch.linalg.qr(torch.randn(COLUMNS, COLUMNS, generator=generator))[0]
    lost = torch.randn(COLUMNS, OUTPUTS, generator=generator)

    def samples(count: int) -> Samples:
        read = torch.randn(count, COLUMNS, generator=generator) * sizes @ mixing
        return Samples(read, read @ lost + noise * torch.randn(count, OUTPUTS, generator=generator))

    return samples(tokens), samples(tokens // 3), torch.randn(OUTPUTS, COLUMNS, generator=generator)


def moments(samples: Samples) -> Moments:
    return Moments(samples.read.T @ samples.read, samples.missing.T @ samples.read)


def exhaustive(columns: Tensor, fitted: Moments, held_out: Moments) -> Tensor:
    """Ridge regression as it is written down: double precision, all candidates, the best fits all samples."""
    read, missing = fitted.read.double(), fitted.missing.double()
    all_read, all_missing = read + held_out.read.double(), missing + held_out.missing.double()
    best, lowest = columns, 0.0
    for share in RIDGES:
        ridged = read + share * read.diagonal().mean() * torch.eye(len(read))
        change = torch.linalg.solve(ridged, missing.T).T
        gained = float((change * (change @ held_out.read.double() - 2 * held_out.missing.double())).sum())
        if gained < lowest:
            ridged = all_read + share * all_read.diagonal().mean() * torch.eye(len(read))
            best, lowest = columns + torch.linalg.solve(ridged, all_missing.T).T.float(), gained
    return best


def deviation(found: Tensor, wanted: Tensor, before: Tensor) -> float:
    """How far a change lies from the one that was wanted, relative to that."""
    return float((found - wanted).norm() / (wanted - before).norm())


@pytest.mark.parametrize("tokens", [48, 90, 120, 600])
@pytest.mark.parametrize("noise", [0.05, 1.0, 20.0])
def test_samples_and_moments_give_what_the_formula_gives(tokens: int, noise: float) -> None:
    for seed in range(4):
        fitted, held_out, columns = drawn(tokens, seed, noise)
        both = moments(fitted), moments(held_out)
        wanted = exhaustive(columns, *both)
        for problem in (LeastSquares.of_samples(fitted, held_out), LeastSquares.of_moments(*both)):
            assert deviation(Refitter()(columns, problem), wanted, columns) < 1e-3


@pytest.mark.parametrize("samples", [2, 5, 64, 81])
def test_the_end_of_calibration_data_is_fitted_and_held_out_like_the_rest(samples: int) -> None:
    fitted, held_out = divided(samples)
    assert sorted([*fitted.tolist(), *held_out.tolist()]) == list(range(samples))
    assert len(fitted) == samples * 3 // 4
    if samples >= 64:
        end = set(range(samples - samples // 4, samples))
        assert len(end & set(fitted.tolist())) > len(end) / 2
        assert end & set(held_out.tolist())


def test_a_single_sample_is_fitted_and_held_out() -> None:
    assert [rows.tolist() for rows in divided(1)] == [[0], [0]]


def test_the_smaller_system_is_solved() -> None:
    for tokens, size in ((60, 60), (600, COLUMNS)):
        fitted, held_out, _ = drawn(tokens, 0)
        assert LeastSquares.of_samples(fitted, held_out).system.shape == (size, size)


def test_the_ridge_of_the_last_projection_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    solved = LeastSquares.solved
    monkeypatch.setattr(
        LeastSquares, "solved", lambda self, share: (tried.append(share), solved(self, share))[1]
    )
    refitter = Refitter()
    fitted, held_out, columns = drawn(600, 0, noise=20.0)
    first = refitter(columns, LeastSquares.of_samples(fitted, held_out))
    begun = len(tried)
    again = refitter(columns, LeastSquares.of_samples(fitted, held_out))
    assert torch.equal(first, again)
    assert tried[0] == RIDGES[3]
    assert tried[begun] != RIDGES[3]
    assert len(tried) - begun <= 4 <= begun


def test_what_single_precision_cannot_solve_is_solved_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, held_out, columns = drawn(600, 1)
    wanted = exhaustive(columns, moments(fitted), moments(held_out))
    monkeypatch.setattr(refit, "SUFFICES", -1.0)
    exact = Refitter()(columns, LeastSquares.of_samples(fitted, held_out))
    assert deviation(exact, wanted, columns) < 1e-5


def test_columns_that_read_nothing_or_lack_nothing_of_use_stay() -> None:
    fitted, held_out, columns = drawn(120, 0)
    silent = Samples(torch.zeros_like(fitted.read), fitted.missing)
    assert torch.equal(Refitter()(columns, LeastSquares.of_samples(silent, silent)), columns)
    opposed = Samples(held_out.read, -held_out.missing)
    assert torch.equal(Refitter()(columns, LeastSquares.of_samples(fitted, opposed)), columns)


@pytest.mark.parametrize("columns", [1, 5, 96])
def test_a_gram_matrix_is_the_product(columns: int) -> None:
    x = torch.randn(30, columns)
    torch.testing.assert_close(gram(x), x.T @ x)
    assert torch.equal(gram(x), gram(x).T)


@pytest.mark.parametrize("block", [1, 7, 512])
def test_a_factor_times_itself_is_the_matrix(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "FACTOR_BLOCK", block)
    matrix = gram(torch.randn(40, 20)).double()
    factor = matrix.clone()
    assert refit.factorised(factor)
    torch.testing.assert_close(factor @ factor.T, matrix)
    assert not refit.factorised(matrix - 100 * torch.eye(20))
