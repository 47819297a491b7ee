"""What the shelves are worth, what to reorder, what sells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from inventory.catalogue import Catalogue
from inventory.orders import Order
from inventory.stock import Warehouse


@dataclass(frozen=True)
class ReorderLine:
    """A product to buy; `quantity` fills the shelf to twice its reorder point."""

    sku: str
    available: int
    quantity: int


def stock_value(catalogue: Catalogue, warehouse: Warehouse) -> Decimal:
    """Return what all pieces on hand cost us."""
    return sum((catalogue.get(sku).cost * level.on_hand for sku, level in warehouse.levels.items()), Decimal(0))


def reorder_list(warehouse: Warehouse) -> list[ReorderLine]:
    """Return what to buy, the emptiest shelf first."""
    lines = [
        ReorderLine(sku, level.available, max(2 * level.reorder_point - level.available, 1))
        for sku, level in warehouse.levels.items()
        if level.is_low
    ]
    return sorted(lines, key=lambda line: (line.available, line.sku))


def revenue_by_category(catalogue: Catalogue, orders: Iterable[Order]) -> dict[str, Decimal]:
    """Return net sales by category, cancelled orders left out, the largest first."""
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    for order in orders:
        if order.state == "cancelled":
            continue
        for line in order.lines:
            totals[catalogue.get(line.sku).category] += line.quote.net
    return dict(sorted(totals.items(), key=lambda entry: entry[1], reverse=True))


def best_sellers(orders: Iterable[Order], limit: int = 3) -> list[tuple[str, int]]:
    """Return the SKUs of which most pieces were shipped, with the number of pieces."""
    pieces: Counter[str] = Counter()
    for order in orders:
        for line in order.lines:
            pieces[line.sku] += line.shipped
    ranked = sorted(pieces.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(sku, count) for sku, count in ranked if count > 0][:limit]


def stock_table(catalogue: Catalogue, warehouse: Warehouse) -> str:
    """Return the stock as a plain text table, by SKU."""
    rows = [f"{'SKU':<10}{'name':<24}{'hand':>6}{'free':>6}"]
    for sku, level in sorted(warehouse.levels.items()):
        mark = " *" if level.is_low else ""
        rows.append(f"{sku:<10}{catalogue.get(sku).name:<24.23}{level.on_hand:>6}{level.available:>6}{mark}")
    return "\n".join(rows)
