"""Products and where to find them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from inventory.errors import DuplicateProduct, UnknownProduct


@dataclass(frozen=True)
class Product:
    """Something that is sold by the piece; `cost` is what one piece cost us."""

    sku: str
    name: str
    price: Decimal
    cost: Decimal
    category: str = "general"
    reduced_tax: bool = False

    @property
    def margin(self) -> Decimal:
        return self.price - self.cost


class Catalogue:
    """All products, by SKU. SKUs are compared without regard to case or surrounding space."""

    def __init__(self, products: Iterable[Product] = ()) -> None:
        self._products: dict[str, Product] = {}
        for product in products:
            self.add(product)

    def __len__(self) -> int:
        return len(self._products)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._products.values())

    def __contains__(self, sku: str) -> bool:
        return _key(sku) in self._products

    def add(self, product: Product) -> None:
        key = _key(product.sku)
        if key in self._products:
            raise DuplicateProduct(f"{product.sku} is in the catalogue already")
        self._products[key] = product

    def get(self, sku: str) -> Product:
        try:
            return self._products[_key(sku)]
        except KeyError:
            raise UnknownProduct(f"no product {sku!r}") from None

    def in_category(self, category: str) -> list[Product]:
        return [product for product in self if product.category == category]

    def search(self, words: str) -> list[Product]:
        """Return the products whose name has all of `words`, in any order."""
        wanted = words.lower().split()
        return [product for product in self if all(word in product.name.lower() for word in wanted)]


def _key(sku: str) -> str:
    return sku.strip().upper()
