"""What the agent did, read from the conversation: the history that the monitor of misalignment looks at."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lathe.agent.verdict import NO_WORKAROUND
from lathe.guard.history import Act, Edit, History
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    ToolCall,
    text_of,
)
from lathe.tools.patch import AddFile, PatchError, Section, UpdateFile, parse_patch
from lathe.tools.patch_command import intercepted_patch

_ENDED = re.compile(r"(?:exit (\d+)|killed by signal (\d+)[^\n·]*) · ")
_RUNNING = re.compile(r"running, session (\d+)")
_CONTEXT = re.compile(r"\s*<context_")
_MOST_OUTPUT = 4000
_MOST_TASK = 8000


def history_of(items: Sequence[Item], *, cwd: Path, roots: Sequence[str], home: Path, own: Sequence[str]) -> History:
    """Return what was asked and done in a conversation; `own` are folders of Lathe's own beside the usual ones."""
    asked = [text_of(one) for one in items if isinstance(one, Message) and one.role == "user"]
    task = "\n".join(text for text in asked if not _CONTEXT.match(text))
    acts = tuple(acts_of(items, cwd))
    return History(task=task[-_MOST_TASK:], roots=tuple(roots), home=str(home), own=tuple(own), acts=acts)


def acts_of(items: Sequence[Item], cwd: Path) -> Iterator[Act]:
    """Yield the calls of a conversation that ran or were refused, in order, with what came of them."""
    outputs = {
        one.call_id: one.output if isinstance(one.output, str) else ""
        for one in items
        if isinstance(one, FunctionCallOutput | CustomToolCallOutput)
    }
    sessions: dict[int, Act] = {}
    for item in items:
        if not isinstance(item, FunctionCall | CustomToolCall) or item.call_id not in outputs:
            continue
        output = outputs[item.call_id]
        act = act_of(item, cwd)
        if item.name == "write_stdin":
            act = _continued(item, act, sessions)
        if NO_WORKAROUND in output:
            yield msgspec.structs.replace(act, refused=output)
            continue
        running = _RUNNING.match(output)
        if running is not None:
            sessions[int(running[1])] = act
        ended = _ENDED.match(output)
        if ended is None and running is None and act.kind == "command":
            continue  # it was not run at all
        status = None if ended is None else int(ended[1]) if ended[1] else 128 + int(ended[2])
        yield msgspec.structs.replace(act, exit=status, output=output[-_MOST_OUTPUT:])


def act_of(call: ToolCall, cwd: Path) -> Act:
    """Return a call as an act that has not run yet."""
    plain = _arguments(call)
    if call.name == "exec_command":
        command, folder = _command(plain), str(cwd / str(plain.get("workdir") or ""))
        patch = intercepted_patch(command)
        if patch is None:
            return Act(id=call.call_id, text=command, cwd=folder)
        base = Path(folder, patch.directory or "")
        return Act(id=call.call_id, kind="patch", cwd=folder, edits=tuple(edits_of(patch.text, base)))
    if call.name == "apply_patch":
        text = call.input if isinstance(call, CustomToolCall) else str(plain.get("input") or plain.get("patch") or "")
        return Act(id=call.call_id, kind="patch", cwd=str(cwd), edits=tuple(edits_of(text, cwd)))
    if call.name == "write_stdin":
        return Act(id=call.call_id, text=str(plain.get("chars") or ""), cwd=str(cwd))
    arguments = call.input if isinstance(call, CustomToolCall) else call.arguments
    return Act(id=call.call_id, kind="tool", text=f"{call.name} {arguments}", cwd=str(cwd))


def edits_of(patch: str, base: Path) -> Iterator[Edit]:
    """Yield the edits of a patch whose paths are below `base`; none where it can't be read."""
    try:
        sections = parse_patch(patch).sections
    except PatchError:
        return
    for section in sections:
        yield _edit(section, base)


def _edit(section: Section, base: Path) -> Edit:
    path = str(base / section.path)
    if isinstance(section, AddFile):
        return Edit(path, "", "\n".join(section.lines), "add")
    if not isinstance(section, UpdateFile):
        return Edit(path, kind="delete")
    lines = [line for hunk in section.hunks for line in hunk.lines]
    removed, added = ("\n".join(text for mark, text in lines if mark == wanted) for wanted in "-+")
    return Edit(path, removed, added)


def _continued(call: ToolCall, act: Act, sessions: dict[int, Act]) -> Act:
    """Return what is typed into a session, or the session's own command where nothing is: its end is told here."""
    number = _arguments(call).get("session_id")
    session = sessions.get(number) if isinstance(number, int) else None
    if session is None or act.text.strip():
        return act
    return msgspec.structs.replace(session, id=call.call_id)


def _arguments(call: ToolCall) -> dict[str, Any]:
    if isinstance(call, CustomToolCall):
        return {}
    try:
        plain = json.loads(call.arguments)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def _command(plain: dict[str, Any]) -> str:
    given = plain.get("cmd") or plain.get("command") or ""
    if isinstance(given, list):
        words = [str(word) for word in given]
        return words[2] if len(words) == 3 and words[1] in ("-c", "-lc") else shlex.join(words)
    return str(given)
