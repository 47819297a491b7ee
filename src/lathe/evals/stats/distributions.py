"""The distributions that the intervals rest on: normal, beta and Student's t.

The incomplete beta function is evaluated by its continued fraction (DLMF 8.17.22).
"""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_MOST_TERMS = 10_000


def normal_quantile(p: float) -> float:
    """Return the value that a standard normal variable stays below with probability `p`."""
    return _NORMAL.inv_cdf(p)


def normal_cdf(x: float) -> float:
    """Return the probability that a standard normal variable stays below `x`."""
    return _NORMAL.cdf(x)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for positive `a` and `b`."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _beta_tail(1.0 - x, b, a)
    return _beta_tail(x, a, b)


def _beta_tail(x: float, a: float, b: float) -> float:
    """Return I_x(a, b) where the fraction converges fast, by Lentz's method."""
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    fraction = d
    for m in range(1, _MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + term / c
            c = c if abs(c) > _TINY else _TINY
            step = c * d
            fraction *= step
        if abs(step - 1.0) < 1e-16:
            break
    return front * fraction / a


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the value that a beta variable stays below with probability `p`, by halving."""
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2.0
        if middle in (low, high):
            return middle
        if beta_cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle


def t_quantile(p: float, df: float) -> float:
    """Return the value that Student's t with `df` degrees of freedom stays below with probability `p`."""
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    share = beta_quantile(2.0 * p - 1.0, 0.5, df / 2.0)
    return math.sqrt(df * share / (1.0 - share)) if share < 1.0 else math.inf


def t_two_sided(x: float, df: float) -> float:
    """Return the probability that Student's t lies further from 0 than `x` does."""
    return beta_cdf(df / (df + x * x), df / 2.0, 0.5)
