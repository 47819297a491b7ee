"""Whether a new name would be taken for another one: a check of scopes, by the compiler's own symbol tables."""

from __future__ import annotations

import symtable
from collections.abc import Collection


def captures(text: str, old: str, new: str, lines: Collection[int]) -> int | None:
    """Return a line where `new` already has a meaning that renaming `old` in `lines` would mix up; None if nowhere.

    Mixed up is: the scope that binds `old` binds or uses `new`; or a scope between that one and a use of `old`
    binds `new`.
    """
    table = symtable.symtable(text, "file", "exec")
    return _search(table, old, new, lines)


def _search(table: symtable.SymbolTable, old: str, new: str, lines: Collection[int]) -> int | None:
    found = None
    if old in table.get_identifiers() and _holds(table, lines):
        symbol = table.lookup(old)
        binds = table.get_type() == "module" or symbol.is_local() or symbol.is_parameter()
        if binds and (symbol.is_assigned() or symbol.is_imported() or symbol.is_parameter() or symbol.is_namespace()):
            found = _clash(table, new)
        else:
            found = _shadow(table, new)
    if found is not None:
        return found
    for child in table.get_children():
        found = _search(child, old, new, lines)
        if found is not None:
            return found
    return None


def _clash(table: symtable.SymbolTable, new: str) -> int | None:
    """Return the line of a scope, this one or one inside, that would see the renamed name under `new`."""
    if new in table.get_identifiers():
        return table.get_lineno()
    for child in table.get_children():
        if new in child.get_identifiers() and (child.lookup(new).is_free() or child.lookup(new).is_global()):
            return child.get_lineno()
        if (line := _clash_inside(child, new)) is not None:
            return line
    return None


def _clash_inside(table: symtable.SymbolTable, new: str) -> int | None:
    for child in table.get_children():
        if new in child.get_identifiers() and child.lookup(new).is_global():
            return child.get_lineno()
        if (line := _clash_inside(child, new)) is not None:
            return line
    return None


def _shadow(table: symtable.SymbolTable, new: str) -> int | None:
    """Return this scope's line where it binds `new` itself: `old`, used here, would be hidden by it."""
    if new in table.get_identifiers():
        symbol = table.lookup(new)
        if symbol.is_local() or symbol.is_parameter() or symbol.is_free():
            return table.get_lineno()
    return None


def _holds(table: symtable.SymbolTable, lines: Collection[int]) -> bool:
    """Return whether the scope begins before a line in question (the tables do not say where a scope ends)."""
    return any(table.get_lineno() <= line for line in lines)
