"""The entrance: everything that signing in needs, made once from the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lathe.gateway.identity.oidc import OidcClient
from lathe.gateway.identity.proof import check_needs
from lathe.gateway.identity.site import Site, parse_site
from lathe.store.gateway.database import Database

if TYPE_CHECKING:
    from lathe.gateway.services import Services


class Entrance(NamedTuple):
    """`public` is None where only this machine's own browser is served; `clock` gives milliseconds since the epoch."""

    services: Services
    public: Site | None
    providers: Mapping[str, OidcClient]

    @property
    def database(self) -> Database:
        """The gateway's database."""
        return self.services.database

    @property
    def clock(self) -> Callable[[], int]:
        """What says the time, in milliseconds since the epoch."""
        return self.services.clock


def open_entrance(services: Services) -> Entrance:
    """Return the entrance; raise `ConfigError`. No provider is asked yet."""
    settings = services.settings
    public = parse_site(settings.public_url) if settings.public_url else None
    check_needs(settings.proof)
    providers = {name: OidcClient(name, table, services.clock) for name, table in settings.oidc.items()}
    return Entrance(services, public, providers)
