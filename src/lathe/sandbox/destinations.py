"""Where commands may connect to: rules about names, addresses, ports and methods. Nothing here touches a network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Standing: TypeAlias = Literal["allowed", "denied", "unlisted"]

PRESETS: Final[dict[str, tuple[str, ...]]] = {
    "registries": (
        *("pypi.org:443", "files.pythonhosted.org:443", "download.pytorch.org:443"),
        *("conda.anaconda.org:443", "repo.anaconda.com:443"),
        *("registry.npmjs.org:443", "registry.yarnpkg.com:443", "jsr.io:443", "npm.jsr.io:443"),
        *("index.crates.io:443", "static.crates.io:443", "crates.io:443", "static.rust-lang.org:443"),
        *("proxy.golang.org:443", "sum.golang.org:443"),
        *("rubygems.org:443", "index.rubygems.org:443"),
        *("repo.maven.apache.org:443", "repo1.maven.org:443", "plugins.gradle.org:443", "services.gradle.org:443"),
        *("api.nuget.org:443", "repo.packagist.org:443", "repo.hex.pm:443", "pub.dev:443", "hackage.haskell.org:443"),
        *("deb.debian.org", "security.debian.org", "archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"),
        *("dl-cdn.alpinelinux.org", "mirrors.fedoraproject.org:443", "dl.fedoraproject.org:443"),
    ),
    "github": (
        *("github.com:443", "github.com:22", "api.github.com:443", "codeload.github.com:443"),
        *("raw.githubusercontent.com:443", "objects.githubusercontent.com:443"),
        "release-assets.githubusercontent.com:443",
    ),
}  # fmt: skip
"""Rules that go by a name, written `@name`."""

THIS_MACHINE: Final = "host.lathe.internal"
"""The name of the machine that the sandbox runs on: its 127.0.0.1. It has to be listed by this very name."""

NOT_LISTED: Final = "not listed"
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"})
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_NAME: Final = 253
_METADATA: Final = frozenset(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
)
"""Where clouds hand out a machine's credentials."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Rule(NamedTuple):
    """One rule: what it was written as, and whom it fits; no ports or methods are all of them.

    `name` is a host name, `*.` before it for all names below it, or `*` for every name; else `network` is set.
    """

    text: str
    name: str = ""
    network: Network | None = None
    ports: frozenset[int] = frozenset()
    methods: frozenset[str] = frozenset()

    def fits(self, host: str, port: int) -> bool:
        """Tell whether the rule is about this host (a name or an address) and port."""
        return (not self.ports or port in self.ports) and self.names(host)

    def names(self, host: str) -> bool:
        """Tell whether the rule is about this host, on whatever port."""
        address = as_address(host)
        if address is not None:
            return self.network is not None and address in self.network
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return self.name == host or (self.name == "*" and host != THIS_MACHINE)


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that are written `[METHOD,METHOD ]HOST[:PORT[,PORT]]`; raise ValueError with a sentence.

    HOST is a name, `*.name`, `*`, an address, a network such as `10.0.0.0/8`, or a preset such as `@registries`.
    """
    rules: list[Rule] = []
    for text in texts:
        words = text.split()
        methods = frozenset(words[0].upper().split(",")) if len(words) == 2 else frozenset()
        if not 1 <= len(words) <= 2 or not methods <= _METHODS:
            raise ValueError(f"{text!r} is not a host; write it like example.com, *.example.com:443 or GET example.com")
        where = words[-1]
        if where.startswith("@"):
            if where[1:] not in PRESETS:
                raise ValueError(f"{text!r}: there is no preset of that name; there are {', '.join(PRESETS)}")
            rules += [_rule(one, f"{text} ({one})", methods) for one in PRESETS[where[1:]]]
        else:
            rules.append(_rule(where, text, methods))
    return tuple(rules)


def _rule(where: str, text: str, methods: frozenset[str]) -> Rule:
    if "://" in where:
        raise ValueError(f"{text!r} is not a host; write it like example.com, *.example.com:443 or 10.0.0.0/8")
    host, colon, ports = where.rpartition(":")
    if not colon or ("]" in ports) or (host.count(":") and not host.startswith("[")):
        host, ports = where, ""
    numbers = frozenset(int(each) if each.isdecimal() else 0 for each in ports.split(",")) if ports else frozenset()
    if any(not 0 < number < 65536 for number in numbers) or (colon and not ports and host != where):
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    host = host.strip("[]").lower().rstrip(".")
    try:
        network = ipaddress.ip_network(host)
    except ValueError:
        pass
    else:
        return Rule(text, network=network, ports=numbers, methods=methods)
    if host != "*" and not is_name(host.removeprefix("*.")):
        raise ValueError(f"{text!r} is not a host; write it like example.com, *.example.com:443 or 10.0.0.0/8")
    return Rule(text, name=host, ports=numbers, methods=methods)


def is_name(host: str) -> bool:
    """Tell whether this is a host name in lower case: letters, digits, hyphens and underscores, no final dot."""
    labels = host.split(".")
    if len(host) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    return not labels[-1].isdecimal()  # that would be an address, or be taken for one


def as_address(host: str) -> Address | None:
    """Return a host that is an address as such, None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Destinations:
    """Who may be reached: a denial goes before an allowance, and what neither speaks of is unlisted."""

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self.allow = parse_rules(allow)
        self.deny = parse_rules(deny)

    def standing(self, host: str, port: int, method: str | None = None) -> tuple[Standing, str]:
        """Return how a destination stands and the rule that says so; without a method, whether any could be allowed."""
        for rule in self.deny:
            if rule.fits(host, port) and (not rule.methods or method in rule.methods):
                return "denied", rule.text
        for rule in self.allow:
            if rule.fits(host, port) and (not rule.methods or method is None or method in rule.methods):
                return "allowed", rule.text
        return "unlisted", ""

    def closes(self, name: str) -> str:
        """Return why no connection to this name could be allowed by a rule, "" where one could."""
        for rule in self.deny:
            if rule.names(name) and not rule.ports and not rule.methods:
                return f"denied by {rule.text}"
        return "" if any(rule.names(name) for rule in self.allow) else NOT_LISTED

    def by_method(self, host: str, port: int) -> bool:
        """Tell whether it takes the method of a request to say whether it is allowed."""
        fitting = [rule for rule in self.allow if rule.fits(host, port)]
        if any(rule.methods for rule in self.deny if rule.fits(host, port)):
            return True
        return bool(fitting) and all(rule.methods for rule in fitting)

    def refuses_address(self, address: Address, port: int) -> str:
        """Return why a name may not lead to this address, "" where it may.

        What is not of the public internet must be listed itself: else a name that somebody else owns could lead into
        the network behind this machine. What hands out credentials must be listed by its very address.
        """
        inner = _within(address)
        listed = [rule.network for rule in self.allow if rule.network is not None and rule.fits(str(inner), port)]
        if inner in _METADATA:
            exact = any(network.num_addresses == 1 for network in listed)
            return "" if exact else f"{inner} hands out credentials of this machine"
        if not inner.is_global or inner.is_multicast:
            return "" if listed else f"{inner} is not an address of the public internet"
        return ""


def _within(address: Address) -> Address:
    """Return the IPv4 address that an address of IPv6 stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
