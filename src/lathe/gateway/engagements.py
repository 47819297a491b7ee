"""Engagements: pieces of authorised security work, with their targets, their window and who gave the authority."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from lathe.gateway.documents import Sealed, checked, seal, unseal
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError
from lathe.protocol.ids import short_id

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_WIDEST = {4: 8, 6: 32}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# a last label of digits only would be an address in a form that programs read differently
_DOMAIN = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+(?![0-9]+$){_LABEL}")
_UNCLEAR = re.compile(r"[^\x21-\x7e]|[\\%]")
_SCP = re.compile(r"(?:[\w.-]+@)?([\w.-]+):(?!\d+(?:/|$))([^/].*)")


class Engagement(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="lathe.engagement.v1",
):
    """Work on targets. `domains` count with all below them; `repositories` are `HOST/PATH`.

    `authority` is the SHA-256, in hexadecimal, of the document in which the owner of the targets agrees. Times are
    milliseconds since the epoch.
    """

    id: str
    organisation: str
    project: str
    name: str
    authority: str
    issued: int
    starts: int
    expires: int
    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()


class Opened(NamedTuple):
    """A new engagement, and its signed form."""

    engagement: Engagement
    sealed: Sealed


class Targets:
    """The targets of an engagement, ready to be matched."""

    def __init__(self, engagement: Engagement) -> None:
        self._domains = frozenset(engagement.domains)
        self._networks = tuple(ipaddress.ip_network(one) for one in engagement.networks)
        self._repositories = frozenset(engagement.repositories)

    def cover(self, target: str) -> bool:
        """Say whether a URL, a host, an address, a network or a repository lies within; False where it is unclear.

        Hosts are compared by name: where a name leads is for whoever connects to say.
        """
        if _UNCLEAR.search(target):
            return False
        network = _network(target)
        if network is not None:
            return self._in_networks(network)
        host, path = _host_and_path(target)
        address = _network(host)
        if address is not None:
            return self._in_networks(address)
        return self._in_domains(host) or self._in_repositories(host, path)

    def _in_networks(self, network: _Network) -> bool:
        return any(one.version == network.version and network.subnet_of(one) for one in self._networks)  # type: ignore[arg-type]

    def _in_domains(self, host: str) -> bool:
        labels = host.split(".")
        return any(".".join(labels[at:]) in self._domains for at in range(len(labels)))

    def _in_repositories(self, host: str, path: str) -> bool:
        parts = path.split("/")
        if not self._repositories or any(part in ("", ".", "..") for part in parts):
            return False
        return any(f"{host}/{_bare('/'.join(parts[: at + 1]))}" in self._repositories for at in range(len(parts)))


def engage(
    signer: Signer,
    *,
    organisation: str,
    project: str,
    name: str,
    authority: str,
    expires: int,
    now: int,
    starts: int | None = None,
    domains: Iterable[str] = (),
    networks: Iterable[str] = (),
    repositories: Iterable[str] = (),
) -> Opened:
    """Return a new signed engagement, its targets in their normal form; raise `UsageError` for what is wrong."""
    made = Engagement(
        id=short_id("eng"),
        organisation=organisation,
        project=project,
        name=name,
        authority=authority.lower(),
        issued=now,
        starts=now if starts is None else starts,
        expires=expires,
        domains=tuple(dict.fromkeys(map(_normal_domain, domains))),
        networks=tuple(dict.fromkeys(map(_normal_network, networks))),
        repositories=tuple(dict.fromkeys(map(_normal_repository, repositories))),
    )
    _check(checked(made))
    return Opened(made, seal(made, signer))


def read(text: str, signature: str, ring: KeyRing, key: str = "") -> Engagement:
    """Return the engagement of a signed text; raise `UsageError` where it is not genuine or makes no sense."""
    found = unseal(Engagement, text, signature, ring, key)
    _check(found)
    return found


def _check(one: Engagement) -> None:
    if not one.organisation or not one.project:
        raise _wrong("it must belong to a project of an organisation")
    if not one.name.strip() or len(one.name) > 200:
        raise _wrong("its name must have 1 to 200 letters")
    if not _SHA256.fullmatch(one.authority):
        raise _wrong("its authority must be the SHA-256 of the document, in 64 hexadecimal digits")
    if one.starts >= one.expires:
        raise _wrong("its window ends before it begins")
    if not one.domains and not one.networks and not one.repositories:
        raise _wrong("it must name at least one domain, network or repository")
    for normal, targets in (
        (_normal_domain, one.domains),
        (_normal_network, one.networks),
        (_normal_repository, one.repositories),
    ):
        for target in targets:
            if normal(target) != target:
                raise _wrong(f"{target[:100]!r} must be written {normal(target)}")


def _normal_domain(text: str) -> str:
    domain = text.lower().removesuffix(".")
    if domain.startswith("*."):
        raise _wrong(f"name {domain[2:][:100]} without *., its subdomains are included")
    if not domain.isascii():
        raise _wrong(f"{text[:100]!r} must be given in its ASCII form (xn--…)")
    if not _DOMAIN.fullmatch(domain):
        raise _wrong(f"{text[:100]!r} is no domain of at least two parts")
    return domain


def _normal_network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        raise _wrong(f"{text[:100]!r} is no network: {error}") from None
    if network.prefixlen < _WIDEST[network.version]:
        raise _wrong(f"{text} is wider than /{_WIDEST[network.version]}")
    return str(network)


def _normal_repository(text: str) -> str:
    host, path = ("", "") if _UNCLEAR.search(text) else _host_and_path(text)
    parts = _bare(path).split("/")
    if not _DOMAIN.fullmatch(host) or any(part in ("", ".", "..") for part in parts):
        raise _wrong(f"{text[:100]!r} is no repository, such as github.com/owner/name")
    return f"{host}/{'/'.join(parts)}"


def _host_and_path(target: str) -> tuple[str, str]:
    """Return the host, in small letters, and the path without its outer slashes; "" where they are unclear."""
    scp = None if "://" in target else _SCP.fullmatch(target)
    if scp is not None:
        return scp[1].lower().removesuffix("."), scp[2].strip("/")
    try:
        parts = urlsplit(target if "://" in target else f"//{target}")
        host = parts.hostname or ""
    except ValueError:
        return "", ""
    return host.removesuffix("."), parts.path.strip("/")


def _network(text: str) -> _Network | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((int(mapped), network.prefixlen - 96))
    return network


def _bare(path: str) -> str:
    return path.removesuffix(".git")


def _wrong(what: str) -> UsageError:
    return UsageError(f"The engagement can't be opened: {what}.", code="engagement_invalid")
