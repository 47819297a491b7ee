"""Stock, prices and orders of a small warehouse."""

from inventory.catalogue import Catalogue, Product
from inventory.orders import Order, OrderBook, OrderLine
from inventory.pricing import PriceList, QuantityBreak
from inventory.stock import Warehouse

__all__ = ["Catalogue", "Order", "OrderBook", "OrderLine", "PriceList", "Product", "QuantityBreak", "Warehouse"]
