"""One request under way: who asked for what, what was decided, what it came to, and what is written of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from lathe.gateway.dialects import estimate_tokens
from lathe.gateway.limits import MICRO, Hold
from lathe.gateway.principals import Asked, Principal
from lathe.gateway.receipts import Receipt, signed
from lathe.gateway.receipts import Usage as Tokens
from lathe.gateway.signing import Signer
from lathe.models.catalogue import ModelInfo, cost
from lathe.models.provider import WireName
from lathe.protocol.ids import short_id
from lathe.protocol.usage import Usage
from lathe.store.gateway.ledger import Opened, Settled

if TYPE_CHECKING:
    from lathe.gateway.dialects import Head
    from lathe.gateway.guarding.deciding import Guarded
    from lathe.gateway.policy import Decision
    from lathe.gateway.remembering import Wish
    from lathe.gateway.upstreams import Upstream


class Told(Protocol):
    """What an answer says of itself."""

    @property
    def usage(self) -> Usage | None: ...


class Withheld(Exception):
    """That the guard does not let the rest of an answer pass on; `code` says why in a word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


MOST_TOKENS = 1_000_000_000
"""More than any request uses."""


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Line(NamedTuple):
    """A line of a batch."""

    batch: str
    number: int


def _fitting(text: str, most: int) -> str:
    """Return what a column of `most` characters can hold of `text`; PostgreSQL holds no NUL."""
    return text[:most].replace("\0", "\ufffd")


def _bounded(usage: Usage) -> Usage:
    """Return counts that can be: an upstream may say anything, and what it says is charged."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "cache_write_tokens")
    return msgspec.structs.replace(usage, **{name: min(max(getattr(usage, name), 0), MOST_TOKENS) for name in names})


class Request(NamedTuple):
    """A request that has been read; the names of `headers` are in lower case. `line` is the one of a batch that it is.

    The answer to a line is written with its record.
    """

    who: Principal
    wire: WireName
    headers: Mapping[bytes, bytes]
    body: bytes
    line: Line | None = None


class Exchange:
    """A request. `began` is monotonic seconds; `served` is "" until a model answers, `info` what is known of it,
    `written` is done when the request is on record. `wish` and `whole` say what is kept of it besides, `passed` counts
    the events of a stream that went on to the caller, `response_id` is what the answer calls itself, `left_out` names
    the hosted tools that its upstream was not offered, `guarded` is what the guard makes of it."""

    __slots__ = (
        "asked",
        "began",
        "decision",
        "first_byte",
        "guarded",
        "head",
        "hold",
        "id",
        "info",
        "left_out",
        "passed",
        "project",
        "replica",
        "request",
        "response_id",
        "served",
        "upstream",
        "usage",
        "who",
        "whole",
        "wire",
        "wish",
        "written",
    )

    def __init__(self, request: Request, head: Head, asked: Asked, decision: Decision, replica: str) -> None:
        self.id = short_id("req")
        self.request = request
        self.wire = request.wire
        self.who = who = request.who
        self.head = head
        self.asked = asked
        self.decision = decision
        self.replica = replica
        self.written: asyncio.Future[None] | None = None
        self.wish: Wish | None = None
        self.whole = False
        self.passed = 0
        self.guarded: Guarded | None = None
        self.left_out: tuple[str, ...] = ()
        self.response_id = ""
        self.project = who.project
        self.served = ""
        self.upstream: Upstream | None = None
        self.info: ModelInfo | None = None
        self.usage = Usage()
        self.hold: Hold | None = None
        self.began = time.perf_counter()
        self.first_byte = 0.0

    def tell(self, told: Told) -> None:
        """Take over what an answer says of itself."""
        usage = told.usage
        if usage is not None:
            counts = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
            self.usage = usage if min(counts) >= 0 and max(counts) <= MOST_TOKENS else _bounded(usage)
        else:
            self.estimate()

    def estimate(self) -> None:
        """Reckon the usage of an answer that does not say it, or whose caller left: an event is about a token."""
        if self.usage == Usage():
            tokens = estimate_tokens(self.request.body, self.head.fields)
            self.usage = Usage(input_tokens=tokens, output_tokens=self.passed)

    def opened(self, reserved: int) -> Opened:
        """Return what is written before the request is sent."""
        who, asked = self.who, self.asked
        return Opened(
            self.id,
            asked.at,
            self.replica,
            who.organisation,
            self.project,
            who.user,
            who.key,
            asked.end_user,
            asked.surface,
            asked.region,
            self.wire,
            _fitting(asked.model, 200),
            "",
            self.decision.tier,
            reserved,
        )

    def settled(self, state: str, status: int, code: str, signer: Signer) -> Settled:
        """Return what is written when it has ended, with its receipt; what was set aside is made right."""
        usage, info, who = self.usage, self.info, self.who
        spent = cost(usage, info) if info is not None else None
        charge = round((spent or 0.0) * MICRO) if state != "failed" else 0
        if self.hold is not None:
            self.hold.settle(usage.input_tokens + usage.output_tokens, charge)
        ended = now_ms()
        text, signature = signed(self._receipt(status, code if state != "refused" else "", ended, charge), signer)
        return Settled(
            self.id,
            who.key,
            self.project,
            who.organisation,
            state,
            status,
            _fitting(code, 64),
            self.served,
            charge,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            ended,
            text,
            signature,
            signer.key_id,
        )

    def _receipt(self, status: int, failure: str, ended: int, charge: int) -> Receipt:
        who, asked, decision, usage = self.who, self.asked, self.decision, self.usage
        return Receipt(
            id=self.id,
            at=asked.at,
            organisation=who.organisation,
            project=self.project,
            key=who.key,
            user=who.user,
            end_user=asked.end_user,
            requested=asked.model,
            served=self.served,
            wire=self.wire,
            surface=asked.surface,
            region=asked.region,
            tier=decision.tier,
            entitlement=decision.entitlement,
            engagement=decision.engagement,
            outcome=decision.outcome,
            clause=decision.clause,
            code=decision.code,
            substitution=decision.substitution,
            no_fallback=asked.no_fallback,
            policy=decision.policy,
            status=status,
            failure=failure,
            ended=ended,
            usage=Tokens(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens),
            cost=charge,
            replica=self.replica,
            **(self.guarded.on_receipt if self.guarded is not None else {}),
        )
