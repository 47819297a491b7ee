from __future__ import annotations

from decimal import Decimal

import pytest

from inventory import Catalogue, PriceList
from inventory.pricing import tax_percent


@pytest.mark.parametrize(("quantity", "percent"), [(1, 0), (9, 0), (12, 5), (30, 10), (400, 15)])
def test_a_larger_quantity_has_a_larger_discount(prices: PriceList, quantity: int, percent: int) -> None:
    assert prices.discount_percent(quantity) == percent


@pytest.mark.parametrize(("quantity", "percent"), [(10, 5), (25, 10), (50, 15)])
def test_a_break_begins_at_its_minimum(prices: PriceList, quantity: int, percent: int) -> None:
    assert prices.discount_percent(quantity) == percent


def test_the_discount_of_the_customer_comes_on_top(prices: PriceList) -> None:
    assert prices.discount_percent(60, Decimal(8)) == 23


def test_discounts_have_a_limit(prices: PriceList) -> None:
    assert prices.discount_percent(60, Decimal(30)) == 40


def test_a_quote_has_discount_and_tax(prices: PriceList, catalogue: Catalogue) -> None:
    quote = prices.quote(catalogue.get("NAI-10"), 30)
    assert (quote.gross, quote.discount, quote.net) == (Decimal("149.70"), Decimal("14.97"), Decimal("134.73"))
    assert (quote.tax, quote.total) == (Decimal("26.95"), Decimal("161.68"))


def test_groceries_have_the_reduced_tax(catalogue: Catalogue) -> None:
    assert tax_percent(catalogue.get("TEA-07")) == 5
    assert tax_percent(catalogue.get("SAW-02")) == 20


def test_nothing_has_no_price(prices: PriceList, catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="one piece"):
        prices.quote(catalogue.get("TEA-07"), 0)
