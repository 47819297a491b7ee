"""The parts of the gateway's settings that say how people sign in and how mail is sent."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from lathe.models.endpoint import Endpoint, is_loopback, parse_endpoint
from lathe.protocol.errors import ConfigError


class OidcTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[oidc.NAME]`: an OpenID provider that people sign in with.

    `client_secret_env` names the variable with the client's secret; without one the client is public. `speaks_for`
    are the e-mail domains whose people the provider may name; empty, all. `domains` maps an e-mail domain to the
    organisation that its people join by themselves. `acr_values` are asked for; `mfa_acr` and `passkey_acr` are the
    provider's own names of levels; below `level` nobody is let in.
    """

    issuer: str
    client_id: str
    client_secret_env: str = ""
    title: str = ""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    speaks_for: tuple[str, ...] = ()
    domains: dict[str, str] = {}
    acr_values: tuple[str, ...] = ()
    mfa_acr: tuple[str, ...] = ()
    passkey_acr: tuple[str, ...] = ()
    level: Literal["account", "mfa", "passkey"] = "account"


class SmtpTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[smtp]`: where mail with one-time links is handed in. `password_env` names a variable.

    Without `host` the links are shown to the operator instead.
    """

    host: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    tls: Literal["starttls", "implicit", "off"] = "starttls"
    user: str = ""
    password_env: str = ""
    sender: str = ""


def check_provider(name: str, table: OidcTable) -> None:
    """Raise `ConfigError` where nobody could sign in with a provider."""
    check_address(table.issuer)
    if "openid" not in table.scopes:
        raise ConfigError(f"oidc.{name}.scopes has no 'openid'.", hint="Add it: sign-in needs it.")
    if table.client_secret_env and not os.environ.get(table.client_secret_env):
        raise ConfigError(
            f"The variable {table.client_secret_env} is not set.", hint=f"It holds the secret of oidc.{name}."
        )


def check_address(url: str) -> Endpoint:
    """Return where `url` is; raise `ConfigError` where it is neither https nor on this machine."""
    endpoint = parse_endpoint(url)
    if not endpoint.tls and not is_loopback(endpoint.host):
        raise ConfigError(f"{url!r} is plain http.", hint="An identity provider must be reached by https.")
    return endpoint
