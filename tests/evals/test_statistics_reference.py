"""Every figure agrees to 1e-9 with scipy, or with the formula of the paper that it comes from."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from scipy import special, stats

from lathe.evals.stats.distributions import beta_cdf, beta_quantile, t_quantile, t_two_sided
from lathe.evals.stats.intervals import bca, clopper_pearson, wilson
from lathe.evals.stats.pairs import mcnemar, sign_flip
from lathe.evals.stats.passing import pass_all_k, pass_at_k

CLOSE = 1e-9
SIZES = [1, 2, 3, 7, 10, 40, 89, 445, 5000]


def test_distributions_agree_with_scipy():
    shapes = [0.5, 1, 1.7, 3, 12.5, 89, 444.5, 5000]
    for a, b in itertools.product(shapes, shapes):
        for x in (1e-6, 0.01, 0.2, 0.5, 0.77, 0.999):
            assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=CLOSE)
        for p in (0.005, 0.025, 0.5, 0.975):
            assert beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), abs=CLOSE)
    for df, p in itertools.product([1, 2, 5, 9, 88, 1e5], [0.01, 0.2, 0.5, 0.8, 0.975, 0.9995]):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=CLOSE, abs=CLOSE)
        assert t_two_sided(p * 4, df) == pytest.approx(2 * stats.t.sf(p * 4, df), abs=CLOSE)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_intervals_of_a_share_agree_with_scipy(level):
    for n in SIZES:
        for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
            found = stats.binomtest(k, n)
            for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
                theirs = found.proportion_ci(level, method)
                mine = ours(k, n, level)
                assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=CLOSE), (n, k, method)


def test_bca_agrees_with_scipy_on_the_same_draws():
    values = np.random.default_rng(7).beta(0.4, 0.9, 31)
    found = stats.bootstrap((values,), np.mean, n_resamples=3000, method="BCa", rng=np.random.default_rng(8))
    draws = sorted(found.bootstrap_distribution.tolist())
    left_out = [(values.sum() - one) / (len(values) - 1) for one in values]
    ours = bca(draws, float(values.mean()), left_out, stats.norm.ppf(0.975))
    assert ours == pytest.approx((found.confidence_interval.low, found.confidence_interval.high), abs=CLOSE)


def test_pass_at_k_is_human_evals_estimator():
    def published(n, c, k):  # arXiv:2107.03374, the product that its section 2.1 gives for the estimator
        return 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    for n in (1, 2, 5, 16, 200):
        for c, k in itertools.product(sorted({0, 1, n // 2, n}), sorted({1, min(2, n), n // 2 + 1, n})):
            assert pass_at_k(n, c, k) == pytest.approx(published(n, c, k), abs=CLOSE)


def test_pass_all_k_is_the_share_of_sets_that_pass_whole():
    for n, c in ((5, 3), (6, 6), (6, 0), (7, 4)):
        outcomes = [1] * c + [0] * (n - c)
        for k in range(1, n + 1):
            sets = list(itertools.combinations(outcomes, k))
            assert pass_all_k(n, c, k) == pytest.approx(sum(map(all, sets)) / len(sets), abs=CLOSE)
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, sets)) / len(sets), abs=CLOSE)


def test_mcnemar_is_scipys_binomial_test():
    for a, b in itertools.product([0, 1, 3, 12, 60], repeat=2):
        theirs = stats.binomtest(a, a + b).pvalue if a + b else 1.0
        assert mcnemar(a, b).p == pytest.approx(theirs, abs=CLOSE)


def test_the_sign_flip_test_is_scipys_exact_permutation_test():
    numbers = random.Random(3)
    for n in (2, 3, 8, 12):
        differences = [Fraction(numbers.randint(-5, 5), numbers.choice([1, 2, 4, 5])) for _ in range(n)]
        found = stats.permutation_test(
            ([float(one) for one in differences],), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        ours = sign_flip(differences)
        assert ours.exact
        assert ours.p == pytest.approx(found.pvalue, abs=CLOSE)


def test_flips_drawn_at_random_come_near_the_exact_test():
    # Sizes without a common measure have as many sums as there are flips, so that they can't be counted.
    differences = [Fraction(math.isqrt(10**12 * n), 10**6) * (-1) ** (n % 3) for n in range(2, 62)]
    drawn = sign_flip(differences)
    normal = stats.norm.sf(abs(float(sum(differences))) / math.sqrt(sum(float(d) ** 2 for d in differences))) * 2
    assert not drawn.exact
    assert drawn.p == pytest.approx(normal, abs=0.02)
    assert drawn == sign_flip(differences)
