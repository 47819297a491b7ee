"""What stands in the console's menu, for those whose roles let them in."""

from __future__ import annotations

from typing import NamedTuple

from lathe.gateway.admin.accounts import list_accounts
from lathe.gateway.admin.desk import ANYONE
from lathe.gateway.admin.people import list_users
from lathe.gateway.admin.records import list_audit
from lathe.gateway.members import INSTALLATION_ROLES
from lathe.gateway.principals import Principal

STAFF = frozenset(INSTALLATION_ROLES)
"""Roles of the installation: they see every organisation."""


class Entry(NamedTuple):
    """A page of the menu, and where else one is when one is in its part of the console."""

    path: str
    title: str
    roles: frozenset[str]
    also: str = "-"

    def holds(self, path: str) -> bool:
        """Return whether a path is in this part."""
        if path == self.path or path.startswith(self.also):
            return True
        return self.path != "/console" and path.startswith(f"{self.path}/")


_ALL = frozenset({ANYONE})
MENU = (
    Entry("/console", "Overview", _ALL),
    Entry("/console/applications", "Applications", _ALL),
    Entry("/console/entitlements", "Entitlements", _ALL),
    Entry("/console/engagements", "Engagements", _ALL),
    Entry("/console/keys", "Keys", _ALL),
    Entry("/console/spend", "Spend", _ALL),
    Entry("/console/models", "Models", _ALL, "/console/rollouts/"),
    Entry("/console/receipts", "Receipts", _ALL),
    Entry("/console/decisions", "Decisions", _ALL),
    Entry("/console/appeals", "Appeals", list_accounts.roles),
    Entry("/console/accounts", "Accounts", list_accounts.roles),
    Entry("/console/audit", "Audit", list_audit.roles),
    Entry("/console/people", "People", list_users.roles, "/console/groups/"),
    Entry("/console/organisations", "Organisations", _ALL, "/console/projects/"),
)


def entries(principal: Principal) -> list[Entry]:
    """Return the pages that the principal may open."""
    return [entry for entry in MENU if ANYONE in entry.roles or entry.roles & principal.roles]
