"""Products and opening stock from CSV and JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from inventory.catalogue import Catalogue, Product
from inventory.errors import LoadError
from inventory.stock import Warehouse
from inventory.tabular import parse_flag, read_rows

REQUIRED = ("sku", "name", "price", "cost")


def load_catalogue(path: Path) -> Catalogue:
    """Return the products in `path`, CSV or JSON by its suffix; raise `LoadError`."""
    if path.suffix == ".json":
        return _catalogue_from_json(path)
    catalogue = Catalogue()
    for number, row in read_rows(path):
        catalogue.add(_product(row, f"{path.name}:{number}"))
    return catalogue


def load_stock(path: Path, catalogue: Catalogue) -> Warehouse:
    """Return a warehouse with the opening stock in the CSV file `path`; every SKU must be in `catalogue`."""
    warehouse = Warehouse()
    for number, row in read_rows(path):
        where = f"{path.name}:{number}"
        if row.get("sku", "") not in catalogue:
            raise LoadError(f"{where}: no product {row.get('sku')!r}")
        sku = catalogue.get(row["sku"]).sku
        quantity = _whole_number(row, "quantity", where)
        if quantity > 0:
            warehouse.receive(sku, quantity)
        warehouse.level(sku).reorder_point = _whole_number(row, "reorder_point", where, default=0)
    return warehouse


def _catalogue_from_json(path: Path) -> Catalogue:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise LoadError(f"{path.name}:{error.lineno}: {error.msg}") from error
    if not isinstance(entries, list):
        raise LoadError(f"{path.name}:1: a list of products was expected")
    return Catalogue(_product(entry, f"{path.name}[{index}]") for index, entry in enumerate(entries))


def _product(fields: Mapping[str, Any], where: str) -> Product:
    missing = [name for name in REQUIRED if not fields.get(name)]
    if missing:
        raise LoadError(f"{where}: no value for {', '.join(missing)}")
    return Product(
        sku=fields["sku"],
        name=fields["name"],
        price=_amount(fields["price"], where),
        cost=_amount(fields["cost"], where),
        category=fields.get("category") or "general",
        reduced_tax=parse_flag(str(fields.get("reduced_tax", ""))),
    )


def _amount(value: object, where: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise LoadError(f"{where}: {value!r} is no amount") from None
    if amount < 0:
        raise LoadError(f"{where}: {value!r} is negative")
    return amount


def _whole_number(row: Mapping[str, str], name: str, where: str, default: int | None = None) -> int:
    text = row.get(name) or ""
    if not text and default is not None:
        return default
    if not text.isdigit():
        raise LoadError(f"{where}: {name} is {text!r}, a whole number was expected")
    return int(text)
