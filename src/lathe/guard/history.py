"""What an agent did, in short: plain data that whoever keeps its journal can fill, for the monitor of misalignment."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["command", "patch", "tool"]


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of one file: the lines taken out and put in, one below the other; `path` is absolute or below `cwd`."""

    path: str
    removed: str = ""
    added: str = ""
    kind: Literal["add", "delete", "update"] = "update"


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call, before it runs or after.

    `text` is the line of shell of a command, what a tool is called with otherwise. Before it runs `exit` is None and
    `output` empty, after that they are its exit status and the end of its output. `refused` says why it was not run,
    "" where it was. `wrote` names files that were seen to change while it ran.
    """

    id: str
    kind: Kind = "command"
    text: str = ""
    cwd: str = ""
    edits: tuple[Edit, ...] = ()
    exit: int | None = None
    output: str = ""
    refused: str = ""
    wrote: tuple[str, ...] = ()


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The thread so far: what the person has said, where the agent may work, and its acts, the newest last.

    `roots` are the absolute folders of the workspace, `own` more folders of Lathe's own.
    """

    task: str = ""
    roots: tuple[str, ...] = ()
    home: str = "/root"
    own: tuple[str, ...] = ()
    acts: tuple[Act, ...] = ()
