from __future__ import annotations

import pytest

from inventory import Warehouse
from inventory.errors import InsufficientStock


def test_reserved_pieces_are_not_available(warehouse: Warehouse) -> None:
    warehouse.reserve("SAW-02", 5)
    assert warehouse.level("SAW-02").available == 7
    assert warehouse.level("SAW-02").on_hand == 12


def test_the_last_piece_can_be_reserved(warehouse: Warehouse) -> None:
    warehouse.reserve("SAW-02", 12)
    with pytest.raises(InsufficientStock, match="0 available"):
        warehouse.reserve("SAW-02", 1)


def test_only_what_is_reserved_can_be_released(warehouse: Warehouse) -> None:
    warehouse.reserve("HAM-01", 3)
    warehouse.release("HAM-01", 3)
    assert warehouse.level("HAM-01").reserved == 0
    with pytest.raises(InsufficientStock, match="to release"):
        warehouse.release("HAM-01", 1)


def test_shipping_reduces_stock_and_reservation(warehouse: Warehouse) -> None:
    warehouse.reserve("HAM-01", 6)
    warehouse.ship("HAM-01", 4)
    level = warehouse.level("HAM-01")
    assert (level.on_hand, level.reserved, level.available) == (36, 2, 34)


def test_a_level_at_the_reorder_point_is_low(warehouse: Warehouse) -> None:
    level = warehouse.level("SAW-02")
    level.reorder_point = 11
    assert not level.is_low
    warehouse.reserve("SAW-02", 1)
    assert level.is_low


def test_a_count_returns_the_differences(warehouse: Warehouse) -> None:
    assert warehouse.count({"HAM-01": 38, "SAW-02": 12}) == {"HAM-01": -2}
    assert warehouse.level("HAM-01").on_hand == 38
    assert warehouse.movements[-1].kind == "count"


@pytest.mark.parametrize("quantity", [0, -3])
def test_quantities_are_positive(warehouse: Warehouse, quantity: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        warehouse.receive("HAM-01", quantity)
