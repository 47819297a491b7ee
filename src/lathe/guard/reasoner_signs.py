"""What a request says of act, target and authority: signs that a judge without a model can read.

No sign decides by itself. Acts are said by a verb and its object within a few words, so that the object alone (a report
about ransomware) is none. What is of one's own is said by the surroundings (loopback, private ranges, the workspace, an
engagement), and only these count for the ladder; that a text calls something its own is a weak sign among others.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from lathe.guard.taxonomy import Relation

SHIPPED = Path(__file__).parent / "signs.toml"
_ASKS_HOW = r"(?! (?:the )?(?:best|steps|most|effective|specific|essential|key|methods|ways|techniques))"
_EXPLAINS = re.compile(
    rf"\A\W*(?:what (?:is|are|does|do)\b{_ASKS_HOW}|why\b|who\b|when\b|summari[sz]e"
    r"|explain (?:what|why|the (?:concept|difference|history))|describe the (?:history|difference|impact))",
    re.IGNORECASE,
)
_ENDS = "com|net|org|io|gov|edu|mil|de|uk|cn|ru|info|biz|co|app|dev|ai|local|internal|lan|test|example|localhost"
_HOST = re.compile(rf"\b(?:https?://)?((?:[a-z0-9-]{{1,63}}\.)+(?:{_ENDS})|localhost)\b", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?)(?![\w.])")
_RESERVED = (".local", ".internal", ".lan", ".test", ".example", ".localhost")
_PLAIN = frozenset({"example.com", "example.org", "example.net"})
MOST = 50  # hosts that are looked at
LONGEST = 4_000  # characters in which signs are read


class Signs(NamedTuple):
    """What was read of a text: acts with the letters in which they are said, and how many words of each other kind."""

    acts: tuple[tuple[str, int, int], ...]
    grave: int
    misuse: int
    defence: int
    own: int
    explains: bool


class _Act(msgspec.Struct, forbid_unknown_fields=True):
    clause: str
    objects: list[str]
    grave: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    make: list[str]
    acts: list[_Act]
    words: dict[str, list[str]]


class _Patterns(NamedTuple):
    acts: tuple[tuple[str, re.Pattern[str]], ...]
    grave: frozenset[str]
    words: dict[str, re.Pattern[str]]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    file = msgspec.toml.decode(SHIPPED.read_bytes(), type=_File)
    near = r"(?:\W+[\w'’/.#+-]+){0,9}?\W+"
    make = "|".join(file.make)
    acts = [(one.clause, re.compile(rf"\b(?:{make}){near}(?:{'|'.join(one.objects)})", re.I)) for one in file.acts]
    words = {kind: re.compile(rf"\b(?:{'|'.join(listed)})\b", re.I) for kind, listed in file.words.items()}
    return _Patterns(tuple(acts), frozenset(one.clause for one in file.acts if one.grave), words)


def is_grave(clause: str) -> bool:
    """Say whether an act of this clause is done to others, or made for that."""
    return clause in _patterns().grave


def read_signs(text: str) -> Signs:
    """Return the signs in the first LONGEST characters of a text."""
    text = text[:LONGEST]
    patterns = _patterns()
    found = [(clause, pattern.search(text)) for clause, pattern in patterns.acts]
    acts = tuple((clause, match.start(), match.end()) for clause, match in found if match)
    misuse, defence, own = (len(patterns.words[kind].findall(text)) for kind in ("misuse", "defence", "own"))
    grave = sum(clause in patterns.grave for clause, _, _ in acts)
    return Signs(acts, grave, misuse, defence, own, _EXPLAINS.search(text) is not None)


def targets_in(text: str) -> list[str]:
    """Return the hosts, addresses and networks that a text names, each once."""
    found = [*_ADDRESS.findall(text), *(host.lower() for host in _HOST.findall(text))]
    return list(dict.fromkeys(found))[:MOST]


def relation_of(target: str) -> Relation:
    """Return what a target is by its own nature: loopback and private ranges are one's own, other hosts can't be told.

    Names and addresses that are reserved for examples belong to nobody, and so to no third party either.
    """
    try:
        network = ipaddress.ip_network(target, strict=False)
    except ValueError:
        if target == "localhost" or target.endswith(_RESERVED) or target in _PLAIN:
            return "own"
        return "unclear"
    return "own" if network.is_private or network.is_loopback else "unclear"
