"""YARA rules over files that are written or fetched, by YARA-X (extra `guard`), which is loaded for the first file.

A look is bounded: of a large file the beginning is looked at, and the search ends after a time. That is told, for a
policy says what follows then.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from lathe.guard.findings import Finding, Provenance, Span
from lathe.guard.policy import MonitorState
from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    from yara_x import Rules, Scanner

OWN = Path(__file__).parent / "rules" / "files.yar"
OWN_CONFIDENCE = 0.8
OTHERS_CONFIDENCE = 0.5
"""As for Sigma rules: one of others makes a doubt and never decides."""
LARGEST = 16 * 1024 * 1024
LONGEST_S = 2
_UNSURE = 60
_FOUND = "agent.overreach"
"""The clause of a rule that names none: nobody asked the agent for what is known as malicious."""
_MOST_SPANS = 8
_OUTSIDE = ("filename", "filepath", "extension", "filetype", "owner")
"""Names that rule sets use beside the format, for what stands around a file."""


class YaraSource(msgspec.Struct, frozen=True):
    """A file of rules as it was given: who said so, under which licence ("" where that is not known), and how many."""

    source: str
    text: str
    licence: str = ""
    rules: int = 0


class Compiled(NamedTuple):
    """Rules ready to search with. `names` are the rules of each source, `left` a sentence for each left out."""

    rules: Rules
    names: tuple[tuple[str, ...], ...]
    left: tuple[str, ...]
    licences: tuple[str, ...]


class Looked(NamedTuple):
    """What a look found, and how the monitor did: `late` where time ran out, `flooded` where the file was too large,
    `wrong` where it could not be read."""

    findings: list[Finding]
    state: MonitorState = "ok"


def compiled(sources: Sequence[YaraSource]) -> Compiled:
    """Return the rules of all sources, compiled; raise `ConfigError` where YARA-X is missing or a file is no YARA.

    Files are not included from rules, and a single rule that can't be used is left out.
    """
    try:
        import yara_x
    except ImportError:
        raise ConfigError(
            "YARA rules need YARA-X, which is not installed.", code="guard_yara", hint="pip install 'lathe[guard]'"
        ) from None
    compiler: Any = yara_x.Compiler(relaxed_re_syntax=True, includes_enabled=False)  # its stubs lack a `self` or two
    compiler.ignore_invalid_rules(True)
    for name in _OUTSIDE:
        compiler.define_global(name, "")
    left: list[str] = []
    for at, one in enumerate(sources):
        compiler.new_namespace(f"s{at}")
        try:
            compiler.add_source(one.text, origin=one.source)
        except (yara_x.CompileError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"{one.source} holds no YARA rules: {first}.", code="guard_yara") from None
    for one in compiler.ignored_rules():
        left.append(f"the rule {one.name} can't be used: {str(one.message).removeprefix('error: ')}.")
    left += [
        f"line {one.get('line', 0)} can't be read: {one.get('title', 'an error')}."
        for one in compiler.errors()
        if one.get("type") == "SyntaxError"
    ]
    rules = compiler.build()
    names: list[list[str]] = [[] for _ in sources]
    licences: dict[str, None] = {}
    for rule in rules:
        names[int(rule.namespace[1:])].append(rule.identifier)
        said = _meta(rule)
        licences |= dict.fromkeys(str(said[key]) for key in ("license", "licence", "license_url") if said.get(key))
    return Compiled(rules, tuple(map(tuple, names)), tuple(left), tuple(licences))


class FileMonitor:
    """Rules for files, ready to look with. One may be used by several threads."""

    def __init__(
        self, sources: Sequence[YaraSource] = (), *, largest: int = LARGEST, longest_s: int = LONGEST_S
    ) -> None:
        """`largest` in bytes, `longest_s` in seconds. Raises `ConfigError` as `compiled` does."""
        self._sources = (own_source(), *sources)
        self._compiled = compiled(self._sources)
        self._largest, self._longest_s = largest, longest_s
        self._local = threading.local()

    def look(self, content: Path | bytes, *, part: str = "", provenance: Provenance = "file") -> list[Finding]:
        """Return what is found in a file or in what will be written; never raises. `inspect` says how it went too.

        `part` names the item in spans (else the path does), which count bytes.
        """
        return self.inspect(content, part=part, provenance=provenance).findings

    def inspect(self, content: Path | bytes, *, part: str = "", provenance: Provenance = "file") -> Looked:
        """Return what is found, and the state of the monitor."""
        import yara_x

        named = part
        if isinstance(content, Path):
            named = os.fsencode(content).decode("utf-8", "replace")  # a name need not be text
        name = PurePosixPath(named)
        try:
            data = _head(content, self._largest + 1) if isinstance(content, Path) else content[: self._largest + 1]
        except FileNotFoundError:
            return Looked([])
        except OSError:
            return Looked([], "wrong")
        state: MonitorState = "flooded" if len(data) > self._largest else "ok"
        try:
            scanner = self._scanner()
            around = {"filename": name.name, "filepath": named, "extension": name.suffix}
            for key, value in around.items():
                scanner.set_global(key, value)
            matching = scanner.scan(data[: self._largest]).matching_rules
        except yara_x.TimeoutError:
            return Looked([], "late")
        except yara_x.ScanError:
            return Looked([], "wrong")
        return Looked([self._finding(rule, part or named, provenance) for rule in matching], state)

    def _scanner(self) -> Scanner:
        """Return the scanner of this thread: one can't be shared, and is not cheap to make."""
        import yara_x

        scanner: Scanner | None = getattr(self._local, "scanner", None)
        if scanner is None:
            scanner = yara_x.Scanner(self._compiled.rules)
            scanner.set_timeout(self._longest_s)
            scanner.max_matches_per_pattern(_MOST_SPANS)
            self._local.scanner = scanner
        return scanner

    def _finding(self, rule: Any, part: str, provenance: Provenance) -> Finding:
        source = self._sources[int(rule.namespace[1:])]
        meta, own = _meta(rule), source is own_source()
        score = meta.get("score", _UNSURE)
        what = str(meta.get("description") or rule.identifier)[:200]
        licence = str(meta.get("license") or source.licence)
        return Finding(
            monitor="acts",
            clause=str(meta.get("clause") or _FOUND) if own else _FOUND,
            score=min(max(score, 0), 100) / 100 if isinstance(score, int) else _UNSURE / 100,
            spans=tuple(_spans(rule, part, provenance))[:_MOST_SPANS],
            why=f"A file matches the YARA rule {rule.identifier!r} of {source.source}: {what.rstrip('.')}.",
            confidence=OWN_CONFIDENCE if own else OTHERS_CONFIDENCE,
            evidence={"rule": rule.identifier, "source": source.source, "licence": licence, "tags": list(rule.tags)},
        )


@lru_cache(maxsize=1)
def own_source() -> YaraSource:
    """Return the rules that come with the package."""
    return YaraSource("Lathe", OWN.read_text(encoding="utf-8"), "Apache-2.0")


def _meta(rule: Any) -> Mapping[str, Any]:
    return dict(rule.metadata)


def _spans(rule: Any, part: str, provenance: Provenance) -> Iterator[Span]:
    for pattern in rule.patterns:
        for match in pattern.matches:
            yield Span(part, match.offset, match.offset + match.length, provenance)


def _head(path: Path, most: int) -> bytes:
    """Return the first bytes of a file, none of what is no file; raise `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)
