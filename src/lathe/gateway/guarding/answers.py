"""Answers as they are given: their words are judged as they grow, their calls before they are whole for the caller.

Nothing waits for a judgement but the piece that it is of. A stream from which something is withheld ends there in the
way that each wire has for that: `content_filter`, or the stop reason `refusal`. In a whole answer a line stands in its
place. Whoever asked keeps what came before, and the next message is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lathe.gateway.exchange import Withheld
from lathe.gateway.guarding.conversation import Conversation, Passed
from lathe.gateway.guarding.monitors import Seen
from lathe.gateway.guarding.pieces import Piece, pieces_of, withheld
from lathe.guard.findings import Call, Material, Part
from lathe.guard.quarantine import Blocked, notice_line, set_aside
from lathe.guard.reasoner import Scene
from lathe.guard.reasoner_signs import command_in
from lathe.models.provider import WireName
from lathe.protocol.items import FunctionCall, Item, assistant_message

if TYPE_CHECKING:
    from lathe.gateway.guarding.guard import Case, GatewayGuard

_STEP = 500
"""Characters after which words are judged again, with those before them."""
_WINDOW = 2_000


class AnswerWatch:
    """Judges one answer while it comes."""

    def __init__(self, guard: GatewayGuard, case: Case) -> None:
        self._guard = guard
        self._case = case
        self._text = ""
        self._fresh: list[str] = []
        self._size = 0
        self._count = 0

    def say(self, text: str) -> None:
        """Take over words; raise `Withheld` where they are not to be passed on."""
        self._fresh.append(text)
        self._size += len(text)
        if self._size >= _STEP:
            self._look_back()

    async def call(self, id: str, name: str, arguments: str) -> None:
        """Take over a whole call; raise `Withheld`."""
        if why := await self._judged_call(FunctionCall(id, name, arguments), name, arguments):
            raise Withheld(why.code, notice_line(why))

    def end(self) -> None:
        """Say that the answer is whole; raise `Withheld`."""
        if self._fresh:
            self._look_back()

    async def whole(self, wire: WireName, elements: list[Any]) -> list[Any] | None:
        """Return the elements of a whole answer without what is withheld, None where all of it goes on."""
        changed: dict[int, Any] = {}
        for number, element in enumerate(elements):
            for piece in sorted(pieces_of(wire, element), key=lambda one: -one.at):
                if why := await self._judged_piece(piece):
                    given = changed.get(number, element)
                    changed[number] = withheld(wire, given, piece, notice_line(why)) if given is not None else None
        if not changed:
            return None
        kept = [changed.get(number, element) for number, element in enumerate(elements)]
        return [one for one in kept if one is not None]

    def _look_back(self) -> None:
        text = (self._text + "".join(self._fresh))[-max(_WINDOW, self._size + _STEP) :]
        self._text = text[-_WINDOW:]
        self._fresh.clear()
        self._size = 0
        if why := self._judged_text(assistant_message(text), text):
            raise Withheld(why.code, notice_line(why))

    async def _judged_piece(self, piece: Piece) -> Blocked | None:
        if not piece.text or piece.kind == "thought":
            return None
        if piece.kind == "call":
            return await self._judged_call(piece.item, getattr(piece.item, "name", ""), piece.text)
        return self._judged_text(piece.item, piece.text)

    def _judged_text(self, item: Item, text: str) -> Blocked | None:
        """Return why a text is withheld, None where it is not; it waits for no monitor that is slow."""
        part = self._part()
        material = Material(parts=(Part(part, text, "model"),))
        return self._decided(self._guard.monitors.at_once(material, self._scene), material, part, item)

    async def _judged_call(self, item: Item, tool: str, arguments: str) -> Blocked | None:
        """Return why a call is withheld, None where it is not."""
        part = self._part()
        call = Call(part, tool, arguments)
        material = Material(calls=(call,), recent=self._read(call))
        seen = self._aimed(await self._guard.monitors.judge(material, self._scene), arguments)
        return self._decided(seen, Material(calls=(call,)), part, item)

    def _aimed(self, seen: Seen, arguments: str) -> Seen:
        """Return what was seen with the hosts that acts are aimed at, where an engagement may hold them."""
        intel = self._guard.intel
        if not self._case.rights.engagement or intel is None or all(one.monitor != "acts" for one in seen.findings):
            return seen
        from lathe.guard.aims import aimed

        return seen._replace(findings=aimed(seen.findings, [command_in(arguments)], intel.current().look))

    def _read(self, call: Call) -> tuple[Part, ...]:
        """Return the texts of the request where a call sends a secret that stands in it, () for all others."""
        from lathe.guard.secrets_monitor import sent_by

        exchange = self._case.exchange
        body = exchange.request.body
        if not any(value.encode("utf-8", "replace") in body for value in sent_by(call)):
            return ()
        talk = Conversation(exchange.wire, exchange.head.fields, b"", Passed())
        return tuple(Part(one.name, one.piece.text, one.piece.provenance) for one in talk.unseen)

    @property
    def _scene(self) -> Scene:
        return Scene(self._case.rights.authority)

    def _part(self) -> str:
        self._count += 1
        return f"answer_{self._count}"

    def _decided(self, seen: Seen, material: Material, part: str, item: Item) -> Blocked | None:
        guard, case = self._guard, self._case
        if guard.allows(case, seen):
            return None
        situation = guard.situation(case, seen, call=part if material.calls else "")
        measure = guard.decide(situation, case)
        if measure.step == "allow":
            return None
        items = set_aside(measure, {part: item}, newest=part, decision="") if measure.blocks else ()
        kept = guard.put_on_record(case, situation, measure, material=material, items=items)
        return kept[0] if kept else None


async def judged_whole(wire: WireName, watch: AnswerWatch, body: bytes) -> bytes:
    """Return a whole answer in `wire` without what is withheld of it; the same bytes where nothing is."""
    answer: Any = msgspec.json.decode(body)
    if not isinstance(answer, dict):
        return body
    if wire == "messages":
        kept = await watch.whole(wire, [{"role": "assistant", "content": answer.get("content")}])
        if kept is None:
            return body
        answer["content"] = kept[0]["content"] if kept else []
    elif wire == "responses":
        output = answer.get("output")
        kept = await watch.whole(wire, output) if isinstance(output, list) else None
        if kept is None:
            return body
        answer["output"] = kept
    else:
        changed = False
        for choice in answer.get("choices") or ():
            message = choice.get("message") if isinstance(choice, dict) else None
            if isinstance(message, dict) and (kept := await watch.whole(wire, [message])) is not None:
                choice["message"], changed = kept[0] if kept else {"role": "assistant", "content": ""}, True
        if not changed:
            return body
    return msgspec.json.encode(answer)
