"""A thread's conversation, and what of it is sent: all but what an endpoint has refused by its policy.

A refusal names its cause, or the cause is among what was not in a request before. The smallest part of that is set
aside for good; a larger part only after it has shown that without it the request is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lathe.models.base import Transcript
from lathe.protocol.blocks import Blocked, PolicyRefusal
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    Reasoning,
)
from lathe.store.threads import is_request

_OUTPUTS = FunctionCallOutput | CustomToolCallOutput
_CALLS = FunctionCall | CustomToolCall


class Aside(NamedTuple):
    """What follows from a refusal: `names` of what is set aside, and whether the request may be sent again without.

    What is left out `on_trial` is set aside if it is served then.
    """

    names: tuple[str, ...]
    go_on: bool
    on_trial: bool = False


class Conversation:
    """All items of a thread, and `sent`, the transcript for requests.

    `blocked` is what is set aside, by what it says. Items that joined since the last request are sent as they are,
    also where they say what was set aside before: what is new is judged anew.
    """

    def __init__(
        self, items: Iterable[Item] = (), blocked: tuple[Blocked, ...] = (), *, served: int = 0, refused: int = 0
    ) -> None:
        self._whole = Transcript(items)
        self.blocked = blocked
        self.refused = refused
        self._served = served
        self._judged = len(self._whole.items)
        self._tried: tuple[Blocked, ...] = ()
        self.sent = self._whole
        self._look_again()

    @property
    def items(self) -> list[Item]:
        """Everything, what is set aside too."""
        return self._whole.items

    def append(self, items: Iterable[Item]) -> None:
        """Add `items` at the end."""
        fresh = tuple(items)
        self._whole.append(fresh)
        if self.sent is not self._whole:
            self.sent.append(fresh)

    def replace(self, items: Sequence[Item], *, unserved: int = 0) -> None:
        """Start over with `items`, made of what was sent; the last `unserved` of them were in no request yet.

        Neither were the words right before them that the person has said since the last request.
        """
        new = sum(map(is_request, self._open(self._served, len(self.items)))) if self._served < len(self.items) else 0
        self._whole.replace(items)
        self._served = self._judged = max(0, len(items) - unserved - new)
        self._tried = ()
        self.sent = self._whole

    def serve(self, count: int) -> bool:
        """Take in that a request with the first `count` items was served; return whether more or less is blocked."""
        before, self.refused = self.blocked, 0
        if self.blocked or self._tried:
            from lathe.guard.quarantine import joined, let_in

            fresh = self.items[self._judged : count]
            self.blocked = joined(let_in(self.blocked, fresh), self._tried)
        self._tried = ()
        self._served = self._judged = count
        if self.blocked != before:
            self._look_again()
        return self.blocked != before

    def refuse(self, refusal: PolicyRefusal, *, answer: int = 0, exchange: bool = False) -> Aside:
        """Set aside what a refusal is about and return what follows.

        With `answer` the last so many items are an answer that was refused while it came: they go, and with `exchange`
        what was newly asked for it goes too.
        """
        end = len(self.items) - answer
        unserved = self._open(self._served, end)
        outputs = [item for item in unserved if isinstance(item, _OUTPUTS)]
        words = next((item for item in reversed(unserved) if is_request(item)), None)
        named = [item for item in self._open(0, end) if _is_named(item, refusal)]
        failed, self._tried = self._tried, ()
        self._judged = len(self.items)
        again = words is not None and not outputs and self._is_gone(words)
        self.refused += not again
        rest = [item for item in unserved if item is not words]
        if not (answer or named or outputs or failed or again) and rest and self.refused > 1:
            # The refusal before this one was about other words, or about outputs that are gone.
            self._tried = _as_blocked(rest, refusal)
            self._look_again()
            return Aside(_names(rest), True, on_trial=True)
        asked: list[Item] = [*outputs] or ([words] if words is not None else [])
        chosen = [*self.items[end:], *(asked if exchange else ())] if answer else named or asked
        from lathe.guard.quarantine import joined

        self.blocked = joined(self.blocked, _as_blocked(chosen, refusal))
        self._look_again()
        return Aside(_names(chosen), bool(chosen) and not answer and not any(item is words for item in chosen))

    def _is_gone(self, item: Item) -> bool:
        from lathe.guard.quarantine import identity

        return any(one.identity == identity(item) for one in self.blocked)

    def _open(self, start: int, end: int) -> list[Item]:
        """Return what of a part is sent as it is: all but what was set aside."""
        from lathe.guard.quarantine import identity

        gone = {one.identity for one in self.blocked}
        part = enumerate(self.items[start:end], start)
        return [item for at, item in part if at >= self._judged or identity(item) not in gone]

    def _look_again(self) -> None:
        if not self.blocked and not self._tried:
            self.sent = self._whole
            return
        from lathe.guard.quarantine import without

        fresh = self.items[self._judged :]
        self.sent = Transcript([*without(self.items[: self._judged], (*self.blocked, *self._tried)), *fresh])


def _as_blocked(items: Iterable[Item], refusal: PolicyRefusal) -> tuple[Blocked, ...]:
    from lathe.guard.quarantine import identity

    return tuple(
        Blocked(
            identity=identity(item),
            code=refusal.code,
            clause=refusal.clause,
            decision=refusal.decision,
            id=(item.id or "") if isinstance(item, Reasoning | _CALLS) else "",
        )
        for item in items
    )


def _is_named(item: Item, refusal: PolicyRefusal) -> bool:
    if not refusal.items:
        return False
    from lathe.guard.quarantine import identity

    return identity(item) in refusal.items


def _names(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_name, items)))


def _name(item: Item) -> str:
    """Return what an item is called when the person is told of it."""
    match item:
        case Message(role="assistant") | Reasoning():
            return "the model's answer"
        case Message() if is_request(item):
            return "your message"
        case Message():
            return "what Lathe told the model (instructions, skills, surroundings)"
        case FunctionCall(name=name) | CustomToolCall(name=name):
            return f"a call of {name}"
        case FunctionCallOutput() | CustomToolCallOutput():
            return "what a tool gave"
        case _:
            return "an item of the model's"
