"""What a quantity of a product costs: breaks for large quantities, then tax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from inventory.catalogue import Product
from inventory.money import percent_of, to_cents

STANDARD_TAX = Decimal(20)
REDUCED_TAX = Decimal(5)


@dataclass(frozen=True)
class QuantityBreak:
    """`percent` off from `minimum` pieces on."""

    minimum: int
    percent: Decimal


@dataclass(frozen=True)
class Quote:
    """The price of one line; all amounts in whole cents."""

    gross: Decimal
    discount: Decimal
    tax: Decimal

    @property
    def net(self) -> Decimal:
        return self.gross - self.discount

    @property
    def total(self) -> Decimal:
        return self.net + self.tax


class PriceList:
    """The rules by which lines are priced."""

    def __init__(self, breaks: Iterable[QuantityBreak] = (), *, max_discount: Decimal = Decimal(40)) -> None:
        self.breaks = sorted(breaks, key=lambda step: step.minimum)
        self.max_discount = max_discount

    def discount_percent(self, quantity: int, customer_percent: Decimal = Decimal(0)) -> Decimal:
        """Return the discount on `quantity` pieces: the best break plus the customer's own, up to the maximum."""
        best = Decimal(0)
        for step in self.breaks:
            if quantity > step.minimum:
                best = max(best, step.percent)
        return min(best + customer_percent, self.max_discount)

    def quote(self, product: Product, quantity: int, customer_percent: Decimal = Decimal(0)) -> Quote:
        """Return the price of `quantity` pieces of `product`."""
        if quantity < 1:
            raise ValueError("a quote is for one piece or more")
        gross = to_cents(product.price * quantity)
        discount = percent_of(gross, self.discount_percent(quantity, customer_percent))
        tax = percent_of(gross - discount, tax_percent(product))
        return Quote(gross, discount, tax)


def tax_percent(product: Product) -> Decimal:
    return REDUCED_TAX if product.reduced_tax else STANDARD_TAX
