"""Watching the workspace around calls: what each turn changed, and what the person changed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lathe.agent.verdict import AtRisk
from lathe.protocol.errors import StorageError

if TYPE_CHECKING:
    from lathe.sandbox.writes import Writes
    from lathe.store.undo import By, Change, Observed, Tracker

_MOST_SHOWN = 3
_BACKGROUND = re.compile(r"[\s)]&(?![&>])|&\s*(?:$|[;)\n])")
_MAY_GO_ON = re.compile(
    rf"{_BACKGROUND.pattern}|\b(?:nohup|setsid|disown|daemon\w*|at|batch|tmux|screen|detach)\b|(?<!\S)-d\b"
)
_GOING_ON = frozenset({"nohup", "setsid", "disown", "daemon", "daemonize", "at", "batch", "tmux", "screen"})
_DETACHING = frozenset({"-d", "--detach", "--daemon", "--daemonize"})
_ORDINARY_D = frozenset(
    {
        *("[", "[[", "test", "git", "cut", "base64", "sort", "uniq", "date", "tr", "mktemp", "unzip", "ls", "curl"),
        *("xargs", "read", "paste", "rm", "rmdir", "cp", "grep", "touch", "declare", "tar", "openssl", "patch"),
    }
)
"""Programs whose `-d` has nothing to do with the background."""


def goes_on(command: str) -> bool:
    """Tell whether something that a line of shell starts may go on when the line has ended."""
    if _MAY_GO_ON.search(command) is None:
        return False
    from lathe.guard.shell import analyse, plain_parts
    from lathe.guard.wrappers import program_name

    if plain_parts(command) is None and _BACKGROUND.search(command):
        return True
    analysis = analyse(command)
    if analysis.broken:
        return True
    for part in analysis.parts:
        name = program_name(part.words[0] or "") if part.words else ""
        if name in _GOING_ON or (name not in _ORDINARY_D and not _DETACHING.isdisjoint(part.words[1:])):
            return True
    return False


class _Version(NamedTuple):
    """The hashes of what the person made of a file, and of what it was before."""

    own: bytes
    former: set[bytes]


def _named(paths: Sequence[bytes]) -> str:
    shown = ", ".join(os.fsdecode(path) for path in paths[:_MOST_SHOWN])
    more = f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else ""
    return f"{shown}{more}: a command threw away what the person had written meanwhile; it was put back"


class Watch:
    """Looks at the workspace before and after the calls of a thread, one look at a time.

    `busy` tells whether a command of the agent runs in the background, `baseline` is awaited before a call may change
    anything, `writes` returns the record of what commands wrote, None where there is none that is whole. `trouble` is
    why turns can't be taken back just now, "" where they can.
    """

    def __init__(
        self,
        tracker: Tracker,
        busy: Callable[[], bool],
        baseline: Callable[[], Awaitable[None]] | None = None,
        writes: Callable[[], Writes | None] = lambda: None,
    ) -> None:
        self.trouble = ""
        self.seen: Callable[[Tracker, str, Sequence[Change]], None] = lambda tracker, what, changes: None
        """Is told, in a thread, what a call has changed and which it was."""

        self._baseline = baseline
        self._edited: set[str] = set()
        self._removed: set[str] = set()
        self._versions: dict[bytes, _Version] = {}
        self._put_back: list[bytes] = []
        self._untold: list[bytes] = []
        self._unkept: tuple[str, ...] = ()
        self._tracker = tracker
        self._busy = busy
        self._writes = writes
        self._turn = ""
        self._went_on = False
        self._look: asyncio.Task[None] | None = None
        self._opened = False

    def open(self) -> None:
        """Take the first look beside whatever else is going on."""
        self._look = asyncio.create_task(self._run(self._open))

    def begin_turn(self, turn: str) -> None:
        """From now on changes belong to this turn."""
        self._turn = turn
        self._went_on = False

    async def before(self) -> None:
        """Look before a call that may change something; what has changed is the person's."""
        if self._baseline is not None:
            await self._baseline()
        await self._done()
        unclear = self._unclear()
        await self._run(lambda: self._observe("unclear" if unclear else "person", ""))
        record = self._writes()
        if record is not None and not unclear:
            record.reset()

    def at_risk(self) -> AtRisk:
        """Return the files that no command may do away with unasked."""
        return AtRisk(tuple(sorted(self._edited)), self._unkept, tuple(sorted(self._removed)))

    def running(self) -> None:
        """From now on a command runs whose writes are recorded: what it overwrites of the person's is kept first."""
        record = self._writes()
        if record is not None and self._opened:
            record.first = self._keep

    def _keep(self, path: bytes) -> None:
        inner = self._tracker.relative(path)
        try:
            change = self._tracker.catch(self._turn, inner) if inner is not None else None
        except StorageError as error:
            self.trouble = str(error)
            return
        if change is not None:
            self._guard([change])

    def news(self) -> list[str]:
        """Return a line for the model about files that were put back since the last call."""
        paths, self._untold = self._untold, []
        return [f"[undo: {_named(paths)}]"] if paths else []

    def notices(self) -> list[str]:
        """Return a sentence for the person about the same, since the last call of this."""
        paths, self._put_back = self._put_back, []
        return [f"{_named(paths)}."] if paths else []

    def after(self, what: str, *, recorded: bool = False, agreed: bool = False) -> None:
        """Look after the call, while the model thinks; what has changed is the agent's.

        With `recorded` the call was a command of the sandbox: what it did not write is the person's. Edits of the
        person that it threw away are put back, unless the person has `agreed` to it.
        """
        record = self._writes()
        if record is not None:
            record.first = lambda path: None
        self._went_on = self._went_on or goes_on(what)
        self._look = asyncio.create_task(
            self._run(lambda: self._observe("agent", what[:200], recorded=recorded, agreed=agreed))
        )

    async def settled(self) -> None:
        """Wait until the look after the last call is over."""
        await self._done()

    async def end_turn(self) -> None:
        """Wait until all looks are over, and keep what is known for the next thread."""
        await self._done()
        if self._opened and self._turn:
            if self._unclear():  # what ran in the background may have changed something since the last look
                await self._run(lambda: self._observe("unclear", ""))
            await self._run(self._tracker.save)
        self._went_on = False

    async def aclose(self) -> None:
        """Let the last look end, and close the store."""
        await self._done()
        self._tracker.close()

    def _unclear(self) -> bool:
        return self._went_on or self._busy()

    def _open(self) -> None:
        self._tracker.open()
        self._opened = True
        self._unkept = self._absolute(self._tracker.unkept())

    def _absolute(self, paths: Iterable[bytes]) -> tuple[str, ...]:
        return tuple(os.fsdecode(self._tracker.absolute(path)) for path in paths)

    def _observe(self, by: By, what: str, *, recorded: bool = True, agreed: bool = True) -> None:
        if not self._opened:
            self._open()
        wrote = self._known_writes() if recorded and by != "person" else None
        if wrote is not None and by == "unclear":
            by = "agent"
        records = self._tracker.observe(by, self._turn, what, wrote)
        for record in records if by == "agent" else ():
            self.seen(self._tracker, what, record.changes if record.by == "agent" else ())
        if wrote is not None and not agreed:
            records += self._restore([change for one in records if one.by == "agent" for change in one.changes])
        self._edited = {path for path in self._edited if os.path.lexists(path)}
        self._removed = {path for path in self._removed if not os.path.lexists(path)}
        for record in records:
            if record.by != "person":
                continue
            self._guard(record.changes)
        if records:
            self._unkept = self._absolute(self._tracker.unkept())

    def _restore(self, changes: Sequence[Change]) -> tuple[Observed, ...]:
        """Put back what the person had written, where a command has taken it away or made it what it was before."""
        if not self._versions:
            return ()
        from lathe.store.undo_apply import apply_steps
        from lathe.store.undo_plan import Step

        moved = {change.after.content[1:] for change in changes if change.after is not None}
        steps = []
        for path, before, after in ((one.path, one.before, one.after) for one in changes):
            version = self._versions.get(path)
            if version is None or before is None or before.content[1:] != version.own or not before.is_kept:
                continue
            if after.content[1:] in version.former if after is not None else version.own not in moved:
                steps.append(Step(path, after, before))
        if not steps:
            return ()
        failed = {conflict.path for conflict in apply_steps(self._tracker.root, steps, self._tracker.open_content)}
        paths = [step.path for step in steps if step.path not in failed]
        self._put_back += paths
        self._untold += paths
        return self._tracker.observe("person", self._turn)

    def _guard(self, changes: Iterable[Change]) -> None:
        """Take changes of the person's into what no command may do away with unasked."""
        own = [one for one in changes if not self._tracker.git.of(one.path) and not one.path.endswith(b".git")]
        self._edited |= set(self._absolute(one.path for one in own if one.after is not None and one.after.is_file))
        gone = [one.path for one in own if one.after is None and one.before is not None and one.before.is_file]
        self._removed |= set(self._absolute(gone))
        for path, before, after in ((one.path, one.before, one.after) for one in own):
            if after is not None and after.is_file and after.is_kept:
                version = self._versions.setdefault(path, _Version(b"", set()))
                if before is not None:
                    version.former.add(before.content[1:])
                version.former.discard(after.content[1:])
                self._versions[path] = version._replace(own=after.content[1:])

    def _known_writes(self) -> Callable[[bytes], bool] | None:
        """Return what tells whether commands wrote a path below the root, None where that is not known for sure."""
        record = self._writes()
        if record is None or not record.certain:
            return None
        return lambda path: record.wrote(self._tracker.absolute(path))

    async def _done(self) -> None:
        """Wait for the look that is on its way, however often the person interrupts."""
        look, self._look = self._look, None
        if look is not None:
            while not look.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(look)

    async def _run(self, look: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(look)
            self.trouble = ""
        except StorageError as error:
            self.trouble = str(error)
