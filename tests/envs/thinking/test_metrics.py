from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from prunepolicy.envs.thinking.metrics import (
    Point,
    aes,
    auc,
    by_difficulty,
    e_f1,
    gain_over_random_router,
    pareto_area,
    spearman,
)
from prunepolicy.envs.thinking.routers import at_random, hardest
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK
from prunepolicy.pruning.errors import PrunePolicyError

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("found", "standard", "no_thinking", "printed"),
    [
        ((51.7, 5108), (48.6, 10633), (37.5, 2528), 39.6),
        ((51.4, 7295), (48.6, 10633), (37.5, 2528), 31.6),
        ((49.8, 4943), (48.6, 10633), (37.5, 2528), 18.7),
        ((45.6, 6465), (48.6, 10633), (37.5, 2528), 0.0),
    ],
)
def test_e_f1_gives_what_is_printed_for_the_small_model(
    found: tuple[float, float],
    standard: tuple[float, float],
    no_thinking: tuple[float, float],
    printed: float,
) -> None:
    assert 100 * e_f1(Point(*found), Point(*standard), Point(*no_thinking)) == pytest.approx(
        printed, abs=0.35
    )


def test_e_f1_is_bounded_and_says_when_it_has_no_meaning() -> None:
    assert e_f1(Point(0.9, 1), Point(0.5, 100), Point(0.3, 10)) == 1
    with pytest.raises(PrunePolicyError, match="needs thinking to gain"):
        e_f1(Point(0.5, 50), Point(0.5, 100), Point(0.5, 10))


def test_aes_weighs_lost_accuracy_more_than_gained() -> None:
    base = Point(0.5, 1000)
    assert aes(Point(0.55, 500), base) == pytest.approx(0.5 + 3 * 0.1)
    assert aes(Point(0.45, 500), base) == pytest.approx(0.5 - 5 * 0.1)
    assert aes(base, base) == 0


def test_bins_hold_equally_many_rows_and_keep_equal_difficulties_together() -> None:
    difficulty = GENERATOR.random(1000)
    bins = by_difficulty(difficulty > 0.6, difficulty, bins=5)
    assert [each.rows for each in bins] == [200] * 5
    assert [each.mean for each in bins[:2]] == [0, 0]
    assert bins[-1].mean == 1
    assert all(a.high < b.low for a, b in itertools.pairwise(bins))
    levels = np.repeat([1, 2, 3], [80, 10, 10])
    assert [(each.low, each.rows) for each in by_difficulty(levels, levels)] == [(1, 80), (2, 20)]
    assert by_difficulty([1, 0], [3, 3])[0][2:] == (2, 0.5)


def test_auc_and_spearman_are_what_statistics_says() -> None:
    scores, labels = GENERATOR.integers(0, 5, 200), GENERATOR.random(200) < 0.3
    positive, negative = scores[labels], scores[~labels]
    expected = stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert auc(scores, labels) == pytest.approx(expected)
    other = scores + GENERATOR.integers(0, 5, 200)
    assert spearman(scores, other) == pytest.approx(stats.spearmanr(scores, other).statistic)
    assert auc([1, 2, 3], [False, False, True]) == 1
    assert spearman([1, 1, 1], [1, 2, 3]) == 0
    with pytest.raises(PrunePolicyError, match="one kind"):
        auc([1, 2], [True, True])


def test_a_router_gains_what_it_knows_beyond_its_rate() -> None:
    source = SimulatedSource(prompts=500)
    accuracies = [source.expected(choice)[0] for choice in (THINK, ANSWER)]
    assert gain_over_random_router(at_random(source, 0.4), *accuracies) == pytest.approx(0)
    best, rate = hardest(source, 0.4), 0.4
    direct = (best * accuracies[0] + (1 - best) * accuracies[1]).mean()
    by_chance = rate * accuracies[0].mean() + (1 - rate) * accuracies[1].mean()
    assert gain_over_random_router(best, *accuracies) == pytest.approx(direct - by_chance)
    assert direct > by_chance + 0.05
    assert gain_over_random_router(1 - best, *accuracies) < 0


def test_the_pareto_area_grows_with_points_that_nobody_dominates() -> None:
    points = [Point(0.5, 100), Point(0.8, 600)]
    assert pareto_area(points, 1000) == pytest.approx((0.5 * 500 + 0.8 * 400) / 1000)
    assert pareto_area([*points, Point(0.4, 300)], 1000) == pareto_area(points, 1000)
    assert pareto_area([*points, Point(0.7, 300)], 1000) > pareto_area(points, 1000)
    assert pareto_area([*points, Point(0.9, 2000)], 1000) == pareto_area(points, 1000)
    assert pareto_area([], 1000) == 0
