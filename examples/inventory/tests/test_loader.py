from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from inventory import Catalogue
from inventory.errors import LoadError
from inventory.loader import load_catalogue, load_stock
from inventory.tabular import parse_flag


def test_products_come_from_csv(data: Path) -> None:
    catalogue = load_catalogue(data / "products.csv")
    assert len(catalogue) == 5
    assert catalogue.get("TEA-07").reduced_tax
    assert catalogue.get("GLV-03").name == "Gloves, leather"
    assert catalogue.get("GLV-03").category == "general"


def test_products_come_from_json(data: Path) -> None:
    catalogue = load_catalogue(data / "products.json")
    assert [product.price for product in catalogue] == [Decimal("18.50"), Decimal("3.2")]
    assert catalogue.get("TEA-07").reduced_tax


def test_opening_stock_comes_from_csv(data: Path, catalogue: Catalogue) -> None:
    warehouse = load_stock(data / "stock.csv", catalogue)
    assert warehouse.level("NAI-10").on_hand == 200
    assert warehouse.level("SAW-02").reorder_point == 5
    assert warehouse.level("TEA-07").on_hand == 0


def test_a_bad_amount_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text("sku,name,price,cost\nHAM-01,Claw hammer,18.50,9.20\nSAW-02,Hand saw,cheap,9\n")
    with pytest.raises(LoadError, match=r"products.csv:3: 'cheap' is no amount"):
        load_catalogue(path)


def test_stock_of_an_unknown_product_is_an_error(tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "stock.csv"
    path.write_text("sku,quantity\nHAM-01,3\nXXX,4\n")
    with pytest.raises(LoadError, match=r"stock.csv:3: no product 'XXX'"):
        load_stock(path, catalogue)


@pytest.mark.parametrize("text", ["{", '{"sku": 1}', '[{"sku": "A", "name": "a", "price": -1, "cost": 1}]'])
def test_json_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "products.json"
    path.write_text(text)
    with pytest.raises(LoadError, match="products.json"):
        load_catalogue(path)


def test_flags_are_read_in_plain_words() -> None:
    assert [parse_flag(text) for text in ("Yes", " y ", "1", "no", "")] == [True, True, True, False, False]
