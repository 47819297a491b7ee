from __future__ import annotations

from decimal import Decimal

import pytest

from inventory import Catalogue, Product
from inventory.errors import DuplicateProduct, UnknownProduct


def test_products_are_found_whatever_the_case(catalogue: Catalogue) -> None:
    assert catalogue.get(" ham-01 ").name == "Claw hammer"
    assert "Ham-01" in catalogue


def test_an_unknown_sku_is_an_error(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownProduct, match="XXX"):
        catalogue.get("XXX")


def test_a_sku_is_used_once(catalogue: Catalogue) -> None:
    with pytest.raises(DuplicateProduct):
        catalogue.add(Product("ham-01", "Another hammer", Decimal(1), Decimal(1)))
    assert len(catalogue) == 4


def test_categories_keep_their_products_in_order(catalogue: Catalogue) -> None:
    assert [product.sku for product in catalogue.in_category("tools")] == ["HAM-01", "SAW-02"]


def test_search_wants_every_word(catalogue: Catalogue) -> None:
    assert [product.sku for product in catalogue.search("bags TEA")] == ["TEA-07"]
    assert catalogue.search("tea hammer") == []


def test_the_margin_is_price_less_cost(catalogue: Catalogue) -> None:
    assert catalogue.get("SAW-02").margin == Decimal(11)
