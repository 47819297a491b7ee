"""The taxonomy: what acts are called, how grave they are, and who may do them, as data under review.

Four levels (OpenAI's GPT-5.3-Codex and GPT-5.4 system cards, cyber threat taxonomy): work that is no matter of
security; low-risk dual use; high-risk dual use, which stops short of damage; and harmful acts. A clause is a cell of
it. What makes an act harmful is the act, its target and the authority for it; a word never does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.guard.findings import Provenance
from lathe.guard.reviewed import content_hash, read_reviewed
from lathe.protocol.errors import ConfigError
from lathe.protocol.trust import RANK, Tier

Level: TypeAlias = Literal["benign", "low_risk_dual_use", "high_risk_dual_use", "harmful"]
LEVELS: tuple[Level, ...] = ("benign", "low_risk_dual_use", "high_risk_dual_use", "harmful")
"""How grave, least first."""
Concern: TypeAlias = Literal["misuse", "agent", "injection"]
"""Whose act it is: a person's misuse, the agent's own straying, or a text that gives orders it has no right to."""
Relation: TypeAlias = Literal["own", "engaged", "third", "unclear"]
"""What a target is to whoever acts: their own, within a live engagement, somebody else's, or nobody can tell."""
Bound: TypeAlias = Literal["any", "own", "engaged"]
"""At which targets a way counts: any; only one's own; one's own or those of an engagement."""
Lack: TypeAlias = Literal["tier", "scope", "target"]

SHIPPED = Path(__file__).parent / "taxonomy.yaml"
_ID = re.compile(r"[a-z]+(_[a-z]+)*(\.[a-z]+(_[a-z]+)*)+")
_CODE = re.compile(r"[a-z]+(_[a-z]+)+")
_WORD = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_FULFILS: dict[Bound, frozenset[str]] = {
    "any": frozenset(),
    "own": frozenset({"own"}),
    "engaged": frozenset({"own", "engaged"}),
}


class Authority(msgspec.Struct, frozen=True):
    """By what right somebody acts: their tier, the words of their scope, and what each target is to them."""

    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    targets: tuple[Relation, ...] = ()


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way in which an act is allowed: all of this must hold. `scope` words must all be held."""

    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    targets: Bound = "any"

    def lacks(self, by: Authority) -> tuple[Lack, ...]:
        """Return what is missing for this way; () where nothing is."""
        return (
            *(("tier",) if RANK[by.tier] < RANK[self.tier] else ()),
            *(("scope",) if not set(self.scope) <= set(by.scope) else ()),
            *(("target",) if not self._reaches(by.targets) else ()),
        )

    def _reaches(self, targets: tuple[Relation, ...]) -> bool:
        # an act without a target that anybody can name is not within any
        return self.targets == "any" or (bool(targets) and _FULFILS[self.targets].issuperset(targets))


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An act of this clause in general words, with the facts that decide, and whether it is allowed."""

    say: str
    allowed: bool
    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    targets: tuple[Relation, ...] = ()
    provenance: Provenance = "person"


class CounterExample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An act that looks like one of this clause; it belongs to the clause `belongs`."""

    say: str
    belongs: str


class Clause(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A cell of the taxonomy. `code` is the stable reason in answers; `allowed_by` are ways, none for never.

    `title` fits into a sentence behind "This looks like".
    """

    id: str
    title: str
    code: str
    description: str
    examples: tuple[Example, ...]
    counter_examples: tuple[CounterExample, ...]
    allowed_by: tuple[Way, ...] = ()
    concern: Concern = "misuse"

    @property
    def engagement(self) -> bool:
        """Whether an engagement can allow it."""
        return any(way.targets == "engaged" for way in self.allowed_by)

    def way(self, by: Authority) -> Way | None:
        """Return the first way in which `by` may do this, None where there is none."""
        return next((way for way in self.allowed_by if not way.lacks(by)), None)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    scopes: dict[str, str]
    levels: dict[Level, tuple[Clause, ...]]


class Taxonomy:
    """All clauses. `hash` names this state of them; `version` is what people call it."""

    def __init__(self, file: _File, name: str) -> None:
        self.version = file.version
        self.scopes = file.scopes
        self.levels = file.levels
        self.clauses: dict[str, Clause] = {}
        self._level: dict[str, Level] = {}
        for level, clauses in file.levels.items():
            for clause in clauses:
                if clause.id in self.clauses:
                    raise _wrong(name, clause.id, "stands there twice")
                self.clauses[clause.id] = clause
                self._level[clause.id] = level
        self._check(name)
        self.hash = content_hash([self.version, self.scopes, sorted(self._plain())])

    @classmethod
    def load(cls, path: Path = SHIPPED) -> Taxonomy:
        """Return the taxonomy of a file, once its examples hold; raise `ConfigError` with one sentence."""
        return cls(read_reviewed(path, _File), str(path))

    def level(self, clause: str) -> Level:
        """Return how grave a clause is; raise `KeyError`."""
        return self._level[clause]

    def rank(self, clause: str) -> int:
        """Return how grave a clause is, as a number; raise `KeyError`."""
        return LEVELS.index(self._level[clause])

    def _plain(self) -> Iterator[tuple[str, str]]:
        for clause in self.clauses.values():
            yield clause.id, f"{self._level[clause.id]} {content_hash(clause)}"

    def _check(self, name: str) -> None:
        if missing := [level for level in LEVELS if not self.levels.get(level)]:
            raise ConfigError(f"{name} has no clause at the level {missing[0]}.", code="guard_file")
        if bad := [word for word in self.scopes if not _WORD.fullmatch(word) or word in RANK]:
            raise ConfigError(f"{name}: {bad[0]!r} is no word for a scope, such as cyber.defensive.", code="guard_file")
        codes: dict[str, str] = {}
        for clause in self.clauses.values():
            if wrong := self._fault(clause):
                raise _wrong(name, clause.id, wrong)
            if codes.setdefault(clause.code, clause.id) != clause.id:
                raise _wrong(name, clause.id, f"has the reason code of {codes[clause.code]}")

    def _fault(self, clause: Clause) -> str:
        """Return what is wrong with a clause, as the end of a sentence; "" where nothing is."""
        level = self._level[clause.id]
        words = {word for way in clause.allowed_by for word in way.scope}
        wrong = ""
        if not _ID.fullmatch(clause.id):
            wrong = "is no id, such as exploit.chain"
        elif not _CODE.fullmatch(clause.code):
            wrong = f"has the code {clause.code!r}, which is no word such as cyber_exploit_chain"
        elif not clause.title.strip() or not clause.description.strip():
            wrong = "has no title or no description"
        elif not clause.examples or not clause.counter_examples:
            wrong = "needs at least one example and one counter-example"
        elif level == "benign" and Way() not in clause.allowed_by:
            wrong = "is benign but not allowed to everybody"
        elif level == "harmful" and any(way.targets == "any" for way in clause.allowed_by):
            wrong = "is harmful but allowed at any target"
        elif unknown := words - set(self.scopes):
            wrong = f"names the scope {min(unknown)}, which is not among the scopes"
        else:
            wrong = self._example_fault(clause)
        return wrong

    def _example_fault(self, clause: Clause) -> str:
        for example in clause.examples:
            held = clause.way(Authority(example.tier, example.scope, example.targets)) is not None
            if held != example.allowed:
                said, is_so = ("allowed", "not") if example.allowed else ("not allowed", "allowed")
                return f"says that this is {said}, and by its ways it is {is_so}: {example.say}"
        for counter in clause.counter_examples:
            if counter.belongs == clause.id or counter.belongs not in self.clauses:
                return f"has a counter-example that belongs to {counter.belongs!r}, which is no other clause"
        return ""


@functools.cache
def shipped() -> Taxonomy:
    """Return the taxonomy that Lathe comes with; raise `ConfigError`."""
    return Taxonomy.load()


def _wrong(name: str, clause: str, what: str) -> ConfigError:
    return ConfigError(f"{name}: the clause {clause[:80]} {what}.", code="guard_file")
