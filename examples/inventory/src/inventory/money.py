"""Arithmetic with amounts of money."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


def to_cents(amount: Decimal) -> Decimal:
    """Return `amount` rounded to whole cents, half a cent away from zero."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """Return `percent` per cent of `amount`, in whole cents."""
    return to_cents(amount * percent / 100)


def share_out(amount: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """Return `amount` split in proportion to `weights`, in whole cents that add up to it exactly.

    Cents that rounding leaves over go to the first shares.
    """
    total = sum(weights)
    if total <= 0:
        raise ValueError("the weights must add up to more than nothing")
    cents = int(to_cents(amount) / CENT)
    shares = [cents * weight // total for weight in weights]
    left_over = cents - sum(shares)
    for index in range(left_over):
        shares[index] += 1
    return [share * CENT for share in shares]
