"""The guard of a replica: judges what is new in a request before it is sent, and sets aside what was blocked before.

What is new is judged by itself, whatever was blocked in its thread before it. What of it is blocked is not served and
stays out of every later request of the project that holds it, on any wire, resumed, forked, retried or compacted; the
next message is served. What is served although it was blocked once is in the thread again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lathe.gateway.dialects import DIALECTS
from lathe.gateway.exchange import Exchange
from lathe.gateway.guarding.answers import AnswerWatch
from lathe.gateway.guarding.conversation import Conversation, Passed, Unseen
from lathe.gateway.guarding.deciding import Asker, Guarded, asker, recorded, targets_of
from lathe.gateway.guarding.monitors import Monitors, Seen, shipped_monitors
from lathe.gateway.guarding.second import SecondLook
from lathe.gateway.guarding.shadow import Shadow
from lathe.gateway.guarding.state import Known, salted
from lathe.gateway.relay import Refused
from lathe.guard.findings import Call, Material, Part
from lathe.guard.intel import Intel
from lathe.guard.ladder import Measure, Situation, allows, decide
from lathe.guard.policy import BLOCKS, Policy, shipped
from lathe.guard.quarantine import Blocked, Looked, blocks_in_a_row, set_aside
from lathe.guard.reasoner import Scene
from lathe.guard.taxonomy import Authority, Taxonomy
from lathe.guard.trial import tried
from lathe.guard.working_days import Clock
from lathe.protocol.errors import ConfigError
from lathe.protocol.ids import short_id
from lathe.protocol.items import Item
from lathe.store.gateway.ledger import LetIn

if TYPE_CHECKING:
    from lathe.gateway.directory import Directory
    from lathe.gateway.settings import GuardTable
    from lathe.gateway.upstreams import Upstreams
    from lathe.models.provider import WireName
    from lathe.protocol.trust import Retention

_RECENT = 4_000
_NOT_SERVED: dict[str, int] = {"messages": 406}
"""The status of a refusal, where it is not 403: Claude Code takes that for a key that is no good, and asks six times at
400."""
_THREADS = (b"session_id", b"conversation_id", b"session-id")
"""Headers by which clients say which conversation a request is of."""


class _Rights(NamedTuple):
    """By what right a request is made, as access was decided."""

    authority: Authority
    engagement: str
    gated: bool


class Case(NamedTuple):
    """One exchange that is judged: who asks, and by what right."""

    exchange: Exchange
    by: Asker
    rights: _Rights


class Look(NamedTuple):
    """What monitors found in what is new, the items that they were shown by name, the person's last of them.

    `blocks` counts the items before it that were blocked in a row.
    """

    material: Material
    seen: Seen
    blocks: int
    items: Mapping[str, Item]
    last: str


class GatewayGuard:
    """One replica's. `secret` is the installation's, for names and identities that are kept."""

    def __init__(
        self,
        policy: Policy,
        directory: Directory,
        upstreams: Upstreams,
        *,
        secret: bytes,
        clock: Clock,
        second: SecondLook | None = None,
        shadow: Shadow | None = None,
        intel: Intel | None = None,
    ) -> None:
        self.policy = policy
        self.second = second
        self.shadow = shadow
        self.intel = intel
        self.monitors = Monitors({})
        self._ready = False
        self._loading = asyncio.Lock()
        self.clock = clock
        self.secret = secret
        self._directory = directory
        self._upstreams = upstreams
        self._passed = Passed()

    async def load(self) -> None:
        """Load the monitors; no request is judged before, and none is sent."""
        async with self._loading:
            if not self._ready:
                self.monitors = await asyncio.to_thread(shipped_monitors, self.policy, self.intel)
                self._ready = True

    async def before(self, exchange: Exchange, retention: Retention) -> None:
        """Judge a request; raise `Refused` where it is not served, and `BadRequest` where it can't be read.

        What is set aside is no longer in the exchange's request afterwards.
        """
        if not self._ready:
            await self.load()
        guarded = exchange.guarded = exchange.guarded or Guarded(self.policy.hash)
        rights = self._rights(exchange)
        context = _context(exchange.project, exchange.wire, exchange.asked.surface, self.policy.hash, rights)
        talk = Conversation(exchange.wire, exchange.head.fields, context, self._passed)
        case = Case(exchange, self.asker(exchange, talk, retention), rights)
        guarded.answer = AnswerWatch(self, case)
        blocked, known = self._blocked(talk, exchange.project)
        new = newest(talk, blocked, known)
        look = await self._look(case, talk, new, blocked)
        doubted = any(one.monitor == "reasoner" for one in look.seen.findings)
        second = look if self.second is not None and doubted else None
        if second is None:
            self._decide_on(case, look)
        served = frozenset(one.item for one in new)
        for one in talk.unseen:
            if one.item not in served and one.item not in known:
                await self._judge_old(case, one, blocked)
        body = talk.without(blocked, exchange.request.body, keep=served)
        if body is not exchange.request.body:
            guarded.set_aside = tuple(dict.fromkeys(one.decision for one in blocked.values()))
            exchange.request = exchange.request._replace(body=body)
            exchange.head = DIALECTS[exchange.wire].head(body)
        left = {item: why for item, why in blocked.items() if item not in served}
        guarded.drop()
        if second is None:
            self._pass(exchange, talk, left, served & blocked.keys())
        else:
            guarded.pending = asyncio.create_task(self._clear(case, second, talk, left, served & blocked.keys()))

    def _pass(
        self, exchange: Exchange, talk: Conversation, left: Mapping[bytes, Blocked], again: frozenset[bytes]
    ) -> None:
        """Have it known that a request is served: what of it was judged, and what was blocked before."""
        self._let_in(exchange, again)
        talk.remember(left)

    async def _clear(
        self,
        case: Case,
        look: Look,
        talk: Conversation,
        left: Mapping[bytes, Blocked],
        again: frozenset[bytes],
    ) -> None:
        """Have the second look decide; raise `Refused`."""
        assert self.second is not None
        judgement = await self.second.judge(look.material)
        findings = look.seen.findings
        if judgement.state == "ok":
            findings = (*(one for one in findings if one.monitor != "reasoner"), *judgement.findings)
        seen = Seen(findings, {**look.seen.monitors, "reasoner": judgement.state})
        self._decide_on(case, look._replace(seen=seen))
        self._pass(case.exchange, talk, left, again)

    def asker(self, exchange: Exchange, talk: Conversation, retention: Retention) -> Asker:
        """Return who asks."""
        headers = exchange.request.headers
        thread = next((headers[name] for name in _THREADS if headers.get(name)), b"") or talk.first_words()
        return asker(
            self.secret,
            exchange.who,
            request=exchange.id,
            replica=exchange.replica,
            end_user=exchange.asked.end_user,
            thread=thread,
            surface=exchange.asked.surface,
            retention=retention,
            at=exchange.asked.at,
        )

    def _refused(self, exchange: Exchange, measure: Measure, items: Sequence[Blocked]) -> Refused:
        """Return the refusal of a measure that is on record in the exchange; it names the items by what they say."""
        guarded = exchange.guarded
        assert guarded is not None
        extra = {"clause": measure.clause, "decision": guarded.decision, "request_id": exchange.id, **guarded.said}
        if items:
            extra["items"] = [one.identity for one in items]
        status = _NOT_SERVED.get(exchange.wire, 403)
        refused = Refused(status, measure.code, measure.sentence, extra=extra)
        refused.state = "refused"
        return refused

    def _rights(self, exchange: Exchange) -> _Rights:
        access, decision = self._directory.policy, exchange.decision
        model = access.models.get(decision.model)
        return _Rights(
            Authority(decision.tier, access.scope(decision)),
            decision.engagement,
            model is not None and (model.tier != "default" or bool(model.scope)),
        )

    def _blocked(self, talk: Conversation, project: str) -> tuple[dict[bytes, Blocked], set[bytes]]:
        """Return which pieces are set aside, and of which anything is on record."""
        state = self._directory.guard
        if not state.has_items(project):
            return {}, set()
        blocked: dict[bytes, Blocked] = {}
        known: set[bytes] = set()
        for item, _ in talk.items():
            found = state.known(project, salted(self.secret, project, item.hex()))
            if found is not None:
                known.add(item)
                if found.blocked is not None:
                    blocked[item] = found.blocked
        return blocked, known

    async def _look(self, case: Case, talk: Conversation, new: list[Unseen], blocked: Mapping[bytes, Blocked]) -> Look:
        """Return what the monitors find in what is new."""
        material = material_of(new, talk if self.second is not None else None)
        seen = await self.monitors.judge(material, Scene(case.rights.authority))
        looked: list[Looked] = []
        if blocked:
            looked = [Looked(item.hex(), item in blocked) for item, person in talk.items() if person]
            fresh = {one.item.hex() for one in new}
            while looked and looked[-1].identity in fresh:
                looked.pop()
        named = {one.name: one.piece.item for one in new}
        last = next((one.name for one in reversed(new) if one.piece.provenance == "person"), "")
        return Look(material, seen, blocks_in_a_row(looked), named, last)

    def _decide_on(self, case: Case, look: Look) -> None:
        """Decide what follows from a look, and put it on record; raise `Refused` where nothing is served."""
        if self.allows(case, look.seen):
            return
        situation = self.situation(case, look.seen, look.blocks)
        measure = self.decide(situation, case)
        if measure.step == "allow":
            return
        items = set_aside(measure, look.items, newest=look.last, decision="")
        self.put_on_record(case, situation, measure, material=look.material, items=items)
        if measure.blocks:
            raise self._refused(case.exchange, measure, items)

    def allows(self, case: Case, seen: Seen) -> bool:
        """Say whether what was seen is allowed in any situation of the case's; False says nothing."""
        by = case.by
        return self.shadow is None and allows(
            self.policy,
            seen.findings,
            seen.monitors,
            standing=self._directory.guard.standing(by.marks),
            surface=by.surface,
            retention=by.retention,
        )

    def situation(self, case: Case, seen: Seen, blocks: int = 0, call: str = "") -> Situation:
        """Return all that a decision on the exchange rests on; `call` is the name of the call that it is about.

        What a call may change is its caller's to know, so each counts as one that may change something.
        """
        rights, by, access = case.rights, case.by, self._directory.policy
        doubts = self.policy.thresholds.doubts
        grave = any(one.score >= doubts for one in seen.findings if one.monitor != "topical")
        return Situation(
            findings=seen.findings,
            monitors=seen.monitors,
            carries="call" if call else "text",
            risky=bool(call),
            subject=call,
            tier=rights.authority.tier,
            scope=rights.authority.scope,
            targets=targets_of(access, rights.engagement, seen.findings),
            engagement=rights.engagement,
            surface=by.surface,
            retention=by.retention,
            standing=self._directory.guard.standing(by.marks),
            blocks=blocks,
            alternatives=self._alternatives(case.exchange) if grave and rights.gated else (),
            gated=rights.gated,
        )

    def _alternatives(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the models that take no access and that whoever asks may choose now."""
        access, down = self._directory.policy, self._upstreams.down()
        return tuple(
            name
            for name, model in access.models.items()
            if model.tier == "default"
            and not model.scope
            and name != exchange.decision.model
            and access.decide(exchange.who, exchange.asked._replace(model=name), down=down).outcome == "serve"
        )

    def decide(self, situation: Situation, case: Case) -> Measure:
        """Return what follows from a situation. A hold is over at once, for nobody else is asked here."""
        measure = decide(self.policy, situation)
        if self.shadow is not None:
            self.shadow.compare(situation, measure, case.by.at)
        if measure.step != "hold":
            return measure
        blocks = measure.then in BLOCKS
        return msgspec.structs.replace(measure, step=measure.then, choices=(), wait_s=0, appealable=blocks)

    def close(self) -> None:
        """Wait for no monitor, and close files."""
        self.monitors.close()
        if self.shadow is not None:
            self.shadow.close()

    def put_on_record(
        self, case: Case, situation: Situation, measure: Measure, *, material: Material, items: tuple[Blocked, ...]
    ) -> tuple[Blocked, ...]:
        """Have a decision written with the exchange, and known here at once; return what it sets aside."""
        id = short_id("dec")
        items = tuple(msgspec.structs.replace(one, decision=id) for one in items)
        row, told = recorded(
            self.policy,
            situation,
            measure,
            case.by,
            id=id,
            items=items,
            secret=self.secret,
            clock=self.clock,
            material=material if measure.blocks else None,
        )
        assert case.exchange.guarded is not None
        case.exchange.guarded.add(row, measure, told)
        if row.items:
            found = [(kept.item, Known(one)) for kept, one in zip(row.items, items, strict=True)]
            self._directory.guard.add(case.exchange.project, found)
        return items

    def cleaned(self, project: str, wire: WireName, body: bytes) -> bytes:
        """Return a body whose conversation is to be compacted, without what is set aside; raise `BadRequest`."""
        context = hashlib.blake2b(f"compact\0{project}".encode(), digest_size=32).digest()
        talk = Conversation(wire, DIALECTS[wire].head(body).fields, context, self._passed)
        return talk.without(self._blocked(talk, project)[0], body)

    async def _judge_old(self, case: Case, one: Unseen, blocked: dict[bytes, Blocked]) -> None:
        """Judge what stands further up in a conversation, or beside it, and was not seen here before.

        It is set aside or left; for what can't be set aside, `Refused` is raised.
        """
        material = material_of([one])
        seen = await self.monitors.judge(material, Scene(case.rights.authority))
        if self.allows(case, seen):
            return
        situation = self.situation(case, seen)
        measure = self.decide(situation, case)
        if not measure.blocks or measure.step == "restrict":
            return
        if one.number < -1:
            self.put_on_record(case, situation, measure, material=material, items=())
            raise self._refused(case.exchange, measure, ())
        items = set_aside(measure, {one.name: one.piece.item}, newest=one.name, decision="")
        for kept in self.put_on_record(case, situation, measure, material=material, items=items):
            blocked[bytes.fromhex(kept.identity)] = kept

    def _let_in(self, exchange: Exchange, served: frozenset[bytes]) -> None:
        """Have it known that items which were set aside were judged anew and are served."""
        if not served:
            return
        items = [salted(self.secret, exchange.project, item.hex()) for item in served]
        self._directory.guard.add(exchange.project, [(item, Known(None)) for item in items])
        assert exchange.guarded is not None
        exchange.guarded.let_in = [LetIn(exchange.project, item, exchange.asked.at) for item in items]


@lru_cache(maxsize=4096)
def _context(project: str, wire: str, surface: str, policy: str, rights: _Rights) -> bytes:
    """Return what makes what was judged before count for a request too."""
    parts = (project, wire, surface, policy, *map(str, rights))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=32).digest()


def newest(talk: Conversation, blocked: Container[bytes], known: Container[bytes]) -> list[Unseen]:
    """Return what of a conversation is to be judged as new: the person's last words, and what came after them.

    What stands before those has been left behind by them: it is set aside by itself where it must be. What was blocked
    and comes last is asked for again; what was let in is judged no more.
    """
    new = [one for one in talk.unseen if one.new and (one.number, one.place) >= talk.last_words]
    return [one for one in new if one.item not in known or one.item in blocked]


def material_of(unseen: list[Unseen], talk: Conversation | None = None) -> Material:
    """Return what monitors are shown of pieces: texts and calls, and what came right before them."""
    parts = [Part(one.name, one.piece.text, one.piece.provenance) for one in unseen if one.piece.kind != "call"]
    calls = [
        Call(one.name, getattr(one.piece.item, "name", ""), one.piece.text)
        for one in unseen
        if one.piece.kind == "call"
    ]
    before = talk.recent() if talk is not None else ()
    recent = [Part("", piece.text[:_RECENT], piece.provenance) for piece in before if piece.text]
    return Material(parts=tuple(one for one in parts if one.text), calls=tuple(calls), recent=tuple(recent))


def open_guard(
    settings: GuardTable, directory: Directory, upstreams: Upstreams, *, secret: bytes, home: Path
) -> GatewayGuard | None:
    """Return the guard that the settings ask for, None where they want none; raise `ConfigError`."""
    if not settings.enabled:
        return None
    policy, second, shadow = check_guard(settings, upstreams)
    intel = Intel(home)
    return GatewayGuard(
        policy,
        directory,
        upstreams,
        secret=secret,
        clock=clock_of(settings),
        second=second,
        shadow=Shadow(shadow, home / "gateway" / "guard-shadow.jsonl") if shadow is not None else None,
        intel=intel,
    )


def check_guard(settings: GuardTable, upstreams: Upstreams) -> tuple[Policy, SecondLook | None, Policy | None]:
    """Return the policy, the second look and the policy to be tried that the settings ask for; raise `ConfigError`."""
    policy = policy_of(settings)
    second = SecondLook(upstreams, settings.reasoner, policy.taxonomy) if settings.reasoner else None
    return policy, second, Policy.load(Path(settings.shadow), policy.taxonomy) if settings.shadow else None


def policy_of(settings: GuardTable) -> Policy:
    """Return the guard's policy; raise `ConfigError`, also where a case of its own fails."""
    if not settings.policy and not settings.taxonomy:
        return shipped()
    taxonomy = Taxonomy.load(Path(settings.taxonomy)) if settings.taxonomy else None
    policy = Policy.load(Path(settings.policy), taxonomy) if settings.policy else Policy.load(taxonomy=taxonomy)
    if failed := tried(policy).failures:
        raise ConfigError(f"The guard's policy fails a case of its own: {failed[0].case}.", code="guard_file")
    return policy


def clock_of(settings: GuardTable) -> Clock:
    """Return the clock by which appeals are decided."""
    return Clock.of(settings.calendar)
