"""Secrets that would leave: in calls that send something, and in what was read and goes to a model with a request.

What people write into their own requests is theirs to send, and no finding. What was read may go to whoever issued it,
to a host that a person named, and to one that stood beside it. A secret never stands in a finding: only its kind and
its place do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from lathe.guard.findings import UNTRUSTED, Call, Finding, Material, Part, Provenance, Span
from lathe.guard.reasoner_signs import command_in
from lathe.guard.secret_rules import RuleSet, load_secret_rules
from lathe.guard.secrets import Detector, Found, merged
from lathe.guard.vault import PLACEHOLDER

CLAUSE = "agent.exfiltrate"
_CONFIDENCE = 0.8
_URL = re.compile(r"\b(?:https?|wss?|ftp|s3|ssh|git)://[^\s'\"<>|;`\\]+", re.IGNORECASE)
_SENDERS = re.compile(
    r"(?<![\w.-])(?:curl|wget|nc|ncat|netcat|socat|telnet|ssh|scp|sftp|rsync|ftp|lftp|rclone|sendmail|websocat|gh|glab|"
    r"aws|gcloud|twine|https?\s+(?:GET|POST|PUT|PATCH)|git\s+(?:push|remote|clone)|npm\s+publish|nslookup|dig)(?![\w-])"
)
_SEND_CODE = re.compile(
    r"\b(?:requests|httpx|aiohttp|urllib|http\.client|smtplib|paramiko|fetch|axios|socket)\b\s*[.(]", re.IGNORECASE
)
_SHELL_TOOLS = re.compile(r"exec|shell|bash|command|run|terminal|python|code|stdin", re.IGNORECASE)
_WEB_TOOLS = re.compile(r"fetch|browse|http|web|url|request|upload|post|send|mail|message|navigate", re.IGNORECASE)
_ISSUERS = {"aws": ("amazonaws", "amazon"), "gcp": ("googleapis", "google"), "google": ("googleapis", "google")}
_PREFIX = len("LATHE_SECRET_")
_LOCAL = re.compile(r"(?:localhost|127\.[\d.]+|0\.0\.0\.0|\[?::1\]?)", re.IGNORECASE)


class _Leak(NamedTuple):
    """How a secret would leave, and how likely that is wrong."""

    score: float
    how: str


_GOES_ALONG = _Leak(0.5, "goes to a model with what was read")
_IN_ADDRESS = _Leak(0.85, "would leave within an address")
_SENT = _Leak(0.75, "would be sent, and nobody who asked wrote it")
_GIVEN = _Leak(0.3, "was given by the person and is sent")
_BELONGS = _Leak(0.3, "goes to a host that a person named, or that stood beside it")
_BY_NAME = _Leak(0.3, "is sent by its stand-in, and nothing says that it should not be")
_AT_HOME = _Leak(0.2, "goes to whoever issued it")
"""A key in the address of a page decides; one that is sent otherwise is asked about, for that may well be the task.
What else leaves is only noted."""
_NEAR = 200
"""Letters around a secret within which a host stands beside it."""


class SecretsMonitor:
    """Tells secrets by `rules`: those that come with Lathe, where none are given."""

    def __init__(self, rules: RuleSet | None = None) -> None:
        self._detector = Detector(rules) if rules is not None else _shipped()

    def findings(self, material: Material) -> list[Finding]:
        """Return what would leave, by call and by part; never what the person or the developer wrote."""
        found: list[Finding] = []
        for part in material.parts:
            if part.provenance in UNTRUSTED:
                found += _findings(part.id, part.provenance, {_GOES_ALONG: self._secrets(part.text)})
        return found + self.sent(material.calls, (*material.recent, *material.parts))

    def sent(self, calls: Iterable[Call], thread: Sequence[Part], *, only_read: bool = False) -> list[Finding]:
        """Return what calls would send, after a thread.

        With `only_read` nothing counts but what stands in what was read there and would leave within an address: that
        is for who sees neither what stands behind a stand-in nor all of a thread, and can ask nobody.
        """
        return [one for call in calls if _sends(call) for one in self._of_call(call, thread, only_read)]

    def _of_call(self, call: Call, thread: Sequence[Part], only_read: bool) -> Iterator[Finding]:
        text = call.arguments
        seen = [one for one in self._secrets(text) if not only_read or one.rank >= 0]
        hosts = _hosts(call, seen) if seen else ()
        if hosts and all(_LOCAL.fullmatch(host) for host in hosts):
            return
        addresses = [match.span() for match in _URL.finditer(text)] if seen else []
        leaks: dict[_Leak, list[Found]] = {}
        for one in seen:
            value = text[one.start : one.end]
            holders = [part.text for part in thread if part.provenance in UNTRUSTED and value in part.text]
            in_address = any(_within(text, place, one) for place in addresses)
            if only_read and not (holders and in_address):
                continue
            leak = _origin(one, value, hosts, thread, holders)
            if leak is None:
                leak = _IN_ADDRESS if in_address else _SENT
                named = hosts or any(touch.kind == "service" for touch in call.touches)
                if not in_address and one.rank < 0 and named and not _heard_of(hosts, thread):
                    leak = _BY_NAME
            leaks.setdefault(leak, []).append(one)
        yield from _findings(call.id, "model", leaks, hosts)

    def _secrets(self, text: str) -> list[Found]:
        """Return the secrets, and the placeholders of secrets, in a text."""
        hidden = [Found(*one.span(), one[0][_PREFIX:-9] or "secret", -1) for one in PLACEHOLDER.finditer(text)]
        return merged([*self._detector.find(text), *hidden])


def sent_by(call: Call) -> list[str]:
    """Return the secrets among the arguments of a call that may send them, as far as shipped rules tell."""
    found = _shipped().find(call.arguments) if _sends(call) else []
    return [call.arguments[one.start : one.end] for one in found]


@lru_cache(maxsize=1)
def _shipped() -> Detector:
    return Detector(load_secret_rules())


def _sends(call: Call) -> bool:
    """Return whether a call sends anything anywhere, as far as its words tell."""
    if any(touch.kind in ("host", "service") for touch in call.touches):
        return True
    if "://" in call.arguments and _WEB_TOOLS.search(call.name):
        return True
    line = command_in(call.arguments) or (call.arguments if _SHELL_TOOLS.search(call.name) else "")
    return _SENDERS.search(line) is not None or _SEND_CODE.search(line) is not None


def _hosts(call: Call, seen: Iterable[Found]) -> tuple[str, ...]:
    """Return the hosts that a call names, with no secret in any of their names."""
    named = [touch.name for touch in call.touches if touch.kind == "host"]
    for match in _URL.finditer(call.arguments):
        try:
            named.append(urlsplit(match[0]).hostname or "")
        except ValueError:
            continue
    secrets = [re.compile(re.escape(call.arguments[one.start : one.end]), re.IGNORECASE) for one in seen]
    for secret in secrets:
        named = [secret.sub("*", host) for host in named]
    return tuple(dict.fromkeys(filter(None, named)))


def _origin(
    one: Found, value: str, hosts: Sequence[str], thread: Sequence[Part], holders: Sequence[str]
) -> _Leak | None:
    """Return why a secret may go where it goes, None where nothing says so."""
    own = [part.text for part in thread if part.provenance in ("person", "developer")]
    if hosts and all(_issued_by(one.kind, host) for host in hosts):
        return _AT_HOME
    if any(value in given for given in own):
        return _GIVEN
    around = [text[max(at - _NEAR, 0) : at + len(value) + _NEAR] for text in holders if (at := text.find(value)) >= 0]
    return _BELONGS if hosts and all(_names(host, (*own, *around)) for host in hosts) else None


def _heard_of(hosts: Iterable[str], thread: Iterable[Part]) -> bool:
    """Return whether one of the hosts stands in what a tool or the web gave; a project's files may name any."""
    heard = [part.text for part in thread if part.provenance in ("tool", "web")]
    return any(_names(host, heard) for host in hosts)


def _names(host: str, texts: Iterable[str]) -> bool:
    whole = re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)", re.IGNORECASE)
    return any(whole.search(text) for text in texts)


def _issued_by(kind: str, host: str) -> bool:
    """Return whether a host is that of whoever issues secrets of a kind: `github_pat` is of github.com."""
    labels = host.lower().rstrip(".").split(".")
    issuer = kind.split("_")[0]
    return len(labels) > 1 and labels[-2] in _ISSUERS.get(issuer, (issuer,))


def _within(text: str, address: tuple[int, int], one: Found) -> bool:
    """Return whether a secret stands in an address, but not where one logs in with it (`user:key@host`)."""
    start, end = address
    return start <= one.start and one.end <= end and "@" not in text[one.end : end].partition("/")[0]


def _findings(
    part: str, provenance: Provenance, leaks: Mapping[_Leak, Sequence[Found]], hosts: tuple[str, ...] = ()
) -> Iterator[Finding]:
    where = f" to {', '.join(hosts[:3])}" if hosts else ""
    for leak, seen in leaks.items():
        kinds = list(dict.fromkeys(one.kind for one in seen))
        if kinds:
            yield Finding(
                monitor="secrets",
                clause=CLAUSE,
                score=leak.score,
                spans=tuple(Span(part, one.start, one.end, provenance) for one in seen),
                why=f"A secret ({', '.join(kinds[:3])}) {leak.how}{where}.",
                confidence=_CONFIDENCE,
                evidence={"kinds": kinds, "targets": list(hosts)},
            )
