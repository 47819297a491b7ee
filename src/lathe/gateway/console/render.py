"""Pages from templates: everything is escaped, times and money are written one way."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

HERE = Path(__file__).parent
STATIC = HERE / "static"

NOTICES = {
    "signed-out": "You are signed out.",
    "signed-out-elsewhere": "You are signed out everywhere else.",
    "linked": "The account is linked.",
    "saved": "Saved.",
    "submitted": "The application is submitted. A reviewer will decide it.",
    "approved": "You have approved it.",
    "declined": "You have declined it.",
    "withdrawn": "The application is withdrawn.",
    "appealed": "The appeal is made. A person who had no part in the decision decides it.",
    "appeal-withdrawn": "The appeal is withdrawn.",
    "taken": "The appeal is in your hands.",
    "upheld": "The decision stands, and the person has been told why.",
    "reversed": "The decision is reversed, and what it did is put right.",
    "objected": "You have objected: the proposal has ended.",
    "lift-proposed": "It is proposed. Another person has to approve it.",
    "revoked": "It is revoked, on every replica.",
    "opened": "The engagement is open.",
    "key-revoked": "The key is revoked: it counts no longer, on any replica.",
    "proposed": "The schedule is proposed. Another person has to approve it.",
    "in-force": "The schedule is in force.",
    "proof-kept": "The proof is kept.",
    "mail-sent": "The link is on its way to the address.",
    "group-deleted": "The group is deleted.",
    "passkey-added": "The passkey is added.",
    "passkey-removed": "The passkey is removed, and you are signed out everywhere else.",
}
"""What a page says after something was done, by the word in its address."""


@functools.cache
def environment() -> Environment:
    """Return the environment of all templates; a name that is not known is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(notices=NOTICES, token=token)
    made.filters.update(moment=moment, day=day, money=money, count=count, ago=ago, words=words, state=state, tidy=tidy)
    return made


@pass_context
def token(context: Context) -> Markup:
    """Return the field without which no form is taken."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(context["csrf"])


def render(template: str, **context: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**context)


def moment(at: int | None) -> Markup | str:
    """Return a time in UTC, to the minute; `at` is milliseconds since the epoch."""
    return _time(at, "%Y-%m-%d %H:%M", " UTC")


def day(at: int | None) -> Markup | str:
    """Return the day of a time in UTC."""
    return _time(at, "%Y-%m-%d", "")


def _time(at: int | None, form: str, after: str) -> Markup | str:
    if at is None:
        return "–"
    when = datetime.fromtimestamp(at / 1000, UTC)
    return Markup('<time datetime="{}">{}{}</time>').format(when.isoformat(timespec="seconds"), f"{when:{form}}", after)


@pass_context
def ago(context: Context, at: int | None) -> Markup | str:
    """Return how long ago `at` was, or how long it is until then, in one unit."""
    if at is None:
        return "never"
    seconds = (context["now"] - at) / 1000
    size, unit = _largest(abs(seconds))
    said = "now" if size == 0 else f"{size} {unit} ago" if seconds > 0 else f"in {size} {unit}"
    when = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(when, when, said)


def _largest(seconds: float) -> tuple[int, str]:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return int(seconds // length), unit
    return int(seconds), "s"


def money(micro: int | None) -> str:
    """Return US dollars; `micro` is millionths of one."""
    if micro is None:
        return "–"
    dollars = micro / 1_000_000
    return f"${dollars:,.2f}" if abs(dollars) >= 0.01 or micro == 0 else f"${dollars:.6f}".rstrip("0")


def count(value: int | None) -> str:
    """Return a number with thin spaces between thousands."""
    return "–" if value is None else f"{value:,}".replace(",", "\u2009")


_COLOURS = {
    "live": "good",
    "reversed": "good",
    "lifted": "good",
    "waiting": "warn",
    "taken": "warn",
    "appealed": "warn",
    "in_force": "bad",
    "approved": "good",
    "approve": "good",
    "active": "good",
    "done": "good",
    "serve": "good",
    "submitted": "warn",
    "proposed": "warn",
    "not_begun": "warn",
    "open": "warn",
    "declined": "bad",
    "decline": "bad",
    "revoked": "bad",
    "refused": "bad",
    "refuse": "bad",
    "failed": "bad",
    "lost": "bad",
    "invalid": "bad",
}


def state(value: str) -> Markup:
    """Return a state as a word with a dot; the word says it all, the dot is for the eye."""
    colour = _COLOURS.get(value, "")
    return Markup('<span class="state{}">{}</span>').format(f" state-{colour}" if colour else "", words(value))


def tidy(value: object) -> str:
    """Return JSON laid out for reading."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def words(value: object) -> str:
    """Return a name of the code as words: `not_found` is "not found"."""
    return str(value).replace("_", " ").replace("-", " ")
