"""Orders in texts that were only read: the known patterns, as evidence, and calls that do what such a text wants.

Who wrote a text counts, not what it says of itself: what a tool, a file or the web gave can't approve, widen or spend.
A pattern alone stops nothing, for manuals, tests and mail of people are full of them. What is held is a call that asks
for more than the sandbox gives after such a text, or that goes to an address which stands nowhere else.

Sources of the patterns: AgentDojo, InjecAgent and BIPIA (forms of planted text), and the chat markers of model vendors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from lathe.guard.findings import UNTRUSTED, Call, Finding, Part, Span

Wish: TypeAlias = Literal["spend", "permission", "destroy", "escalation", "send", "network"]
"""What a call asks for beyond reading and the workspace."""
ALWAYS: frozenset[Wish] = frozenset({"spend", "permission", "destroy"})
"""What only the person can want: after a text that was read it is held, whatever the text says."""
_WORDS: dict[Wish, str] = {
    "spend": "spend money",
    "permission": "give somebody a permission or access",
    "destroy": "delete or cancel something",
    "escalation": "run outside the sandbox",
    "send": "send or change something at a service",
    "network": "reach the network",
}
_DOUBT, _SURE = 0.6, 0.9
_CONFIDENCE = 0.8
_MOST_SPANS = 8
_LONGEST = 200_000


class Pattern(NamedTuple):
    """A form in which texts give orders. `score` is below what decides: it is evidence."""

    name: str
    clause: str
    score: float
    form: str


_ALL = r"(?:all |any |the |your |my |of )*"
_PAST = r"(?:previous|prior|above|earlier|preceding|former|original|initial)"
PATTERNS = (
    Pattern(
        "override",
        "injection.order",
        0.75,
        rf"\b(?:ignore|disregard|forget|override|bypass)\b {_ALL}{_PAST} ?(?:\w+ )?"
        r"(?:i\w{1,2}structions?|prompts?|rules?|messages?|context|tasks?|directions?|commands?)"
        r"|\b(?:ignore|forget|disregard) (?:everything|anything|what) (?:above|before|you (?:were|have been) told)",
    ),
    Pattern(
        "first",
        "injection.order",
        0.7,
        r"\bbefore you (?:can |may |could )?(?:solve|do|finish|complete|continue|proceed|answer|start)\b[^.\n]{0,80}"
        r"(?:please |first |you must |do the following)"
        r"|\b(?:do|complete|perform|execute) the following (?:\w+ )?(?:first|instead|before)",
    ),
    Pattern(
        "posing",
        "injection.order",
        0.7,
        r"\bthis is an? (?:very )?(?:important|urgent) message (?:from|for|to)\b"
        r"|\bimportant(?: message| instructions?)?!{2,}"
        r"|\b(?:message|note|instructions?) (?:to|for) (?:the |any |all )?"
        r"(?:ai|llm|assistants?|agents?|language models?)\b",
    ),
    Pattern(
        "marker",
        "injection.order",
        0.7,
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id)\|?>?|\[/?INST\]|<</?SYS>>"
        r"|</?(?:information|system|instructions?|important|admin)>"
        r"|#{2,3} ?\(?(?:system|new instructions?|instructions?)(?:_message)?\b ?[:)]"
        r"|\b(?:new|updated|real|actual) (?:system )?(?:instructions?|prompt|task)\b ?:",
    ),
    Pattern(
        "role",
        "injection.order",
        0.65,
        r"\byou are (?:now|no longer)\b (?:an?|in|the|bound|restricted)"
        r"|\bact as (?:if you (?:were|are)|an unrestricted)\b"
        r"|\b(?:developer|debug|god|dan|jailbreak) mode (?:is )?(?:on|enabled|activated)\b",
    ),
    Pattern(
        "secrecy",
        "injection.order",
        0.7,
        r"\b(?:do not|don't|never) (?:tell|inform|mention|notify|alert|show|ask)\b"
        r"[^.\n]{0,40}\b(?:user|person|human|owner|anyone|operator)\b",
    ),
    Pattern(
        "approval",
        "injection.grant",
        0.75,
        r"\b(?:user|person|owner|admin(?:istrator)?|operator|human|developer) (?:has |have )?(?:already )?"
        r"(?:approved|authori[sz]ed|confirmed|consented|granted|allowed|agreed)\b"
        r"|\b(?:pre-?approved|pre-?authori[sz]ed)\b|\byou (?:now )?(?:have|are granted|are given) (?:full |my |the )?"
        r"(?:permission|authori[sz]ation|approval|consent|access)\b"
        r"|\b(?:approval|confirmation|permission) (?:is |was )?(?:not (?:needed|required|necessary)|granted|given)\b",
    ),
    Pattern(
        "hidden",
        "injection.order",
        0.65,
        "[\U000e0020-\U000e007e]{4,}|[\u200b\u2060-\u2064\ufeff]{6,}|[\u202a-\u202e\u2066-\u2069]{2,}",
    ),
)
_ADDRESS = re.compile(
    r"(?:https?|ftp|wss?|ssh|git)://[^\s'\"<>|;&`()\\]+"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)*"
    r"|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"
    r"|\bwww\.[\w-]+(?:\.[\w-]+)+(?:/[^\s'\"<>]*)?"
    r"|\b[A-Z]{2}\d{2}[A-Z0-9]{10,30}\b"
)
"""What a call is aimed at: addresses of the web and of mail, machines, accounts (ISO 13616)."""
_TOOL_WORDS: dict[Wish, frozenset[str]] = {
    "spend": frozenset(
        {
            *("pay", "payment", "transfer", "transaction", "purchase", "buy", "order", "checkout", "charge", "refund"),
            *(
                "money",
                "book",
                "booking",
                "reserve",
                "reservation",
                "subscribe",
                "donate",
                "withdraw",
                "invoice",
                "bid",
            ),
        }
    ),
    "permission": frozenset(
        {
            *(
                "grant",
                "share",
                "invite",
                "permission",
                "permissions",
                "password",
                "role",
                "access",
                "approve",
                "allow",
            ),
            *("authorize", "authorise", "member", "collaborator", "credential", "token", "key", "owner", "trust"),
        }
    ),
    "destroy": frozenset({"delete", "remove", "cancel", "drop", "purge", "destroy", "revoke", "wipe", "terminate"}),
}
_TOOL_PAIRS: dict[Wish, tuple[frozenset[str], frozenset[str]]] = {
    "permission": (frozenset({"add", "update", "set", "change"}), frozenset({"user", "account", "group"})),
}


def wishes_of(tool: str) -> tuple[Wish, ...]:
    """Return what a tool that may change something asks for, by the words of its name."""
    words = {one.lower() for one in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", tool)}
    found: list[Wish] = [wish for wish, names in _TOOL_WORDS.items() if words & names]
    found += [wish for wish, (verbs, things) in _TOOL_PAIRS.items() if words & verbs and words & things]
    return (*dict.fromkeys(found), "send")


def look(parts: Iterable[Part]) -> list[Finding]:
    """Return which known patterns stand in texts that were only read; of each pattern the first place in a text."""
    found: list[Finding] = []
    for part in parts:
        if part.provenance not in UNTRUSTED:
            continue
        text = part.text[:_LONGEST].replace("\\n", " \n").replace("\\", " ")  # as JSON and YAML quote and fold it
        for pattern, form in _compiled():
            match = form.search(text)
            if match is not None:
                found.append(
                    Finding(
                        monitor="injection",
                        clause=pattern.clause,
                        score=pattern.score,
                        spans=(Span(part.id, *match.span(), part.provenance),),
                        why=f"A text that was only read has the form of an order ({pattern.name}).",
                        confidence=_CONFIDENCE,
                        evidence={"pattern": pattern.name},
                    )
                )
    return found


def follows(call: Call, wishes: Sequence[Wish], recent: Sequence[Part]) -> list[Finding]:
    """Return what is found of a call that asks for something after `recent`, the thread before it with who wrote what.

    With an order in the text from which the call has its address, it is sure; with one of both it is a doubt, and so
    is what only the person can want after anything that was read since the person last spoke.
    """
    read = [part for part in recent if part.provenance in UNTRUSTED]
    if not wishes or not read:
        return []
    said = "\n".join(part.text for part in recent if part.provenance in ("person", "developer")).lower()
    taken = _taken(call.arguments, read, said)
    orders = look(read)
    sources = {span.part for span in taken}
    both = any(span.part in sources for order in orders for span in order.spans)
    spans = (*taken, *(span for order in orders for span in order.spans))[:_MOST_SPANS]
    wish = wishes[0]
    if wish == "network":
        return [_finding(call, wish, _DOUBT, spans, "follows an order to an address in a text")] if both else []
    if both:
        return [_finding(call, wish, _SURE, spans, "follows an order, with the address that stands there, in a text")]
    if taken:
        return [_finding(call, wish, _DOUBT, spans, "goes to an address that stands only in a text")]
    last = max((at for at, part in enumerate(recent) if part.provenance == "person"), default=-1)
    since = [part for part in recent[last + 1 :] if part.provenance in UNTRUSTED]
    fresh = tuple(span for order in orders for span in order.spans if any(span.part == one.id for one in since))
    if fresh:
        return [_finding(call, wish, _DOUBT, fresh[:_MOST_SPANS], "comes after an order in a text")]
    if since and ALWAYS.intersection(wishes):
        whole = tuple(Span(one.id, 0, len(one.text), one.provenance) for one in since[-_MOST_SPANS:])
        return [_finding(call, wish, _DOUBT, whole, "comes after a text")]
    return []


def _finding(call: Call, wish: Wish, score: float, spans: tuple[Span, ...], how: str) -> Finding:
    return Finding(
        monitor="injection",
        clause="injection.grant",
        score=score,
        spans=spans,
        why=f"It would {_WORDS[wish]}, and {how} that was only read: such a text can want nothing.",
        confidence=_CONFIDENCE,
        evidence={"call": call.id, "wish": wish},
    )


def _taken(arguments: str, read: Sequence[Part], said: str) -> tuple[Span, ...]:
    """Return where the addresses of a call stand in what was read, if the person and the application name them not."""
    found: list[Span] = []
    for address in dict.fromkeys(one.rstrip(".,:") for one in _ADDRESS.findall(arguments)):
        lowered = address.lower()
        if lowered in said:
            continue
        for part in read:
            at = part.text.lower().find(lowered)
            if at >= 0:
                found.append(Span(part.id, at, at + len(address), part.provenance))
    return tuple(found)


@functools.cache
def _compiled() -> tuple[tuple[Pattern, re.Pattern[str]], ...]:
    forms = ((one, one.form.replace(" ?", r"\s*").replace(" ", r"\s+")) for one in PATTERNS)
    return tuple((one, re.compile(form, re.IGNORECASE)) for one, form in forms)
