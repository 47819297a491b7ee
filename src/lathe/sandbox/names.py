"""The names that commands ask for: each gets an address that stands for it, and no question leaves the machine.

Facts: RFC 1035 (messages), RFC 2544 (198.18.0.0/15), RFC 6761 (names with a meaning of their own).
"""

from __future__ import annotations

import ipaddress
from typing import Final

from lathe.sandbox.destinations import is_name

_STAND_INS: Final = ipaddress.IPv4Network("198.18.0.0/15")
_FIRST: Final = int(_STAND_INS.network_address) + 1
_MOST: Final = _STAND_INS.num_addresses - 2
_HEADER: Final = 12
_A, _AAAA, _ANY, _INTERNET = 1, 28, 255, 1
_OK, _MALFORMED, _FAILED, _NO_SUCH_NAME, _REFUSED = 0, 1, 2, 3, 5
_TTL_S: Final = 60
_NOWHERE: Final = ("invalid", "local", "onion", "arpa")


class Names:
    """Names and the addresses that stand for them, for as long as this object lives; no address is used twice."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def address_of(self, name: str) -> str | None:
        """Return the address that stands for a name, None where there are no more."""
        found = self._addresses.get(name)
        if found is None and len(self._addresses) < _MOST:
            found = str(ipaddress.IPv4Address(_FIRST + len(self._addresses)))
            self._addresses[name] = found
            self._names[found] = name
        return found

    def name_of(self, address: str) -> str | None:
        """Return the name that an address stands for."""
        return self._names.get(address)

    def answer(self, query: bytes, *, closed: bool = False) -> bytes:
        """Return the answer to a query, b"" where it is none; with `closed`, that there is no such name."""
        if len(query) < _HEADER or query[2] & 0x80:
            return b""
        try:
            name, kind, end = _question(query)
        except ValueError:
            return _reply(query, _MALFORMED)
        if query[2] & 0x78:
            return _reply(query, _REFUSED)
        question = query[_HEADER:end]
        if closed or not is_name(name) or name.rpartition(".")[2] in _NOWHERE:
            return _reply(query, _NO_SUCH_NAME, question)
        if kind not in (_A, _ANY):
            return _reply(query, _OK, question)
        here = name.rpartition(".")[2] == "localhost"
        address = "127.0.0.1" if here else self.address_of(name)
        if address is None:
            return _reply(query, _FAILED, question)
        pointer = b"\xc0\x0c"  # to the name in the question
        head = pointer + _A.to_bytes(2, "big") + _INTERNET.to_bytes(2, "big") + _TTL_S.to_bytes(4, "big")
        return _reply(query, _OK, question, head + b"\0\4" + ipaddress.IPv4Address(address).packed)


def asked(query: bytes) -> str:
    """Return the name that a query asks an address for, "" where it asks for something else, or for none of others."""
    try:
        name, kind, _ = _question(query) if len(query) >= _HEADER else ("", 0, 0)
    except ValueError:
        return ""
    other = name.rpartition(".")[2] in (*_NOWHERE, "localhost")
    return name if kind in (_A, _AAAA, _ANY) and is_name(name) and not other else ""


def is_stand_in(host: str) -> bool:
    """Tell whether this is an address of the kind that stands for names."""
    try:
        return ipaddress.ip_address(host) in _STAND_INS
    except ValueError:
        return False


def _question(query: bytes) -> tuple[str, int, int]:
    """Return the name that is asked for in lower case, the kind of record, and where the question ends."""
    if query[4:6] != b"\0\1":
        raise ValueError("one question at a time")
    labels: list[str] = []
    at = _HEADER
    while True:
        if at >= len(query) or query[at] > 63:
            raise ValueError("no name")
        size = query[at]
        at += 1
        if not size:
            break
        labels.append(query[at : at + size].decode("latin-1").lower())
        at += size
    if at + 4 > len(query):
        raise ValueError("no kind")
    return ".".join(labels), int.from_bytes(query[at : at + 2], "big"), at + 4


def _reply(query: bytes, code: int, question: bytes = b"", record: bytes = b"") -> bytes:
    flags = bytes([0x80 | (query[2] & 0x79), 0x80 | code])
    counts = bytes([0, bool(question), 0, bool(record), 0, 0, 0, 0])
    return query[:2] + flags + counts + question + record
