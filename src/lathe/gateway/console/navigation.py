"""What stands in the console's menu, for those whose roles let them in."""

from __future__ import annotations

from typing import NamedTuple

from lathe.gateway.principals import Principal

STAFF = frozenset({"operator", "reviewer", "auditor"})
"""Roles of the installation: they see every organisation."""


class Entry(NamedTuple):
    """A page of the menu."""

    path: str
    title: str
    roles: frozenset[str]


_ALL = STAFF | {"admin", "member"}
MENU = (
    Entry("/console", "Overview", _ALL),
    Entry("/console/applications", "Applications", _ALL),
    Entry("/console/entitlements", "Entitlements", _ALL),
    Entry("/console/engagements", "Engagements", _ALL),
    Entry("/console/keys", "Keys", frozenset({"operator", "auditor", "admin", "member"})),
    Entry("/console/spend", "Spend", frozenset({"operator", "auditor", "admin", "member"})),
    Entry("/console/models", "Models", _ALL),
    Entry("/console/receipts", "Receipts", _ALL),
    Entry("/console/audit", "Audit", frozenset({"operator", "auditor", "admin"})),
    Entry("/console/people", "People", _ALL),
    Entry("/console/organisations", "Organisations", _ALL),
)


def entries(principal: Principal) -> list[Entry]:
    """Return the pages that the principal may open."""
    return [entry for entry in MENU if entry.roles & principal.roles]
