"""Where browsers find this gateway, and what follows from it: names of cookies, the origin that requests must have."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import HTTPConnection

from lathe.gateway.settings import GatewaySettings, listen_address
from lathe.models.endpoint import is_loopback, parse_endpoint
from lathe.protocol.errors import ConfigError, LatheError

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Refused(LatheError):
    """A person is not let in, or a request of a browser is not taken; `status` is HTTP's."""

    code = "refused"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, status: int = 403) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class Site(NamedTuple):
    """`origin` is scheme, host and port as browsers write them, `host` the name that passkeys are bound to."""

    origin: str
    host: str

    @property
    def secure(self) -> bool:
        """Whether browsers come by https."""
        return self.origin.startswith("https:")

    def cookie(self, name: str = "") -> str:
        """Return the name of a cookie; the prefix binds it to this host, and is only allowed by https."""
        whole = f"lathe-{name}" if name else "lathe"
        return f"__Host-{whole}" if self.secure else whole


def parse_site(url: str) -> Site:
    """Return the site at `url`, the setting `public_url`; raise `ConfigError`."""
    endpoint = parse_endpoint(url)
    return Site(f"{'https' if endpoint.tls else 'http'}://{endpoint.authority}", endpoint.host)


def site_of(request: HTTPConnection, public: Site | None) -> Site:
    """Return the site that `request` came to; raise `Refused` where it names another host than it may.

    Without a public address only names of this machine are taken, so that no page of the web can reach the console
    of a developer by having its own name resolve to 127.0.0.1.
    """
    named = request.headers.get("host", "")
    if public is not None:
        if not public.secure and not is_loopback(public.host):
            raise Refused("The console needs https.", hint="Set public_url to an https address.", status=421)
        if named != public.origin.split("://", 1)[1]:
            raise Refused("This console is at another address.", hint=f"Open {public.origin}/console.", status=421)
        return public
    try:
        endpoint = parse_endpoint(f"http://{named}")
    except ConfigError:
        endpoint = None
    if endpoint is None or endpoint.path or not is_loopback(endpoint.host):
        raise Refused(
            "The console answers to names of this machine only.",
            hint="Set public_url in the gateway's settings to the https address that people use.",
            status=421,
        )
    return Site(f"http://{endpoint.authority}", endpoint.host)


def check_origin(request: HTTPConnection, site: Site, method: str) -> None:
    """Raise `Refused` where a browser says that an unsafe request was made by another site's page."""
    if method in _SAFE:
        return
    origin = request.headers.get("origin")
    fetched = request.headers.get("sec-fetch-site")
    if (origin is not None and origin != site.origin) or (fetched is not None and fetched != "same-origin"):
        raise Refused("The request came from another site.", hint="Open the page anew and try again.", code="origin")


def console_site(settings: GatewaySettings, port: int | None = None) -> Site:
    """Return where the console is; without a public address it is `localhost`, as passkeys have no numbers."""
    if settings.public_url:
        return parse_site(settings.public_url)
    return parse_site(f"http://localhost:{port or listen_address(settings)[1]}")
