"""What every part of a replica is given: the database, what is known of it, who signs, who writes the audit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lathe.gateway.audit_log import AuditLog, LinkedRecords, write_checkpoints
from lathe.gateway.bootstrap import installation_secret
from lathe.gateway.directory import Directory, now_ms
from lathe.gateway.policy import Model
from lathe.gateway.principals import Principal
from lathe.gateway.safeguards import NONE, Safeguards, guarded_model
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.guard.working_days import Clock
from lathe.store.gateway.database import Database

if TYPE_CHECKING:
    from starlette.requests import Request

SessionPrincipal: TypeAlias = "Callable[[Request], Coroutine[Any, Any, Principal | None]]"
"""Whose web session a request has, None where it has none, or where its token against forgery is missing."""


Settle: TypeAlias = Callable[[str, float], Coroutine[Any, Any, int]]
"""Waits until nothing of a key is under way: see `UnderWay.settle`."""


async def nothing_to_settle(key: str, patience_s: float) -> int:
    """Know of no requests."""
    return 0


async def no_session(request: Request) -> Principal | None:
    """Know of no web sessions."""
    return None


class Services(NamedTuple):
    """One replica's. `session_principal`, `settle` and `paths` (OpenAPI, by path) are for other parts to put in.

    `secret` is what all replicas share, and names of people are salted with.
    """

    database: Database
    directory: Directory
    signer: Signer
    audit: AuditLog
    home: Path
    settings: GatewaySettings
    replica: str
    secret: bytes
    clock: Callable[[], int] = now_ms
    session_principal: SessionPrincipal = no_session
    settle: Settle = nothing_to_settle
    paths: Mapping[str, Any] = {}

    @classmethod
    async def open(
        cls,
        *,
        database: Database,
        signer: Signer,
        home: Path,
        settings: GatewaySettings,
        replica: str,
        safeguards: Mapping[str, Safeguards] = NONE,
    ) -> Services:
        """Read what is in the database and return the services; raise `StorageError`."""
        directory = await Directory.open(database, models=models_of(settings, safeguards))
        audit = AuditLog(database, f"{replica}/admin")
        secret = await installation_secret(database)
        return cls(database, directory, signer, audit, home, settings, replica, secret)

    @property
    def working_days(self) -> Clock:
        """The clock of appeals."""
        return Clock.of(self.settings.guard.calendar)

    def chain(self, name: str) -> LinkedRecords:
        """Return a new chain of the audit for records that one writer writes; no other may ever have had its name."""
        return LinkedRecords(name)

    async def checkpoints(self) -> None:
        """Sign the heads of all chains every minute, until cancelled."""
        await write_checkpoints(self.database, self.signer)


def models_of(settings: GatewaySettings, safeguards: Mapping[str, Safeguards]) -> list[Model]:
    """Return the models that are served, as the policy knows them."""
    models = [
        Model(name=name, aliases=table.aliases, tier=table.requires, scope=(table.scope,) if table.scope else ())
        for name, table in settings.models.items()
    ]
    if settings.mend and "mend" not in settings.models:
        models.append(Model(name="mend"))
    return [guarded_model(one, safeguards) for one in models]
