from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from inventory import Catalogue, OrderBook, PriceList, Product, QuantityBreak, Warehouse


@pytest.fixture
def data() -> Path:
    return Path(__file__).parent / "data"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        [
            Product("HAM-01", "Claw hammer", Decimal("18.50"), Decimal("9.20"), "tools"),
            Product("SAW-02", "Hand saw", Decimal("24.00"), Decimal("13.00"), "tools"),
            Product("NAI-10", "Wire nails 1 kg", Decimal("4.99"), Decimal("2.10"), "fixings"),
            Product("TEA-07", "Breakfast tea 80 bags", Decimal("3.20"), Decimal("1.75"), "kitchen", reduced_tax=True),
        ]
    )


@pytest.fixture
def warehouse() -> Warehouse:
    warehouse = Warehouse()
    warehouse.receive("HAM-01", 40)
    warehouse.receive("SAW-02", 12)
    warehouse.receive("NAI-10", 200)
    return warehouse


@pytest.fixture
def prices() -> PriceList:
    return PriceList([QuantityBreak(50, Decimal(15)), QuantityBreak(10, Decimal(5)), QuantityBreak(25, Decimal(10))])


@pytest.fixture
def book(catalogue: Catalogue, warehouse: Warehouse, prices: PriceList) -> OrderBook:
    return OrderBook(catalogue, warehouse, prices)
