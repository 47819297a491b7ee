"""The embedded safety reasoner: a judge over act, target and authority that needs no model and no network.

It sees only what the topical monitor passed on. For each new text it weighs the second judgement of the topical model
(request for harm or security work), the acts that the text asks for, what it says of purpose, and where the act is
aimed; for a call, the command that would run. It answers with a clause of the taxonomy, the letters that decided, the
targets, and what is missing for the act to be allowed. Where nothing says so, a text is security work.

Its rules were written, not learnt: a logistic over the same signs, fitted on the public sets, did worse on sources that
it had not seen, and named plain requests for malware as harmless.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from lathe.guard.destructive import examine
from lathe.guard.findings import Call, Finding, Material, Part, Span
from lathe.guard.ladder import Target
from lathe.guard.reasoner_signs import Signs, command_in, is_grave, programs_of, read_signs, relation_of, targets_in
from lathe.guard.targets import Ground
from lathe.guard.taxonomy import Authority, Clause, Relation, Taxonomy
from lathe.guard.topical import Look, TopicalMonitor

MONITOR = "reasoner"
SHIPPED = Path(__file__).parent / "reasoner.json"
WHOLE = 2_000  # characters of a text that is judged as a whole; of a longer one, the window that the topic is in
DOUBT = 0.5  # from which score on an act is named
UNNAMED = "exploit.develop"  # an attack of which no sign says what kind it is


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which score of the topical monitor on a text is judged."""

    passes: float


class Scene(NamedTuple):
    """What is known of whoever asks: their authority, and what targets are to them as gateway and sandbox say.

    `ground` is the workspace, where there is one: with it a command's reach is told.
    """

    authority: Authority = Authority()
    targets: tuple[Target, ...] = ()
    ground: Ground | None = None


@lru_cache(maxsize=1)
def fitted(path: Path = SHIPPED) -> Fitted:
    """Return what was fitted with the shipped model; raise `OSError` or `msgspec.MsgspecError`."""
    return msgspec.json.decode(path.read_bytes(), type=Fitted)


def passage_of(text: str, look: Look) -> tuple[int, str]:
    """Return the passage of a text that is judged, and where it begins."""
    return (0, text) if len(text) <= WHOLE else (look.start, text[look.start : look.end])


def weigh(signs: Signs, harm: float) -> float:
    """Return how likely a text asks for harm, from its signs; `harm` is the topical model's second judgement.

    Whoever asks for an act of attack and names no purpose that protects, or asks for several, asks for harm. An act
    that is only half said is a doubt. An explanation, and work on what is one's own, is none.
    """
    if not signs.acts or signs.explains:
        return 0.1
    bare = signs.defence == 0
    several = len(signs.acts) > 1 and signs.defence <= min(2, signs.misuse)
    if signs.asks and not signs.own and (bare or several):
        return 0.85 + 0.1 * harm
    if signs.asks and (signs.grave or bare):
        return 0.5 + 0.25 * harm
    return 0.2


class Reasoner:
    """Judges with the signs. It keeps nothing between two looks but what the topical monitor remembers."""

    def __init__(self, topical: TopicalMonitor, taxonomy: Taxonomy, passes: float | None = None) -> None:
        self._topical = topical
        self._taxonomy = taxonomy
        self._passes = fitted().passes if passes is None else passes

    def judge(self, material: Material, scene: Scene = Scene()) -> list[Finding]:  # noqa: B008 - it can't be changed
        """Return one finding for each new text that the topical monitor passes on, the gravest first."""
        found: list[Finding] = []
        for part in (*material.parts, *(Part(call.id, call.arguments, "model") for call in material.calls)):
            look = self._topical.look(part.text)
            if look.topic >= self._passes:
                found.append(self._judged(part, look, scene))
        commands = {call.id: _told(call, scene) for call in material.calls}
        for finding in found:
            finding.evidence.update(commands.get(finding.spans[0].part, {}))
        return sorted(found, key=lambda one: (-self._taxonomy.rank(one.clause), -one.score))

    def _judged(self, part: Part, look: Look, scene: Scene) -> Finding:
        offset, passage = passage_of(part.text, look)
        signs = read_signs(passage)
        score = weigh(signs, look.harm)
        targets = targets_in(passage)
        known: dict[str, Relation] = {one.name: one.relation for one in scene.targets}
        relations = [known.get(name, relation_of(name)) for name in targets]
        if score < DOUBT:
            clause, score = "learn.explain" if signs.explains else "work.security_upkeep", 1 - score
            why, letters = "It asks for no act of attack.", [(0, len(part.text))]
        else:
            clause = next(
                (one for one, _, _ in signs.acts if is_grave(one)), signs.acts[0][0] if signs.acts else UNNAMED
            )
            why = f"It asks for {self._taxonomy.clauses[clause].title}."
            letters = [(offset + start, offset + end) for _, start, end in signs.acts] or [(look.start, look.end)]
        by = Authority(scene.authority.tier, scene.authority.scope, tuple(relations))
        evidence = {
            "targets": targets,
            "relations": dict(zip(targets, relations, strict=True)),
            "missing": _missing(self._taxonomy.clauses[clause], by),
        }
        spans = tuple(Span(part.id, start, end, part.provenance) for start, end in letters)
        return Finding(MONITOR, clause, round(score, 6), spans, why, _confidence(score), evidence)


def _told(call: Call, scene: Scene) -> dict[str, list[str]]:
    """Return what the command of a call says: the programs that it runs, and how far it destroys; {} without one."""
    command = command_in(call.arguments)
    if not command:
        return {}
    told = {"programs": programs_of(command)}
    if scene.ground is not None and scene.ground.roots:
        dangers = examine(command, scene.ground, scene.ground.roots[0], {})
        told["destroys"] = sorted({danger.reach for danger in dangers.found})
    return told


def _confidence(score: float) -> float:
    """Return how far a score is to be trusted: least where it could as well be the other."""
    return round(min(1.0, 0.4 + 1.2 * abs(score - 0.5)), 4)


def _missing(clause: Clause, by: Authority) -> list[str]:
    """Return what is missing for the act to be allowed, in the way that lacks least."""
    ways = sorted((way.lacks(by) for way in clause.allowed_by), key=len)
    return list(ways[0]) if ways else ["nothing would allow it"]
