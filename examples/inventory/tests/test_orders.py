from __future__ import annotations

from decimal import Decimal

import pytest

from inventory import OrderBook
from inventory.errors import InsufficientStock, OrderStateError, UnknownProduct


def test_an_order_reserves_its_pieces(book: OrderBook) -> None:
    order = book.place("Ada", [("ham-01", 3), ("NAI-10", 20)])
    assert [line.sku for line in order.lines] == ["HAM-01", "NAI-10"]
    assert book.warehouse.level("HAM-01").reserved == 3
    assert order.number == 1


def test_the_total_has_lines_and_freight(book: OrderBook) -> None:
    order = book.place("Ada", [("SAW-02", 2)], freight=Decimal("6.50"))
    assert order.total == Decimal("64.10")


def test_an_order_at_a_break_gets_the_discount(book: OrderBook) -> None:
    order = book.place("Grace", [("HAM-01", 10)])
    assert order.lines[0].quote.discount == Decimal("9.25")
    assert order.total == Decimal("210.90")


def test_an_order_that_cannot_be_met_reserves_nothing(book: OrderBook) -> None:
    with pytest.raises(InsufficientStock):
        book.place("Ada", [("HAM-01", 3), ("SAW-02", 13)])
    assert book.warehouse.level("HAM-01").reserved == 0
    assert list(book) == []


def test_an_order_of_something_unknown_is_refused(book: OrderBook) -> None:
    with pytest.raises(UnknownProduct):
        book.place("Ada", [("XXX", 1)])


def test_a_shipped_order_leaves_the_shelf(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 3)])
    book.ship(order.number)
    assert order.state == "shipped"
    assert book.warehouse.level("HAM-01").on_hand == 37


def test_an_order_can_be_shipped_in_parts(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 5), ("SAW-02", 2)])
    book.ship(order.number, {"HAM-01": 2, "SAW-02": 9})
    assert order.state == "open"
    assert [line.outstanding for line in order.lines] == [3, 0]
    book.ship(order.number)
    assert order.state == "shipped"


def test_a_cancelled_order_frees_its_pieces(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 5)])
    book.cancel(order.number)
    assert order.state == "cancelled"
    assert book.warehouse.level("HAM-01").available == 40


def test_cancelling_frees_what_was_not_shipped(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 5), ("SAW-02", 2)])
    book.ship(order.number, {"HAM-01": 2, "SAW-02": 2})
    book.cancel(order.number)
    level = book.warehouse.level("HAM-01")
    assert (level.on_hand, level.reserved) == (38, 0)


def test_cancelling_leaves_the_pieces_of_other_orders_alone(book: OrderBook) -> None:
    first = book.place("Ada", [("NAI-10", 8)])
    book.place("Grace", [("NAI-10", 20)])
    book.ship(first.number, {"NAI-10": 3})
    book.cancel(first.number)
    assert book.warehouse.level("NAI-10").reserved == 20


def test_only_open_orders_can_be_changed(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 1)])
    book.cancel(order.number)
    with pytest.raises(OrderStateError, match="cancelled"):
        book.ship(order.number)


def test_freight_is_shared_by_pieces(book: OrderBook) -> None:
    order = book.place("Ada", [("HAM-01", 2), ("NAI-10", 1)], freight=Decimal("10.00"))
    assert order.freight_shares() == {"HAM-01": Decimal("6.67"), "NAI-10": Decimal("3.33")}
