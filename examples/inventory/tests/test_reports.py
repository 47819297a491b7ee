from __future__ import annotations

from decimal import Decimal

from inventory import Catalogue, OrderBook, Warehouse
from inventory.reports import best_sellers, reorder_list, revenue_by_category, stock_table, stock_value


def test_stock_is_worth_what_it_cost(catalogue: Catalogue, warehouse: Warehouse) -> None:
    assert stock_value(catalogue, warehouse) == Decimal("944.00")


def test_promised_pieces_are_still_ours(book: OrderBook) -> None:
    book.place("Ada", [("HAM-01", 30)])
    assert stock_value(book.catalogue, book.warehouse) == Decimal("944.00")


def test_the_emptiest_shelf_is_reordered_first(warehouse: Warehouse) -> None:
    warehouse.level("HAM-01").reorder_point = 50
    warehouse.level("SAW-02").reorder_point = 12
    assert [(line.sku, line.quantity) for line in reorder_list(warehouse)] == [("SAW-02", 12), ("HAM-01", 60)]


def test_revenue_leaves_cancelled_orders_out(book: OrderBook) -> None:
    book.place("Ada", [("HAM-01", 2)])
    book.place("Grace", [("NAI-10", 30)])
    book.cancel(book.place("Ada", [("SAW-02", 9)]).number)
    revenue = revenue_by_category(book.catalogue, book)
    assert list(revenue.items()) == [("fixings", Decimal("134.73")), ("tools", Decimal("37.00"))]


def test_best_sellers_are_counted_when_shipped(book: OrderBook) -> None:
    book.ship(book.place("Ada", [("HAM-01", 2), ("SAW-02", 4)]).number)
    book.ship(book.place("Grace", [("NAI-10", 30)]).number, {"NAI-10": 3})
    book.place("Ada", [("HAM-01", 20)])
    assert best_sellers(book, limit=2) == [("SAW-02", 4), ("NAI-10", 3)]


def test_the_table_marks_what_is_low(catalogue: Catalogue, warehouse: Warehouse) -> None:
    warehouse.level("SAW-02").reorder_point = 20
    lines = stock_table(catalogue, warehouse).splitlines()
    assert lines[0].split() == ["SKU", "name", "hand", "free"]
    assert [line.endswith("*") for line in lines[1:]] == [False, False, True]
