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

from lathe.agent.rights import Rights, RightsKnown
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
    from lathe.guard.ladder import Measure, Situation
    from lathe.guard.policy import MonitorState, Policy
    from lathe.guard.quarantine import Looked
    from lathe.guard.secrets_monitor import SecretsMonitor
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
_SENDS = (
    *(*_REACHES, "ftp", "telnet", "socat", "ncat", "netcat", "dig", "nslookup", "rclone", "mail", "gh ", "glab "),
    *("aws ", "gcloud", "twine", "remote", "clone", "requests", "urllib", "aiohttp", "paramiko", "socket", "smtplib"),
    *("fetch", "axios"),
)
"""Words without which no line sends anything, as far as the monitor of secrets can tell."""


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
    """What follows for a call: the measure, the notice for the person, and what the model is told if it is not run.

    `rights` are those that it was judged by.
    """

    measure: Measure
    decision: str
    notice: str
    output: str
    rights: Rights

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
            tier=self.rights.tier,
            engagement=self.rights.engagement,
        )


class Guarding:
    """The guard of one thread. `can_ask` tells whether there is a person to decide on what is held.

    `strays` looks at a call in the light of what the agent did (`Oversight.before`). `load` makes the monitor of acts
    of what is kept below `home` ($LATHE_HOME), when it is first needed and again when what is kept has changed.
    `rights` says by what right the person works; without it nobody has more than everybody.
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
        rights: RightsKnown | None = None,
        late_s: float = LATE_S,
    ) -> None:
        self._home = home
        self._intel = str(home / "guard" / "intel")
        self._sandbox = policy
        self._can_ask = can_ask
        self._strays = strays
        self._load = load or _load
        self._rights = rights or RightsKnown()
        self._secrets: SecretsMonitor | None = None
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
        sends = self._may_send(wished)
        if not looks and not wishes and not strayed and not sends and how == "ok":
            self._judged.clear()
            return None
        found, states = await self._looked(wished, lines, stamp) if looks and lines else ([], dict(_WELL))
        found += strayed
        if sends:
            leaving, states["secrets"] = await self._leaving(wished)
            found += leaving
        states["misalignment"] = how
        if wishes:
            found += self._injected(wished, wishes, states)
        if not self._own and not found and all(state == "ok" for state in states.values()):
            self._judged.clear()
            return None  # as the shipped policy decides, which need not be read for that
        from lathe.guard.quarantine import Looked, identity

        measure, rights = await self._decided(wished, found, states, lines)
        self._judged.append(Looked(identity(wished.call), measure.blocks))
        if measure.step == "allow" or (measure.step == "log" and measure.ground == "monitor"):
            return None
        return self._told(measure, rights)

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

    def _confined(self, wished: Wished) -> bool:
        """Return whether a call can't leave the sandbox."""
        return not self._reaches_out and not any(
            isinstance(one, CallExternal | ReachHost) or (isinstance(one, RunCommand) and one.escalate)
            for one in wished.access
        )

    def _may_send(self, wished: Wished) -> bool:
        if self._confined(wished):
            return False
        if any(isinstance(one, CallExternal) and not one.read_only for one in wished.access):
            return True
        arguments = _arguments(wished.call)
        return any(word in arguments for word in _SENDS)

    async def _leaving(self, wished: Wished) -> tuple[list[Finding], MonitorState]:
        """Return the secrets that a call would send, and how their monitor did.

        What has not been done yet can be asked about, so it is a doubt, however plain it is.
        """
        if self._waiting >= MOST_WAITING:
            return [], "flooded"

        def look() -> list[Finding]:
            from lathe.agent.provenance import parts_of
            from lathe.guard.findings import Call, Touch
            from lathe.guard.secrets_monitor import SecretsMonitor

            self._secrets = self._secrets or SecretsMonitor()
            touches = [
                Touch("service", one.server, True)
                for one in wished.access
                if isinstance(one, CallExternal) and not one.read_only
            ]
            call = Call(wished.call.call_id, wished.call.name, _arguments(wished.call), tuple(touches))
            return self._secrets.sent((call,), parts_of(wished.before))

        try:
            found = await self._aside(look, self._late_s if self._secrets is not None else 10 * self._late_s)
        except TimeoutError:
            return [], "late"
        except Exception:
            return [], "wrong" if self._secrets is not None else "dead"
        return [msgspec.structs.replace(one, score=min(one.score, _DOUBT)) for one in found], "ok"

    async def _decided(
        self, wished: Wished, found: Sequence[Finding], states: dict[str, MonitorState], lines: Sequence[str]
    ) -> tuple[Measure, Rights]:
        """Return the measure, and by what right; it is asked for only where more than everybody has would help."""
        from lathe.guard.ladder import Situation, Target, decide
        from lathe.guard.policy import shipped
        from lathe.guard.quarantine import blocks_in_a_row

        if self._policy is None:
            self._policy = await asyncio.to_thread(shipped)
        confined = self._confined(wished)
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
        measure = decide(self._policy, situation)
        if not measure.approval_helps:
            return measure, Rights()
        rights = await self._rights.now()
        if rights.more:
            situation, rights = await self._entitled(situation, rights, () if confined else lines)
            measure = decide(self._policy, situation)
        return measure, rights

    async def _entitled(self, situation: Situation, rights: Rights, lines: Sequence[str]) -> tuple[Situation, Rights]:
        """Return a situation with what is held, and with what the targets of `lines` are to the engagement."""
        within, acts = rights.within, self._acts
        names: tuple[str, ...] = ()
        if within is not None and acts is not None and lines:
            from lathe.guard.aims import aimed
            from lathe.guard.ladder import Target

            with contextlib.suppress(Exception):  # then its targets are unclear
                findings = await self._aside(lambda: aimed(situation.findings, lines, acts.look), self._late_s)
                names = tuple(dict.fromkeys(name for one in findings if one.monitor == "acts" for name in one.targets))
                targets = tuple(Target(name, "engaged" if within.cover(name) else "unclear") for name in names)
                situation = msgspec.structs.replace(situation, findings=findings, targets=targets)
        rights = rights.at(names)
        held = {"tier": rights.tier, "scope": rights.scope, "engagement": rights.engagement}
        return msgspec.structs.replace(situation, **held), rights

    def _told(self, measure: Measure, rights: Rights) -> Judged:
        from lathe.guard.notices import as_text, notice
        from lathe.guard.wording import judged_by
        from lathe.guard.working_days import Calendar, Clock
        from lathe.store.journal import now_ms

        # Nobody hears appeals against what a machine of the person's own decides: its policy is theirs.
        measure = msgspec.structs.replace(measure, appealable=False)
        decision = short_id("dec")
        assert self._policy is not None
        right = judged_by(rights.tier, rights.scope, rights.engagement, rights.why)
        told = notice(
            measure, self._policy, decision=decision, at=now_ms(), clock=Clock.of(Calendar()), judged_by=right
        )
        said = {
            "withheld": {
                "call": measure.subject,
                "code": measure.code,
                "clause": measure.clause,
                "decision": decision,
                "why": list(told.why),
            }
        }
        return Judged(measure, decision, as_text(told), encode(said).decode(), rights)


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
