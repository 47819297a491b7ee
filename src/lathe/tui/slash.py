"""Slash commands: their names, what they do, and which one a line means."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

_COMMAND = re.compile(r"/([A-Za-z][\w-]*)(?:\s+(.*))?", re.DOTALL)

COMMANDS = {
    "/help": "keys and commands",
    "/model": "NAME: ask this model from the next turn on",
    "/diff": "what changed since the thread began",
    "/undo": "[N | files]: take back the last turn, the last N, or only its files",
    "/compact": "shorten the conversation at the next step",
    "/status": "thread, tokens, cost, sandbox, approvals",
    "/new": "begin a new thread",
    "/resume": "[ID]: go on with a thread",
    "/quit": "leave",
}
_OTHER_NAMES = {"/exit": "/quit", "/?": "/help"}


class Command(NamedTuple):
    """A command as it was typed; `name` is one of `COMMANDS`, or what was typed where it is none."""

    name: str
    argument: str
    known: bool


def parse(text: str) -> Command | None:
    """Return the command that `text` is, or None for a prompt; a path such as /etc/hosts is no command."""
    found = _COMMAND.fullmatch(text.strip())
    if found is None:
        return Command("/help", "", known=True) if text.strip() == "/?" else None
    name = f"/{found[1].lower()}"
    name = _OTHER_NAMES.get(name, name)
    return Command(name, (found[2] or "").strip(), known=name in COMMANDS)


def unknown(name: str) -> str:
    """Return what to say of a command that does not exist."""
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"There is no {name}. {f'Did you mean {near[0]}?' if near else '/help lists the commands.'}"


def suggestions(text: str) -> list[tuple[str, str]]:
    """Return the commands that `text` may become."""
    if not text.startswith("/") or " " in text or "\n" in text:
        return []
    return [(name, does) for name, does in COMMANDS.items() if name.startswith(text.lower())]
