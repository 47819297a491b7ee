"""Everything that this package raises on purpose."""

from __future__ import annotations


class InventoryError(Exception):
    """Base of all errors below."""


class UnknownProduct(InventoryError):
    """A SKU that the catalogue does not have."""


class DuplicateProduct(InventoryError):
    """A SKU that the catalogue has already."""


class InsufficientStock(InventoryError):
    """More was asked for than there is."""


class OrderStateError(InventoryError):
    """The order is not in a state that allows this."""


class LoadError(InventoryError):
    """A file that could not be understood; the message names the file and the line."""
