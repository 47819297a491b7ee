"""Targets of authorised security work: how they are written, and what lies within them. Pure.

The gateway's signed engagements and a person's own file of one name their targets in these terms.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_WIDEST = {4: 8, 6: 32}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# a last label of digits only would be an address in a form that programs read differently
_DOMAIN = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+(?![0-9]+$){_LABEL}")
_UNCLEAR = re.compile(r"[^\x21-\x7e]|[\\%]")
_SCP = re.compile(r"(?:[\w.-]+@)?([\w.-]+):(?!\d+(?:/|$))([^/].*)")


class Named(Protocol):
    """What names targets: `domains` count with all below them; `repositories` are `HOST/PATH`."""

    @property
    def domains(self) -> tuple[str, ...]: ...

    @property
    def networks(self) -> tuple[str, ...]: ...

    @property
    def repositories(self) -> tuple[str, ...]: ...


class Unfit(ValueError):
    """A target that can't be one, or is written otherwise than it must be; the message is a sentence's end."""


class Targets:
    """Targets, ready to be matched."""

    def __init__(self, named: Named) -> None:
        self._domains = frozenset(named.domains)
        self._networks = tuple(ipaddress.ip_network(one) for one in named.networks)
        self._repositories = frozenset(named.repositories)

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


def fault(named: Named) -> str:
    """Return what is wrong with targets, as a sentence's end; "" where nothing is."""
    if not named.domains and not named.networks and not named.repositories:
        return "it must name at least one domain, network or repository"
    try:
        for normal, targets in (
            (normal_domain, named.domains),
            (normal_network, named.networks),
            (normal_repository, named.repositories),
        ):
            for target in targets:
                if normal(target) != target:
                    return f"{target[:100]!r} must be written {normal(target)}"
    except Unfit as error:
        return str(error)
    return ""


def normal_domain(text: str) -> str:
    """Return the one form in which a domain is written; raise `Unfit`."""
    domain = text.lower().removesuffix(".")
    if domain.startswith("*."):
        raise Unfit(f"name {domain[2:][:100]} without *., its subdomains are included")
    if not domain.isascii():
        raise Unfit(f"{text[:100]!r} must be given in its ASCII form (xn--…)")
    if not _DOMAIN.fullmatch(domain):
        raise Unfit(f"{text[:100]!r} is no domain of at least two parts")
    return domain


def normal_network(text: str) -> str:
    """Return the one form in which a network is written; raise `Unfit`."""
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        raise Unfit(f"{text[:100]!r} is no network: {error}") from None
    if network.prefixlen < _WIDEST[network.version]:
        raise Unfit(f"{text} is wider than /{_WIDEST[network.version]}")
    return str(network)


def normal_repository(text: str) -> str:
    """Return the one form in which a repository is written; raise `Unfit`."""
    host, path = ("", "") if _UNCLEAR.search(text) else _host_and_path(text)
    parts = _bare(path).split("/")
    if not _DOMAIN.fullmatch(host) or any(part in ("", ".", "..") for part in parts):
        raise Unfit(f"{text[:100]!r} is no repository, such as github.com/owner/name")
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
