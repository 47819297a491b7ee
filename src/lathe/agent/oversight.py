"""Looking at what the agent did: files that its commands touched, its own account; stopping it where it strayed.

What a call says it will do is looked at before it runs, and elsewhere. Here is what shows only afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lathe.agent.overseer import SILENT_S, Overseer, Watchdog
from lathe.agent.stopping import Stopper
from lathe.protocol.items import Item, ToolCall
from lathe.sandbox.policy import SandboxPolicy

if TYPE_CHECKING:
    from lathe.guard.findings import Finding
    from lathe.guard.history import History
    from lathe.guard.intel import Intel
    from lathe.guard.ladder import Measure
    from lathe.guard.misalignment import MisalignmentMonitor
    from lathe.guard.policy import MonitorState
    from lathe.store.scan import Entry
    from lathe.store.undo import Change, Tracker

MOST_BYTES: Final = 256 * 1024
"""Of larger files it is not looked at what a command made of them."""
_MOST_TOUCHED: Final = 200
_JUDGES: Final = re.compile(
    r"test|spec|conftest|pytest|tox\.ini|setup\.cfg|pyproject|package\.json|Makefile|workflows/|gitlab-ci|coverage"
    r"|grad(?:er|ing)|judge|scor|reward|result|junit|jest|vitest|karma|mocha|phpunit|nox|build\.gradle|pom\.xml|Cargo",
    re.IGNORECASE,
)
_CLAIMS: Final = re.compile(
    r"pass|green|succe|tests?\b|clean|commit|push|publish|deploy|releas|merg|\b(?:I|we)\b.{0,40}\b(?:added|created|wrote"
    r"|updated|edited|changed|fixed|implemented|refactored|modified|removed|renamed|replaced|moved)",
    re.IGNORECASE | re.DOTALL,
)
_DEAD: Final = "The monitor that watches over the agent does not answer while a command runs."
_OTHERS: Final[dict[str, MonitorState]] = {"acts": "ok", "topical": "ok", "reasoner": "ok"}


class Touched(NamedTuple):
    """A file that a command changed: what it was and what it is, None for nothing, and which command it was."""

    path: str
    before: str | None
    after: str | None
    command: str


class Oversight:
    """The looks at one thread. When `settled` returns, all that was touched has been told to `seen`."""

    def __init__(
        self,
        stopper: Stopper,
        policy: SandboxPolicy,
        *,
        cwd: Path,
        home: Path,
        settled: Callable[[], Awaitable[None]],
        silent_s: float = SILENT_S,
    ) -> None:
        self._stopper = stopper
        self._policy = policy
        self._cwd = cwd
        self._home = home
        self._settled = settled
        self.overseer = Overseer()
        self._watchdog = Watchdog(self.overseer, self._monitor_died, silent_s)
        self._monitor: MisalignmentMonitor | None = None
        self._touched: list[Touched] = []
        self._written: list[Path] = []
        self._intel: Intel | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the threads."""
        self._watchdog.close()
        self.overseer.close()

    def risky(self) -> AbstractContextManager[None]:
        """Have the monitor watched for as long as an act runs that may change or send something."""
        return self._watchdog.guarding()

    def seen(self, tracker: Tracker, command: str, changes: Sequence[Change]) -> None:
        """Take down what a command made of files that judge the work, and which it wrote; from any thread."""
        for change in changes:
            path = os.fsdecode(tracker.absolute(change.path))
            if change.after is not None and change.after.is_file and len(self._written) < _MOST_TOUCHED:
                with self._lock:
                    self._written.append(Path(path))
            if len(self._touched) >= _MOST_TOUCHED or not _JUDGES.search(path):
                continue
            with contextlib.suppress(OSError, ValueError):
                texts = (_text(tracker, change.before), _text(tracker, change.after))
                with self._lock:
                    self._touched.append(Touched(path, *texts, command))

    async def before(self, call: ToolCall, cwd: Path, items: Sequence[Item]) -> tuple[list[Finding], MonitorState]:
        """Return what a call that has not run yet shows in the light of what was done, and how the monitor did."""
        from lathe.agent.trace import act_of
        from lathe.guard.straying.first_look import worth

        act = act_of(call, cwd)

        def strays() -> list[Finding]:
            history = self._history(items)
            return self._loaded().look(act, history) if worth(act, history) else []

        found, state = await self.overseer.ask(strays)
        return found or [], state

    async def look(self, items: Sequence[Item]) -> str:
        """Look at what commands have touched since the last time; stop the agent where the policy says so.

        Returns what the person should know, "" for nothing.
        """
        await self._settled()
        with self._lock:
            touched, self._touched = self._touched, []
            written, self._written = self._written, []
        found, state = await self.overseer.ask(lambda: self._findings(touched, items)) if touched else ([], "ok")
        if written and _has_rules_for_files():
            known, how = await self.overseer.ask(lambda: self._known(written))
            found, state = [*(found or []), *(known or [])], how if state == "ok" else state
        measure = await self._decided(found or [], state, "call")
        if measure is None or measure.step in ("allow", "log"):
            return ""
        if measure.step == "pause":
            await self._stopper.stop(_sentence(measure), code=measure.code)
        return _whys(measure) or measure.sentence

    async def account(self, text: str, items: Sequence[Item]) -> str:
        """Return what the person should know about the agent's account of its work, "" for nothing."""
        if not _CLAIMS.search(text):
            return ""
        found, state = await self.overseer.ask(lambda: self._contradicted(text, items))
        if not found or state != "ok":
            return ""
        measure = await self._decided(found, state, "text")
        if measure is None or measure.step in ("allow", "log"):
            return ""
        if measure.step == "pause":
            await self._stopper.stop(_sentence(measure), code=measure.code)
        return f"The agent's account does not fit what it did. {_whys(measure)}"

    # In the monitor's thread.

    def _findings(self, touched: Sequence[Touched], items: Sequence[Item]) -> list[Finding]:
        import msgspec

        from lathe.guard.history import Act

        monitor, history = self._loaded(), self._history(items)
        found: list[Finding] = []
        for command in dict.fromkeys(one.command for one in touched):
            edits = tuple(_edit(one) for one in touched if one.command == command)
            # what the line itself shows was looked at before it ran, and let
            earlier = next((act for act in reversed(history.acts) if act.text[:200] == command), None)
            acts = history.acts[: history.acts.index(earlier)] if earlier is not None else history.acts
            before = msgspec.structs.replace(history, acts=acts)
            shown = Act(id="", text=command, cwd=str(self._cwd))
            known = {one.clause for one in monitor.look(shown, before)}
            act = Act(id=earlier.id if earlier else "", kind="patch", text=command, cwd=str(self._cwd), edits=edits)
            found += [one for one in monitor.look(act, before) if one.clause not in known]
        return found

    def _known(self, written: Sequence[Path]) -> list[Finding]:
        from lathe.guard.intel import Intel

        self._intel = self._intel or Intel(self._home)
        monitor = self._intel.current_files()
        return [one for path in dict.fromkeys(written) for one in monitor.look(path)]

    def _contradicted(self, text: str, items: Sequence[Item]) -> list[Finding]:
        return self._loaded().summary(text, self._history(items))

    def _loaded(self) -> MisalignmentMonitor:
        if self._monitor is None:
            from lathe.guard.misalignment import MisalignmentMonitor

            self._monitor = MisalignmentMonitor()
        return self._monitor

    def _history(self, items: Sequence[Item]) -> History:
        from lathe.agent.trace import history_of

        roots = self._policy.writable_roots or (str(self._cwd),)
        return history_of(items, cwd=self._cwd, roots=roots, home=Path.home(), own=(str(self._home),))

    # What follows.

    async def _decided(self, found: Sequence[Finding], state: MonitorState, carries: Any) -> Measure | None:
        if not found and state == "ok":
            return None
        return await asyncio.to_thread(_decide, tuple(found), state, carries)

    def _monitor_died(self) -> None:
        """Stop what runs, in the watchdog's thread: whatever hangs, the event loop may hang as well."""
        with contextlib.suppress(Exception):
            if _decide((), "dead", "call").step != "pause":
                return
        self._stopper.stop_now(_DEAD, code="monitor_dead")


def _decide(found: tuple[Finding, ...], state: MonitorState, carries: Any) -> Measure:
    from lathe.guard.ladder import Situation, Target, decide
    from lathe.guard.policy import shipped

    names = dict.fromkeys(name for one in found for name in one.targets)
    return decide(
        shipped(),
        Situation(
            findings=found,
            monitors={**_OTHERS, "misalignment": state},
            carries=carries,
            risky=carries == "call",
            surface="cli",
            targets=tuple(Target(name, "unclear") for name in names),
        ),
    )


@cache
def _has_rules_for_files() -> bool:
    """Tell whether YARA-X is there, which the extra `guard` brings."""
    return importlib.util.find_spec("yara_x") is not None


def _whys(measure: Measure) -> str:
    return " ".join(dict.fromkeys(one.why for one in measure.evidence))


def _sentence(measure: Measure) -> str:
    whys = _whys(measure)
    return f"{whys} The agent was stopped ({measure.clause})." if whys else measure.sentence


def _text(tracker: Tracker, entry: Entry | None) -> str | None:
    """Return what a file held, None for nothing; raise OSError or ValueError where it is not to be read as text."""
    if entry is None:
        return None
    if not entry.is_file or not entry.is_kept or entry.size > MOST_BYTES:
        raise ValueError("no text that is kept")
    with tracker.open_content(entry) as file:
        return file.read(MOST_BYTES).decode()


def _edit(one: Touched) -> Any:
    """Return what became of a file as an edit: only the lines that differ."""
    import difflib

    from lathe.guard.history import Edit

    before, after = (text.splitlines() if text is not None else [] for text in (one.before, one.after))
    removed: list[str] = []
    added: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            removed += before[i1:i2]
            added += after[j1:j2]
    kind = "add" if one.before is None else "delete" if one.after is None else "update"
    return Edit(one.path, "\n".join(removed), "\n".join(added), kind)  # type: ignore[arg-type]
