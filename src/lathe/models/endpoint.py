"""Where an endpoint is and how it is reached: its address, the proxy before it, the certificates to trust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    import ssl


class Endpoint(NamedTuple):
    """Where `base_url` points: `path` has no slash at its end."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as a `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Return the parts of an http(s) `url`; raise `ConfigError`."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no http or https address.", hint="Set the provider's base_url.")
    tls = parts.scheme == "https"
    return Endpoint(tls, parts.hostname, parts.port or (443 if tls else 80), parts.path.rstrip("/"))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Return whether `host` names this machine."""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


class Proxy(NamedTuple):
    endpoint: Endpoint
    authorization: bytes | None


def proxy_for(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the environment names for `endpoint`; this machine itself is never proxied."""
    if is_loopback(endpoint.host) or _excluded(endpoint, _setting(environ, "no_proxy")):
        return None
    url = _setting(environ, "https_proxy" if endpoint.tls else "http_proxy") or _setting(environ, "all_proxy")
    if not url:
        return None
    parts = _split(url if "://" in url else f"http://{url}")
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("The proxy in the environment is no http or https address.", hint="Mend HTTPS_PROXY.")
    authorization = None
    if parts.username is not None:
        import base64

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = b"Basic " + base64.b64encode(pair)
    tls = parts.scheme == "https"
    return Proxy(Endpoint(tls, parts.hostname, parts.port or (443 if tls else 80), ""), authorization)


def _setting(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _excluded(endpoint: Endpoint, no_proxy: str) -> bool:
    for entry in no_proxy.split(","):
        rule = entry.strip().lower()
        if rule == "*":
            return True
        name, _, port = rule.rpartition(":") if rule.count(":") == 1 else (rule, "", "")
        if not name or (port and port != str(endpoint.port)):
            continue
        name = name.lstrip("*").lstrip(".")
        if endpoint.host == name or endpoint.host.endswith("." + name):
            return True
    return False


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a client's context with the system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`."""
    import ssl

    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        raise ConfigError(
            f"The certificates of SSL_CERT_FILE or SSL_CERT_DIR can't be read: {error.strerror or error}.",
            hint="Point them at a PEM bundle, or unset them.",
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def header_lines(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes; raise `ConfigError` for a name or value that HTTP can't carry, without showing it."""
    lines = []
    for name, value in pairs:
        try:
            encoded = (name.lower().encode("ascii"), value.strip().encode("latin-1"))
        except UnicodeEncodeError:
            raise ConfigError(f"The header {name!r} has characters that HTTP can't carry.") from None
        if any(byte < 32 and byte != 9 for byte in encoded[1]):
            raise ConfigError(f"The value of the header {name!r} has line breaks or control characters.")
        lines.append(encoded)
    return lines
