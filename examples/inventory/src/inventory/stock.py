"""What lies on the shelves, and how much of it is promised to somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory.errors import InsufficientStock


@dataclass
class Level:
    """The stock of one product."""

    on_hand: int = 0
    reserved: int = 0
    reorder_point: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved

    @property
    def is_low(self) -> bool:
        return self.available <= self.reorder_point


@dataclass
class Movement:
    """One change of the stock, for the books."""

    kind: str
    sku: str
    quantity: int


@dataclass
class Warehouse:
    """Stock levels by SKU, and every movement that led to them."""

    levels: dict[str, Level] = field(default_factory=dict)
    movements: list[Movement] = field(default_factory=list)

    def level(self, sku: str) -> Level:
        return self.levels.setdefault(sku, Level())

    def receive(self, sku: str, quantity: int) -> None:
        """Put `quantity` pieces on the shelf."""
        _check(quantity)
        self.level(sku).on_hand += quantity
        self._note("receive", sku, quantity)

    def reserve(self, sku: str, quantity: int) -> None:
        """Promise `quantity` pieces to an order; raise `InsufficientStock` and change nothing if they are not free."""
        _check(quantity)
        level = self.level(sku)
        if quantity > level.available:
            raise InsufficientStock(f"{quantity} of {sku} wanted, {level.available} available")
        level.reserved += quantity
        self._note("reserve", sku, quantity)

    def release(self, sku: str, quantity: int) -> None:
        """Take back a promise of `quantity` pieces."""
        _check(quantity)
        level = self.level(sku)
        if quantity > level.reserved:
            raise InsufficientStock(f"{quantity} of {sku} to release, {level.reserved} reserved")
        level.reserved -= quantity
        self._note("release", sku, quantity)

    def ship(self, sku: str, quantity: int) -> None:
        """Hand out `quantity` pieces that were reserved before."""
        _check(quantity)
        level = self.level(sku)
        if quantity > level.reserved:
            raise InsufficientStock(f"{quantity} of {sku} to ship, {level.reserved} reserved")
        level.reserved -= quantity
        level.on_hand -= quantity
        self._note("ship", sku, quantity)

    def count(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Set the levels to what was counted; return the differences that were found, by SKU."""
        differences = {}
        for sku, quantity in counted.items():
            level = self.level(sku)
            difference = quantity - level.on_hand
            if difference:
                differences[sku] = difference
                level.on_hand = quantity
                self._note("count", sku, difference)
        return differences

    def _note(self, kind: str, sku: str, quantity: int) -> None:
        self.movements.append(Movement(kind, sku, quantity))


def _check(quantity: int) -> None:
    if quantity <= 0:
        raise ValueError(f"a quantity must be positive, not {quantity}")
