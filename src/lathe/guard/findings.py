"""What monitors are shown, and what they say of it. Pure data: a finding never decides anything by itself."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

Provenance: TypeAlias = Literal["person", "developer", "model", "tool", "file", "web"]
"""Who wrote a text: the person, the application's developer, the model, or what a tool, a file or the web gave."""
PROVENANCES: tuple[Provenance, ...] = ("person", "developer", "model", "tool", "file", "web")
UNTRUSTED: frozenset[Provenance] = frozenset({"tool", "file", "web"})
"""Texts that were only read: they speak for nobody, and can't approve, widen or spend."""
TargetKind: TypeAlias = Literal["host", "file", "package", "repository", "process", "service"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of new text. `id` names the item (and the part of it) that the text is of."""

    id: str
    text: str
    provenance: Provenance


class Touch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a call acts on; `writes` says whether it may be changed by it."""

    kind: TargetKind
    name: str
    writes: bool = False


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call before it runs. `arguments` is the text that the model wrote: JSON, or a freeform input."""

    id: str
    name: str
    arguments: str
    touches: tuple[Touch, ...] = ()


class Material(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is new and is to be looked at. `recent` is the thread before it in short, the newest last."""

    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    recent: tuple[Part, ...] = ()


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where evidence lies: the letters `start` to `end` (not included) of a part, or of the arguments of a call."""

    part: str
    start: int
    end: int
    provenance: Provenance


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A monitor's label.

    `clause` is an id of the taxonomy, `score` how likely it fits (0 to 1), `confidence` how far the monitor trusts
    that (0 to 1), `why` one sentence for the person. `evidence` holds what machines need; its `targets`, a list of
    names, says at which targets the act is aimed, where the monitor can tell.
    """

    monitor: str
    clause: str
    score: float
    spans: tuple[Span, ...] = ()
    why: str = ""
    confidence: float = 1.0
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets that this finding is about, () where it does not say."""
        named = self.evidence.get("targets", ())
        return tuple(one for one in named if isinstance(one, str)) if isinstance(named, list | tuple) else ()

    @property
    def sound(self) -> bool:
        """Whether its figures are what they are said to be. A monitor that gives others is taken for a wrong one."""
        figures = (self.score, self.confidence)
        return all(math.isfinite(one) and 0 <= one <= 1 for one in figures) and all(
            0 <= span.start <= span.end for span in self.spans
        )

    @property
    def only_read(self) -> bool:
        """Whether all of its evidence lies in texts that speak for nobody."""
        return bool(self.spans) and all(span.provenance in UNTRUSTED for span in self.spans)
