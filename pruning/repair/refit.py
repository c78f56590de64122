"""Ridge regression of a projection's columns, with the ridge that serves held-out samples best.

With x what the columns read and r what their output lacks, a row per token, the change D of the columns is

    argmin_D  |r - x D^T|^2 + lambda |D|^2,   D^T = (x^T x + lambda I)^-1 x^T r = x^T (x x^T + lambda I)^-1 r.

The first system is as large as the columns are many, the second as the tokens are; the smaller one is solved,
one Cholesky factorisation per candidate for lambda. The chosen one then fits the held-out samples, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates for lambda, in units of the mean diagonal of x^T x."""
SUFFICES = 1e-4
"""Relative residual up to which a solution in single precision is kept."""
CHECKED = 32
"""Right-hand sides whose residual is looked at; they share one factor, so that few tell."""
BLOCKS = 8
"""Of columns: a Gram matrix is symmetric, so that only what lies below its diagonal blocks is multiplied."""
FACTOR_BLOCK = 512
"""Columns of a Cholesky factor that are found together."""


@dataclass(frozen=True)
class Samples:
    """What columns read, (tokens, columns), and what their output lacks, (tokens, outputs)."""

    read: Tensor
    missing: Tensor


@dataclass(frozen=True)
class Moments:
    """Of samples: x^T x, (columns, columns), and r^T x, (outputs, columns)."""

    read: Tensor
    missing: Tensor


@dataclass(frozen=True)
class LeastSquares:
    """A system whose ridge isn't chosen yet: (system + lambda I) solution = target.

    Attributes:
        system: symmetric, (size, size).
        target: (size, outputs).
        typical: mean diagonal of x^T x.
        rise: by how much a solution changes the squared error on held-out samples; less than 0 is better.
        change: from a solution to the columns' change, (outputs, columns).
        together: the same with the held-out samples among the fitted ones.
    """

    system: Tensor
    target: Tensor
    typical: Tensor
    rise: Callable[[Tensor], float]
    change: Callable[[Tensor], Tensor]
    together: Callable[[], LeastSquares]

    @classmethod
    def of_moments(cls, fitted: Moments, held_out: Moments) -> LeastSquares:
        """Return the system of samples of which only moments are known."""

        def rise(solution: Tensor) -> float:
            # |r - x D^T|^2 - |r|^2 = tr(D (x^T x) D^T) - 2 tr(D (r^T x)^T): moments suffice.
            return float((solution * (held_out.read @ solution - 2 * held_out.missing.T)).sum())

        def together() -> LeastSquares:
            both = Moments(fitted.read + held_out.read, fitted.missing + held_out.missing)
            return cls.of_moments(both, held_out)

        typical = fitted.read.diagonal().mean()
        return cls(fitted.read, fitted.missing.T, typical, rise, lambda solution: solution.T, together)

    @classmethod
    def of_samples(cls, fitted: Samples, held_out: Samples) -> LeastSquares:
        """Return the smaller of the two systems that samples make."""
        x, seen, missing = fitted.read, held_out.read, held_out.missing
        few = len(x) < x.shape[1]
        reads = seen @ x.T if few else seen

        def rise(solution: Tensor) -> float:
            written = reads @ solution
            return float((written * (written - 2 * missing)).sum())

        def together() -> LeastSquares:
            if few:
                both = Samples(torch.cat([x, seen]), torch.cat([fitted.missing, missing]))
                return cls.of_samples(both, held_out)
            summed = Moments(system + gram(seen), target.T + missing.T @ seen)
            return cls.of_moments(summed, summed)

        typical = x.square().sum() / x.shape[1]
        if few:
            return cls(gram(x.T), fitted.missing, typical, rise, lambda solution: solution.T @ x, together)
        system, target = gram(x), x.T @ fitted.missing
        return cls(system, target, typical, rise, lambda solution: solution.T, together)

    def solved(self, share: float) -> Tensor | None:
        """Return the solution for a ridge in units of `typical`; None where nothing was read.

        Single precision serves unless the system is too nearly singular for it, as its residual shows.
        """
        ridge = share * self.typical
        solution = _solved(self.system, self.target, ridge)
        if solution is not None and self._residual(solution, ridge) <= SUFFICES:
            return solution
        system, target = (
            tensor.to(_precise(tensor.device), torch.float64) for tensor in (self.system, self.target)
        )
        solution = _solved(system, target, ridge.to(system))
        return None if solution is None else solution.to(self.target)

    def _residual(self, solution: Tensor, ridge: Tensor) -> float:
        step = -(-self.target.shape[1] // CHECKED)
        target, tried = self.target[:, ::step], solution[:, ::step]
        off = target - self.system @ tried - ridge * tried
        return float(off.norm() / target.norm().clamp(min=torch.finfo(target.dtype).tiny))


class Refitter:
    """Re-fits one projection after the other; the ridge that served one is the first tried on the next."""

    def __init__(self) -> None:
        self._likely = len(RIDGES) // 2

    def __call__(self, columns: Tensor, problem: LeastSquares) -> Tensor:
        """Return the columns, changed so that they write what was missing, too.

        A weak ridge over-fits and a strong one changes too little, so that the error on held-out samples
        falls to one lowest point and rises from there: candidates are tried from the likely one downhill.
        Columns that no change serves stay as they are.

        Args:
            columns: (outputs, columns).
        """
        place, best = self._likely, _Tried.of(problem, self._likely)
        if best is None:
            return columns
        for step in (1, -1):
            start = place
            while 0 <= place + step < len(RIDGES):
                further = _Tried.of(problem, place + step)
                if further is None or further.rise >= best.rise:
                    break
                place, best = place + step, further
            if place != start:
                break
        self._likely = place
        if best.rise >= 0:
            return columns
        together = problem.together()
        solution = together.solved(RIDGES[place])
        return columns + (problem.change(best.solution) if solution is None else together.change(solution))


@dataclass(frozen=True)
class _Tried:
    """A solution, and what it is worth on held-out samples."""

    solution: Tensor
    rise: float

    @classmethod
    def of(cls, problem: LeastSquares, candidate: int) -> _Tried | None:
        solution = problem.solved(RIDGES[candidate])
        return None if solution is None else cls(solution, problem.rise(solution))


def divided(samples: int) -> tuple[Tensor, Tensor]:
    """Return which samples to fit and which to hold out, three of four and one; a single one is both.

    They are drawn over all: calibration data may have parts, one behind the other, and each belongs in both.
    """
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    border = max(1, samples * 3 // 4)
    return order[:border], order[border:] if border < samples else order


def gram(x: Tensor) -> Tensor:
    """Return x^T x for (rows, columns)."""
    columns = x.shape[1]
    product = x.new_empty(columns, columns)
    for block in torch.arange(columns).tensor_split(BLOCKS):
        if len(block):
            first, end = int(block[0]), int(block[-1]) + 1
            product[first:, first:end] = x[:, first:].T @ x[:, first:end]
            product[first:end, end:] = product[end:, first:end].T
    return product


def _solved(system: Tensor, target: Tensor, ridge: Tensor) -> Tensor | None:
    factor = system.clone()
    factor.diagonal().add_(ridge)
    return torch.cholesky_solve(target, factor) if factorised(factor) else None


def factorised(matrix: Tensor) -> bool:
    """Put a symmetric matrix's Cholesky factor in its place, and return whether it has one.

    The blocked algorithm (Golub and Van Loan, "Matrix Computations", block Cholesky) spends its time in
    products of large matrices; `benchmarks/measure/repair_cost.py` times the library's own beside it.
    """
    size = len(matrix)
    for first in range(0, size, FACTOR_BLOCK):
        end = min(first + FACTOR_BLOCK, size)
        corner, below = matrix[first:end, first:end], matrix[end:, first:end]
        matrix[first:, first:end].addmm_(matrix[first:, :first], matrix[first:end, :first].T, alpha=-1)
        factor, failed = torch.linalg.cholesky_ex(corner)
        if failed:
            return False
        corner.copy_(factor)
        below.copy_(torch.linalg.solve_triangular(factor.T, below, upper=True, left=False))
    matrix.tril_()
    return True


def _precise(device: torch.device) -> torch.device:
    """Return where double precision is computed: Apple's GPUs have none."""
    return torch.device("cpu") if device.type == "mps" else device
