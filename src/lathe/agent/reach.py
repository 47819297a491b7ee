"""What the commands of a thread may reach, from settings, and the person who is asked about the rest."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.agent.approvals import Approvals
from lathe.config.settings import CredentialTable, EgressTable
from lathe.models.endpoint import Endpoint, proxy_for
from lathe.protocol.errors import ConfigError
from lathe.sandbox.destinations import Destinations
from lathe.sandbox.dial import Proxy
from lathe.sandbox.egress import Attempt, Egress
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import ReachHost

if TYPE_CHECKING:
    from lathe.sandbox.inspection import Credential, Inspection

BUNDLE = "certificates.pem"


def make_egress(
    table: EgressTable,
    approvals: Approvals,
    *,
    policy: SandboxPolicy,
    cwd: Path,
    environ: Mapping[str, str],
    folder: Path,
) -> tuple[Egress, dict[str, str]]:
    """Return the way out that the settings describe, and variables by which commands trust what looks into requests.

    What no rule speaks of is put to the person. The certificates go to `folder`, which commands can read. Raises
    `ConfigError` for a rule or a credential that makes no sense.
    """
    try:
        destinations = Destinations(table.allow, table.deny)
        credentials = [_credential(host, one, environ) for host, one in table.credentials.items()]
    except ValueError as error:
        raise ConfigError(f"egress: {error}.", hint="docs/network.md says how rules are written.") from None

    async def ask(attempt: Attempt) -> bool:
        wish = ReachHost(attempt.host, attempt.port, attempt.program)
        return (await approvals.review((wish,), policy=policy, cwd=cwd)).allowed

    inspection, variables = _inspection(destinations, credentials, environ, folder)
    egress = Egress(
        destinations, ask=ask, can_ask=lambda: approvals.can_ask, proxy=proxies(environ), inspection=inspection
    )
    return egress, variables


def proxies(environ: Mapping[str, str]) -> Callable[[str, int], Proxy | None]:
    """Return what says which proxy of the environment leads to a host and port."""

    def proxy(host: str, port: int) -> Proxy | None:
        found = proxy_for(Endpoint(port != 80, host, port, ""), environ)
        return Proxy(found.endpoint.host, found.endpoint.port, found.authorization) if found is not None else None

    return proxy


def _inspection(
    destinations: Destinations, credentials: list[Credential], environ: Mapping[str, str], folder: Path
) -> tuple[Inspection | None, dict[str, str]]:
    if not credentials and not any(rule.methods for rule in (*destinations.allow, *destinations.deny)):
        return None, {}
    from lathe.models.endpoint import tls_context
    from lathe.sandbox.inspection import BUNDLE_VARIABLES, Inspection

    found = Inspection(destinations, credentials, trust=tls_context(environ))
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / BUNDLE
    bundle.write_text(found.authority.bundle(), encoding="utf-8")
    return found, dict.fromkeys(BUNDLE_VARIABLES, str(bundle))


def _credential(host: str, table: CredentialTable, environ: Mapping[str, str]) -> Credential:
    from lathe.sandbox.inspection import credential

    secret = environ.get(table.env, "").strip()
    if not secret:
        raise ConfigError(
            f"egress.credentials: {table.env}, the secret for {host}, is not set.",
            hint="Set the variable before you start Lathe, or take the entry out.",
        )
    if table.user:
        value = "Basic " + base64.b64encode(f"{table.user}:{secret}".encode()).decode()
    else:
        value = f"{table.scheme} {secret}".strip()
    return credential(host, table.header, value)
