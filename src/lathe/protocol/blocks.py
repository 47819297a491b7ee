"""What is set aside of a conversation, and what an endpoint says when it refuses what it was sent by its policy."""

from __future__ import annotations

import msgspec


class Blocked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item that is set aside: its `identity`, its id where it had one, and why. It never holds the content."""

    identity: str
    code: str
    clause: str
    decision: str
    id: str = ""


class PolicyRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an endpoint refused what it was sent. `clause` is "endpoint.policy" where it names none.

    `step` is a step of the guard's ladder. What it names as the cause are `items`, by identity, () where it does not
    say. `notes` are further lines for the person: why, what would allow it, what can be done.
    """

    code: str
    clause: str
    decision: str
    message: str
    step: str = "refuse"
    items: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
