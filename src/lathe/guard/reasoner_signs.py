"""What a request says of act, target and authority: signs that a judge without a model can read.

No sign decides by itself. Acts are said by a verb and its object within a few words, so that the object alone (a report
about ransomware) is none. What is of one's own is said by the surroundings (loopback, private ranges, the workspace, an
engagement), and only these count for the ladder; that a text calls something its own is a weak sign among others.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from lathe.guard.shell import analyse
from lathe.guard.taxonomy import Relation
from lathe.guard.wrappers import program_name

SHIPPED = Path(__file__).parent / "signs.toml"
_ASKS_HOW = r"(?! (?:the )?(?:best|steps|most|effective|specific|essential|key|methods|ways|techniques))"
_EXPLAINS = re.compile(
    rf"\A\W*(?:what (?:is|are|does|do)\b{_ASKS_HOW}|why\b|who\b|when\b|summari[sz]e"
    r"|explain (?:what|why|the (?:concept|difference|history))|describe the (?:history|difference|impact))",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:\A|[.?!,;:]\s+|\n)\W*(?:(?:please|(?:can|could|would|will) you|i (?:want|need|would like)(?: you)?(?: to)?"
    r"|help me|try to|now|then|and|kindly)\s+){0,3}(?:how (?:can|do|does|would|could|to|should|might)\b"
    r"|(?:write|create|generate|develop|design|build|implement|construct|craft|code|make|give|show|demonstrate|engineer)\b"
    r"|(?:provide|describe|outline|devise|explain|produce|prepare|compose|present|suggest|recommend|illustrate|showcase)\b"
    r"|(?:what|which) (?:are )?(?:the )?(?:\w+ )?(?:steps|techniques|methods|tools|strategies|tactics|approaches)\b)",
    re.IGNORECASE,
)
_AGAINST = re.compile(
    r"\b(?:evad|evas|bypass|avoid|circumvent|escap|defeat|disabl|without|undetect|steal)\w*(?:\W+\w+){0,4}?"
    r"\W+(?:detect|protect|monitor|secur|block|authenticat|validat|alert|defen[cs]e|policy|restrict)\w*",
    re.IGNORECASE,
)
_ENDS = "com|net|org|io|gov|edu|mil|de|uk|cn|ru|info|biz|co|app|dev|ai|local|internal|lan|test|example|localhost"
_HOST = re.compile(rf"\b(?:https?://)?((?:[a-z0-9-]{{1,63}}\.)+(?:{_ENDS})|localhost)\b", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?)(?!\w|\.\d)")
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
    asks: bool


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
    near = r"(?:\s+\S+){0,9}?\s+[^\w\s]*"
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
    misuse, own = (len(patterns.words[kind].findall(text)) for kind in ("misuse", "own"))
    # What is to be got around is no purpose: "without detection" protects nobody.
    defence = len(patterns.words["defence"].findall(_AGAINST.sub(" ", text)))
    grave = sum(clause in patterns.grave for clause, _, _ in acts)
    explains, asks = _EXPLAINS.search(text) is not None, _ASKS.search(text) is not None
    return Signs(acts, grave, misuse, defence, own, explains, asks)


def targets_in(text: str) -> list[str]:
    """Return the hosts, addresses and networks that a text names, each once."""
    found = [*_ADDRESS.findall(text), *(host.lower() for host in _HOST.findall(text))]
    return list(dict.fromkeys(found))[:MOST]


def command_in(arguments: str) -> str:
    """Return the line of shell in a call's arguments, "" where there is none."""
    try:
        found = msgspec.json.decode(arguments.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        return ""
    for name in ("command", "cmd", "script") if isinstance(found, dict) else ():
        value = found.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return shlex.join(value)
    return ""


def programs_of(command: str) -> list[str]:
    """Return the names of the programs that a line of shell runs, each once, those inside wrappers too."""
    named = (part.words[0] for part in analyse(command).parts if part.words)
    return list(dict.fromkeys(program_name(word) for word in named if word))[:MOST]


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
