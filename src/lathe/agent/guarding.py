"""The guard before a call runs: what its monitors find, what the policy makes of it, and what is told.

Most calls ask for nothing that a monitor could speak of: a first look at the line tells, and nothing is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import msgspec

from lathe.config.settings import GuardTable
from lathe.protocol.codec import encode
from lathe.protocol.events import GuardDecided
from lathe.protocol.ids import short_id
from lathe.protocol.items import CustomToolCall, Item, ToolCall
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import Access, CallExternal, ReachHost, RunCommand, WriteFiles

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from lathe.guard.acts.monitor import ActMonitor
    from lathe.guard.findings import Finding
    from lathe.guard.injection import Wish
    from lathe.guard.ladder import Measure
    from lathe.guard.policy import MonitorState, Policy
    from lathe.guard.quarantine import Looked
    from lathe.guard.targets import Ground

_T = TypeVar("_T")
Strays: TypeAlias = "Callable[[ToolCall, Path, Sequence[Item]], Awaitable[tuple[list[Finding], MonitorState]]]"

LATE_S = 2.0
"""How long a monitor may look at one call; loading it, which is done once, may take ten times that."""
MOST_WAITING = 4
"""How many calls may wait for a monitor before it counts as flooded."""
_DOUBT = 0.75
_WELL: dict[str, MonitorState] = {"acts": "ok", "intel": "ok"}
_REACHES = ("curl", "wget", "://", "ssh", "scp", "rsync", "push", "publish", "upload", "nc ", "http")


class Wished(NamedTuple):
    """A call before it runs: what it wishes, and whether it may change or send anything.

    `before` is the conversation so far.
    """

    call: ToolCall
    access: tuple[Access, ...]
    risky: bool
    cwd: Path
    before: Sequence[Item]


class Judged(NamedTuple):
    """What follows for a call: the measure, the notice for the person, and what the model is told if it is not run."""

    measure: Measure
    decision: str
    notice: str
    output: str

    def event(self, *, step: str = "", answer: str = "") -> GuardDecided:
        """Return the event that tells of it; `step` is what was done in the end, where that is another."""
        measure = self.measure
        return GuardDecided(
            by="agent",
            step=step or measure.step,
            scope=measure.scope,
            clause=measure.clause,
            code=measure.code,
            decision=self.decision,
            message=self.notice,
            call_id=measure.subject,
            choices=measure.choices if step in ("", "hold") else (),
            answer=answer,
            policy=measure.policy,
        )


class Guarding:
    """The guard of one thread. `can_ask` tells whether there is a person to decide on what is held.

    `strays` looks at a call in the light of what the agent did (`Oversight.before`). `load` makes the monitor of acts
    of what is kept below `home` ($LATHE_HOME), when it is first needed and again when what is kept has changed.
    """

    def __init__(
        self,
        table: GuardTable,
        home: Path,
        policy: SandboxPolicy,
        *,
        can_ask: Callable[[], bool],
        strays: Strays | None = None,
        load: Callable[[Path], ActMonitor] | None = None,
        late_s: float = LATE_S,
    ) -> None:
        self._home = home
        self._intel = str(home / "guard" / "intel")
        self._sandbox = policy
        self._can_ask = can_ask
        self._strays = strays
        self._load = load or _load
        self._late_s = late_s
        self._acts: ActMonitor | None = None
        self._made_of = 0
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._judged: list[Looked] = []
        self._policy: Policy | None = None
        self._own = table.policy is not None
        if table.policy is not None:
            from lathe.guard.policy import Policy

            self._policy = Policy.load(Path(table.policy))

    def close(self) -> None:
        """Let go of the thread that monitors run in; what still runs there is left to its end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def judge(self, wished: Wished) -> Judged | None:
        """Return what follows for a call, or None where it may run and there is nothing to tell."""
        stamp = self._stamp()
        lines = _lines(wished, bool(stamp))
        wishes = self._wishes(wished)
        looks = stamp != 0 or self._own or _may_match(lines, str(wished.cwd))
        strayed, how = await self._astray(wished)
        if not looks and not wishes and not strayed and how == "ok":
            self._judged.clear()
            return None
        found, states = await self._looked(wished, lines, stamp) if looks and lines else ([], dict(_WELL))
        found += strayed
        states["misalignment"] = how
        if wishes:
            found += self._injected(wished, wishes, states)
        if not self._own and not found and all(state == "ok" for state in states.values()):
            self._judged.clear()
            return None  # as the shipped policy decides, which need not be read for that
        from lathe.guard.quarantine import Looked, identity

        measure = await self._decided(wished, found, states)
        self._judged.append(Looked(identity(wished.call), measure.blocks))
        if measure.step == "allow" or (measure.step == "log" and measure.ground == "monitor"):
            return None
        return self._told(wished, measure)

    async def _astray(self, wished: Wished) -> tuple[list[Finding], MonitorState]:
        """Return what shows of the agent's own straying; what only reads is not looked at.

        What has not been done yet can be asked about, so it is a doubt, however plain it is.
        """
        if self._strays is None or not wished.risky:
            return [], "ok"
        found, state = await self._strays(wished.call, wished.cwd, wished.before)
        return [msgspec.structs.replace(one, score=min(one.score, _DOUBT)) for one in found], state

    def _stamp(self) -> int:
        """Return by what it is known that what others reported has changed (nanoseconds), 0 where there is nothing.

        A file there is replaced whole, which the folder shows.
        """
        try:
            return os.stat(self._intel).st_mtime_ns  # noqa: PTH116
        except OSError:
            return 0

    async def _looked(
        self, wished: Wished, lines: Sequence[str], stamp: int
    ) -> tuple[list[Finding], dict[str, MonitorState]]:
        """Return what the monitor of acts finds, and how it and its knowledge of others did."""
        if self._waiting >= MOST_WAITING:
            return [], {"acts": "flooded"}
        try:
            if self._acts is None or stamp != self._made_of:
                await self._aside(lambda: self._make(stamp), 10 * self._late_s)
        except TimeoutError:
            return [], {"acts": "late"}
        except Exception:
            return [], {"acts": "dead"}
        acts, ground = self._acts, self._ground()
        name = wished.call.call_id

        def look() -> list[Finding]:
            assert acts is not None
            return [one for line in lines for one in acts.look(line, ground, str(wished.cwd), part=name)]

        try:
            found = await self._aside(look, self._late_s)
        except TimeoutError:
            return [], {"acts": "late"}
        except Exception:
            return [], {"acts": "wrong"}
        if any(isinstance(one, CallExternal) for one in wished.access):
            found = [one for one in found if one.monitor == "intel"]  # arguments are no line of shell
        return found, dict(_WELL)

    def _make(self, stamp: int) -> None:
        self._acts = None
        self._acts, self._made_of = self._load(self._home), stamp

    async def _aside(self, work: Callable[[], _T], limit_s: float) -> _T:
        """Do `work` in a thread of its own, after what was given to it before; raise `TimeoutError`."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "guard")
        self._waiting += 1
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        running.add_done_callback(self._done)
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(running)

    def _done(self, running: asyncio.Future[_T]) -> None:
        self._waiting -= 1
        with contextlib.suppress(asyncio.CancelledError):
            running.exception()  # so that one that came too late is not complained about

    def _ground(self) -> Ground:
        from lathe.guard.targets import Ground

        return Ground(self._sandbox.writable_roots, str(Path.home()), (str(self._home),))

    def _wishes(self, wished: Wished) -> tuple[Wish, ...]:
        """Return what a call asks for beyond reading and the workspace."""
        found: list[Wish] = []
        for one in wished.access:
            match one:
                case CallExternal(tool=tool, read_only=False):
                    from lathe.guard.injection import wishes_of

                    found += wishes_of(tool)
                case RunCommand(escalate=True) if self._sandbox.mode != "danger-full-access":
                    found.append("escalation")
                case RunCommand(command=command) if self._reaches_out and any(word in command for word in _REACHES):
                    found.append("network")
                case ReachHost():
                    found.append("network")
                case _:
                    pass
        return tuple(dict.fromkeys(found))

    @property
    def _reaches_out(self) -> bool:
        return self._sandbox.reaches_out or self._sandbox.mode == "danger-full-access"

    def _injected(self, wished: Wished, wishes: Sequence[Wish], states: dict[str, MonitorState]) -> list[Finding]:
        from lathe.agent.provenance import parts_of
        from lathe.guard.findings import Call
        from lathe.guard.injection import follows

        call = wished.call
        try:
            found = follows(Call(call.call_id, call.name, _arguments(call)), wishes, parts_of(wished.before))
        except Exception:
            states["injection"] = "wrong"
            return []
        states["injection"] = "ok"
        return found

    async def _decided(self, wished: Wished, found: Sequence[Finding], states: dict[str, MonitorState]) -> Measure:
        from lathe.guard.ladder import Situation, Target, decide
        from lathe.guard.policy import shipped
        from lathe.guard.quarantine import blocks_in_a_row

        if self._policy is None:
            self._policy = await asyncio.to_thread(shipped)
        confined = not self._reaches_out and not any(
            isinstance(one, CallExternal | ReachHost) or (isinstance(one, RunCommand) and one.escalate)
            for one in wished.access
        )
        situation = Situation(
            findings=tuple(found),
            monitors=states,
            carries="call",
            risky=wished.risky,
            subject=wished.call.call_id,
            # What can't leave the sandbox is aimed at what is in it.
            targets=(Target("the sandbox", "own"),) if confined else (),
            surface="cli" if self._can_ask() else "batch",
            blocks=blocks_in_a_row(self._judged),
        )
        return decide(self._policy, situation)

    def _told(self, wished: Wished, measure: Measure) -> Judged:
        from lathe.guard.notices import as_text, notice
        from lathe.guard.working_days import Calendar, Clock
        from lathe.store.journal import now_ms

        # Nobody hears appeals against what a machine of the person's own decides: its policy is theirs.
        measure = msgspec.structs.replace(measure, appealable=False)
        decision = short_id("dec")
        assert self._policy is not None
        told = notice(measure, self._policy, decision=decision, at=now_ms(), clock=Clock.of(Calendar()))
        said = {
            "withheld": {
                "call": measure.subject,
                "code": measure.code,
                "clause": measure.clause,
                "decision": decision,
                "why": list(told.why),
            }
        }
        return Judged(measure, decision, as_text(told), encode(said).decode())


def _load(home: Path) -> ActMonitor:
    from lathe.guard.intel import Intel

    return Intel(home).monitor()


def _may_match(lines: Sequence[str], cwd: str) -> bool:
    if not lines:
        return False
    from lathe.guard.acts.first_look import may_match

    return any(may_match(line, cwd) for line in lines)


def _lines(wished: Wished, known: bool) -> list[str]:
    """Return what of a call a monitor of commands can read: commands, and writing of files as a redirection.

    With `known` there is something that others reported, and arguments of tools may name it.
    """
    import shlex

    found: list[str] = []
    for one in wished.access:
        match one:
            case RunCommand(command=command):
                found.append(command)
            case WriteFiles(paths=paths):
                found += [f"> {shlex.quote(path)}" for path in paths]
            case CallExternal() if known:
                found.append(_arguments(wished.call))
            case _:
                pass
    return found


def _arguments(call: ToolCall) -> str:
    return call.input if isinstance(call, CustomToolCall) else call.arguments
