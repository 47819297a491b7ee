"""Secrets of one thread: hidden behind placeholders on the way out, put back in on the way in.

Values live in memory only. A placeholder is `LATHE_SECRET_`, a kind, and eight hexadecimal digits of an HMAC of the
value, so the same secret has the same placeholder in every turn and thread; the key is kept below $LATHE_HOME.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lathe.guard.secret_rules import RuleSet, entropy
from lathe.guard.secrets import Detector, Found, merged
from lathe.protocol.errors import StorageError

PLACEHOLDER = re.compile(r"LATHE_SECRET_[a-z0-9_]*?_([0-9a-f]{8})")
SHORTEST = 8
"""Characters from which a value is looked for wherever it stands."""

_KEY_FILE = "secrets.key"
_KEY_BYTES = 32
_TOLD_KINDS = 4
_ARMOUR = re.compile(r"-----[A-Z0-9 ]+-----")
_BODY = re.compile(r"[A-Za-z0-9+/=]{8,}\Z")  # base64, behind what a listing puts before a line
_PLAIN = re.compile(r"[\w.~-]+", re.ASCII)
_UNFINISHED_RUN = 6
_TOKEN_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_+/=.~-"
_FOUR = re.compile(r"[A-Za-z0-9]{4}")
_KEY_BEGINS = "-----BEGIN"
_KEY_ENDS = re.compile(r"-----END[ A-Z0-9]*-----")
_LONGEST_KEY = 32 * 1024


class UnknownPlaceholder(ValueError):
    """A placeholder whose value this process has not seen; the message is one sentence for the model."""


class Vault:
    """Hides and reveals the secrets of one thread.

    `home` is $LATHE_HOME. `rules` gives what tells secrets, when the first text is looked through. `known` are
    values to hide wherever they stand, with the names of their kinds. `counts` says how many secrets of each kind were
    hidden, `told` whether the person knows.
    """

    def __init__(self, home: Path, rules: Callable[[], RuleSet], known: Iterable[tuple[str, str]] = ()) -> None:
        self._home = home
        self._rules = rules
        self._detector: Detector | None = None
        self._key = b""
        self._values: dict[str, str] = {}  # by digest
        self._placeholders: dict[str, str] = {}  # by value
        self._sought: list[str] = []  # values that are looked for everywhere
        self._kinds: dict[str, str] = {}
        self._literal: set[str] = set()
        self._given = [(value, kind) for value, kind in known if len(value) >= SHORTEST]
        self.counts: Counter[str] = Counter()
        self.told = False

    def hide(self, text: str) -> str:
        """Return `text` with every secret in it replaced; raise `StorageError` where the key can't be kept."""
        if not text:
            return text
        detector = self._detector or self._open()
        spans = detector.find(text)
        spans += self._known_in(text)
        taken = [match.span() for match in PLACEHOLDER.finditer(text)] if "LATHE_SECRET_" in text else []
        for start, end in taken:
            self._note_literal(text[start:end])
        if not spans:
            return text
        pieces, at = [], 0
        for found in merged([part for span in spans for part in _parts(text, span)]):
            if any(start < found.end and found.start < end for start, end in taken):
                continue
            pieces += [text[at : found.start], self._placeholder(text[found.start : found.end], found.kind)]
            at = found.end
        return "".join(pieces) + text[at:]

    def reveal(self, text: str, written: Callable[[str, int, str], str] | None = None) -> str:
        """Return `text` with every placeholder replaced by its value; raise `UnknownPlaceholder`.

        `written` returns how a value is to be written at a place of the text, where not as it is.
        """
        if "LATHE_SECRET_" not in text:
            return text

        def value_of(match: re.Match[str]) -> str:
            value = self._values.get(match[1]) or self._given_value(match[1])
            if value is None:
                if match[0] in self._literal:
                    return match[0]
                raise UnknownPlaceholder(
                    f"the value of {match[0]} is not known in this session: look again at the file or the command"
                    " that showed it, and then repeat the call."
                )
            return value if written is None else self.learn(written(text, match.start(), value), value)

        return PLACEHOLDER.sub(value_of, text)

    def learn(self, form: str, value: str) -> str:
        """Return `form`, another way to write `value`; it is hidden like that from now on."""
        if form not in self._kinds and value in self._kinds:
            self._remember(form, self._kinds[value])
        return form

    def waits(self, text: str) -> int:
        """Return up to where `text`, of which more will come, can be looked through now: the rest may be cut.

        What waits is the end of a line that breaks off in a word, and a private key that has begun.
        """
        begun = text.rfind(_KEY_BEGINS, max(0, len(text) - _LONGEST_KEY))
        if begun >= 0 and not _KEY_ENDS.search(text, begun):
            return text.rfind("\n", 0, begun) + 1
        start = text.rfind("\n") + 1
        line = text[start:]
        run = line[len(line.rstrip(_TOKEN_CHARACTERS)) :]
        return start if len(run) >= _UNFINISHED_RUN and _FOUR.search(run) else len(text)

    def summary(self) -> str:
        """Return one sentence for the person about what was hidden so far, "" where nothing was."""
        count = sum(self.counts.values())
        if not count:
            return ""
        kinds = [kind.replace("_", " ") for kind, _ in self.counts.most_common(_TOLD_KINDS)]
        more = f" and {len(self.counts) - _TOLD_KINDS} more kinds" if len(self.counts) > _TOLD_KINDS else ""
        return (
            f"{count} secret{'s' if count > 1 else ''} in outputs hidden from the model ({', '.join(kinds)}{more});"
            " commands and patches still get the real values."
        )

    def _open(self) -> Detector:
        self._detector = Detector(self._rules())
        for value, kind in self._given:
            self._remember_forms(value, kind)
        return self._detector

    def _known_in(self, text: str) -> Iterator[Found]:
        for value in self._sought:
            at = text.find(value)
            while at >= 0:
                yield Found(at, at + len(value), self._kinds[value])
                at = text.find(value, at + len(value))

    def _given_value(self, digest: str) -> str | None:
        """Return a value that is hidden by configuration and was not seen in this process yet."""
        if self._detector is None:
            self._open()
        return next((value for value in self._sought if self._digest(value) == digest), None)

    def _note_literal(self, placeholder: str) -> None:
        # Text that only looks like one, in a page about Lathe say, stands for itself.
        if placeholder[-8:] not in self._values:
            self._literal.add(placeholder)

    def _placeholder(self, value: str, kind: str) -> str:
        placeholder = self._placeholders.get(value)
        if placeholder is None:
            kind = self._kinds.setdefault(value, kind)
            digest = self._digest(value)
            self._values[digest] = value
            placeholder = self._placeholders[value] = f"LATHE_SECRET_{kind}_{digest}"
            self.counts[kind] += 1
            if value not in self._sought and _stands_out(value):
                self._remember_forms(value, kind)
        return placeholder

    def _remember_forms(self, value: str, kind: str) -> None:
        for form in _forms(value):
            self._remember(form, kind)

    def _remember(self, value: str, kind: str) -> None:
        self._kinds.setdefault(value, kind)
        if value not in self._sought and len(value) >= SHORTEST:
            self._sought.append(value)

    def _digest(self, value: str) -> str:
        import hmac

        key = self._key or self._read_key()
        data = value.encode("utf-8", "surrogatepass")
        for attempt in range(1 << 16):
            digest = hmac.digest(key, data + b"\0" * attempt, "sha256").hex()[:8]
            if self._values.get(digest, value) == value:
                return digest
        raise StorageError("There are too many secrets to name them all.")

    def _read_key(self) -> bytes:
        """Return the key of this $LATHE_HOME, made now if there is none; whoever makes it first has made it."""
        path = self._home / _KEY_FILE
        try:
            if not path.exists() or path.stat().st_size != _KEY_BYTES:
                self._home.mkdir(parents=True, exist_ok=True)
                fresh = path.with_name(f"{_KEY_FILE}.{os.getpid()}")
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(os.urandom(_KEY_BYTES))
                if path.exists():
                    path.unlink()  # cut short by a full disk
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, path)
                fresh.unlink()
            self._key = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path} can't be kept: {error.strerror}.", hint="It names what is hidden.") from None
        return self._key


def _parts(text: str, found: Found) -> Iterator[Found]:
    """Yield a span, one of several lines as its lines: so lines stay lines, and a patch or a cut can name one."""
    if "\n" not in text[found.start : found.end]:
        yield found
        return
    line_start = text.rfind("\n", 0, found.start) + 1
    in_diff = text.startswith(("+-----", "------"), line_start)
    at = found.start
    for line in text[found.start : found.end].split("\n"):
        begin = at + (1 if in_diff and at > found.start and line[:1] in ("+", "-", " ") else 0)
        yield from _line_parts(text, begin, at + len(line), found)
        at += len(line) + 1


def _line_parts(text: str, start: int, end: int, found: Found) -> Iterator[Found]:
    """Yield what is secret of one line of a longer secret: all but armour, blanks and what is too short to tell."""
    for piece in re.split(f"({_ARMOUR.pattern})", text[start:end]):
        inside = piece.strip()
        if len(inside) >= SHORTEST and not _ARMOUR.fullmatch(inside):
            body = _BODY.search(inside)
            begin = start + piece.index(inside) + (body.start() if body else 0)
            yield found._replace(start=begin, end=start + piece.index(inside) + len(inside))
        start += len(piece)


def _stands_out(value: str) -> bool:
    """Return whether a value is unlike anything else, so that it is this secret wherever it stands."""
    return len(value) >= SHORTEST and not value.isalpha() and entropy(value) >= 2.5


def _forms(value: str) -> list[str]:
    """Return the value as it is and as shells, JSON, Python and URLs write it."""
    forms = [value]
    if not _PLAIN.fullmatch(value):
        import json
        import shlex
        from urllib.parse import quote

        from lathe.guard.shell_quoting import in_double_quotes

        forms += [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]]
        forms += [quote(value, safe="", errors="replace"), shlex.quote(value)[1:-1], in_double_quotes(value)]
    return list(dict.fromkeys(forms))
