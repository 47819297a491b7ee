"""Orders: placed, shipped in one go or in parts, or cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from inventory.catalogue import Catalogue
from inventory.errors import InsufficientStock, OrderStateError
from inventory.money import share_out
from inventory.pricing import PriceList, Quote
from inventory.stock import Warehouse


@dataclass
class OrderLine:
    """So many pieces of one product; `shipped` of them are gone already."""

    sku: str
    quantity: int
    quote: Quote
    shipped: int = 0

    @property
    def outstanding(self) -> int:
        return self.quantity - self.shipped


@dataclass
class Order:
    """What a customer ordered. `state` is open, shipped or cancelled."""

    number: int
    customer: str
    lines: list[OrderLine] = field(default_factory=list)
    freight: Decimal = Decimal(0)
    state: str = "open"

    @property
    def total(self) -> Decimal:
        return sum((line.quote.total for line in self.lines), self.freight)

    @property
    def is_complete(self) -> bool:
        return all(line.outstanding == 0 for line in self.lines)

    def freight_shares(self) -> dict[str, Decimal]:
        """Return the freight that each line bears, by SKU, in proportion to pieces."""
        shares = share_out(self.freight, [line.quantity for line in self.lines])
        return {line.sku: share for line, share in zip(self.lines, shares, strict=True)}


class OrderBook:
    """All orders, against one warehouse."""

    def __init__(self, catalogue: Catalogue, warehouse: Warehouse, prices: PriceList) -> None:
        self.catalogue = catalogue
        self.warehouse = warehouse
        self.prices = prices
        self._orders: dict[int, Order] = {}

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def get(self, number: int) -> Order:
        return self._orders[number]

    def place(
        self,
        customer: str,
        wanted: Iterable[tuple[str, int]],
        *,
        customer_percent: Decimal = Decimal(0),
        freight: Decimal = Decimal(0),
    ) -> Order:
        """Reserve what is wanted and return the order; if one line cannot be met, nothing stays reserved."""
        lines: list[OrderLine] = []
        try:
            for sku, quantity in wanted:
                product = self.catalogue.get(sku)
                self.warehouse.reserve(product.sku, quantity)
                lines.append(OrderLine(product.sku, quantity, self.prices.quote(product, quantity, customer_percent)))
        except InsufficientStock:
            for line in lines:
                self.warehouse.release(line.sku, line.quantity)
            raise
        order = Order(len(self._orders) + 1, customer, lines, freight)
        self._orders[order.number] = order
        return order

    def ship(self, number: int, parts: dict[str, int] | None = None) -> Order:
        """Ship all that is outstanding, or only `parts` (pieces by SKU)."""
        order = self._open_order(number)
        for line in order.lines:
            quantity = line.outstanding if parts is None else min(parts.get(line.sku, 0), line.outstanding)
            if quantity > 0:
                self.warehouse.ship(line.sku, quantity)
                line.shipped += quantity
        if order.is_complete:
            order.state = "shipped"
        return order

    def cancel(self, number: int) -> Order:
        """Cancel what has not been shipped yet."""
        order = self._open_order(number)
        for line in order.lines:
            if line.outstanding > 0:
                self.warehouse.release(line.sku, line.quantity)
        order.state = "cancelled"
        return order

    def _open_order(self, number: int) -> Order:
        order = self.get(number)
        if order.state != "open":
            raise OrderStateError(f"order {number} is {order.state}")
        return order
