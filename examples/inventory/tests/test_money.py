from __future__ import annotations

from decimal import Decimal

import pytest

from inventory.money import percent_of, share_out, to_cents


def test_half_a_cent_is_rounded_away_from_zero() -> None:
    assert to_cents(Decimal("0.125")) == Decimal("0.13")
    assert to_cents(Decimal("-0.125")) == Decimal("-0.13")


def test_percentages_come_in_whole_cents() -> None:
    assert percent_of(Decimal("4.99"), Decimal(15)) == Decimal("0.75")


def test_shares_add_up() -> None:
    assert share_out(Decimal("10.00"), [1, 1, 1]) == [Decimal("3.34"), Decimal("3.33"), Decimal("3.33")]
    assert share_out(Decimal("0.05"), [3, 1]) == [Decimal("0.04"), Decimal("0.01")]


def test_shares_need_a_weight() -> None:
    with pytest.raises(ValueError, match="weights"):
        share_out(Decimal(1), [0, 0])
