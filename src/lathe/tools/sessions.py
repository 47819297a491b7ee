"""The commands of a thread: started in its sandbox, waited for, left running, ended with the turn."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from lathe.sandbox.ladder import rung
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.published import Published
from lathe.sandbox.runner import Process, Runner, SpawnError
from lathe.sandbox.tiers import TIERS
from lathe.sandbox.writes import Writes
from lathe.tools.base import NothingHidden
from lathe.tools.output import OutputBuffer, clean
from lathe.tools.passing import Passing
from lathe.tools.shell import find_shell, plain_words, shell_is_plain
from lathe.tools.until import PatternWatch

if TYPE_CHECKING:
    from lathe.sandbox.egress import Decision, Egress
    from lathe.sandbox.stopping import Stopped

Stop: TypeAlias = Literal["ended", "matched", "limit", "slow pattern"]

SESSION_LIMIT: Final = 64

_DELTA_PAUSE_S: Final = 0.05
_DELTA_BYTES: Final = 64 * 1024
_TERMINAL: Final = (24, 120)
_UNATTENDED: Final = {"NO_COLOR": "1", "GIT_EDITOR": "true"}
"""Laid over the environment of every command: nobody sits there to see colours or to edit a message."""


class LiveOutput:
    """Passes output on to a listener in pieces: at most one every 50 ms, and no more than the first 64 KiB.

    What may be a part of a secret waits for the rest of it.
    """

    def __init__(self, listener: Callable[[str], None], passing: Passing | None = None) -> None:
        self._listener = listener
        self._passing = passing or Passing(NothingHidden())
        self._waiting = bytearray()
        self._room = _DELTA_BYTES
        self._timer: asyncio.TimerHandle | None = None

    def add(self, block: bytes) -> None:
        """Take a block; the listener hears of it later, unless `close` comes first."""
        if not self._room:
            return
        part = block[: self._room]
        self._room -= len(part)
        self._waiting += part
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELTA_PAUSE_S, self._flush)

    def close(self) -> None:
        """Forget what is waiting: the call's outcome says it all."""
        self._room = 0
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        # A character cut in two by the end of a block stays for the next piece.
        end = len(self._waiting)
        while end and len(self._waiting) - end < 3 and self._waiting[end - 1] & 0xC0 == 0x80:
            end -= 1
        if end and self._waiting[end - 1] >= 0xC0:
            end -= 1
        else:
            end = len(self._waiting)
        piece = bytes(self._waiting[:end])
        del self._waiting[:end]
        if piece and (text := self._passing.add(clean(piece), more=True)):
            self._listener(text)


class Session:
    """One command from its start to its end; `number` is 0 until it goes on in the background."""

    def __init__(
        self, command: str, buffer: OutputBuffer, *, cwd: str, tty: bool, stdin: bool, escalated: bool
    ) -> None:
        self.command = command
        self.cwd = cwd
        self.buffer = buffer
        self.tty = tty
        self.stdin = stdin or tty
        self.escalated = escalated
        self.number = 0
        self.process: Process
        self._started = time.monotonic()
        self._ended: float | None = None
        self._exit: asyncio.Task[None] | None = None
        self._live: LiveOutput | None = None
        self._watch: PatternWatch | None = None

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    @property
    def wall_s(self) -> float:
        """Seconds from its start to its end, or to now."""
        return (self._ended or time.monotonic()) - self._started

    def receive(self, block: bytes) -> None:
        """Take a block of output from the process."""
        self.buffer.write(block)
        if self._live is not None:
            self._live.add(block)
        if self._watch is not None:
            self._watch.feed(block)

    async def wait(self, limit_s: float, until: re.Pattern[str] | None, delta: Callable[[str], None]) -> Stop:
        """Return when the process ends, when its new output matches `until`, or after `limit_s` seconds.

        Cancelled, it ends the process and all that came from it first.
        """
        if not self.running:
            self._note_end()
            return "ended"
        self._live = LiveOutput(delta, Passing(self.buffer.hiding, self.buffer.passing.unfinished))
        if missed := self.buffer.pending():
            self._live.add(missed)
        try:
            return await (self._wait_for_end(limit_s) if until is None else self._wait_for(until, limit_s))
        except asyncio.CancelledError:
            await self.kill()
            raise
        finally:
            self._live.close()
            self._live = self._watch = None

    async def kill(self) -> None:
        """End the process and all that came from it."""
        await self.process.kill()
        self._note_end()
        self.buffer.close()
        if self._exit is not None:
            await asyncio.wait((self._exit,))

    def watch_exit(self) -> asyncio.Task[None]:
        """Return a task that ends with the process, and notes when that was."""
        if self._exit is None:
            self._exit = asyncio.get_running_loop().create_task(self._note_exit())
        return self._exit

    async def _wait_for_end(self, limit_s: float) -> Stop:
        try:
            async with asyncio.timeout(limit_s):
                await self.process.wait()
        except TimeoutError:
            return "limit"
        self._note_end()
        return "ended"

    async def _wait_for(self, until: re.Pattern[str], limit_s: float) -> Stop:
        self._watch = watch = PatternWatch(until)
        watch.feed(self.buffer.pending())
        ended = self.watch_exit()
        await asyncio.wait((ended, watch.done), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return "ended"
        if watch.done.done():
            return "matched" if watch.done.result() else "slow pattern"
        return "limit"

    async def _note_exit(self) -> None:
        await self.process.wait()
        self._note_end()

    def _note_end(self) -> None:
        if self._ended is None:
            self._ended = time.monotonic()
            self.buffer.close()


class CommandSessions:
    """The commands of one thread, under `policy`.

    `cwd` is the thread's working directory, `env` the whole environment of its commands, `hidden` paths that
    they may not see, `readable` paths below those that they may (such as the folder of long outputs). Commands
    that were allowed to leave the sandbox run beside it, in a second runner started when first needed. `egress` is
    the way out of the sandbox, `memory` the folder of what is to be put back if Lathe is killed. `limits` hold in the
    sandbox; it is the first of `tiers` that works.
    """

    def __init__(
        self,
        policy: SandboxPolicy,
        *,
        cwd: Path,
        env: Mapping[str, str],
        hidden: Sequence[str] = (),
        readable: Sequence[str] = (),
        limits: Limits | None = None,
        egress: Egress | None = None,
        memory: Path | None = None,
        tiers: Sequence[str] = TIERS,
    ) -> None:
        self.cwd = cwd
        self._policy = policy
        self._env = {**env, **_UNATTENDED, "PWD": str(cwd)}
        self._egress = egress
        self._writes = Writes() if policy.mode == "workspace-write" else None
        self._confined = Runner(
            policy,
            cwd=cwd,
            env=self._env,
            hidden=hidden,
            readable=readable,
            tiers=tiers,
            limits=limits,
            egress=egress,
            memory=memory,
            writes=self._writes,
        )
        self._published = Published(self._confined.connect)
        self._free: Runner | None = None
        self._shell = find_shell(self._env)
        self._shell_is_plain = shell_is_plain(self._env)
        self._count = 0
        self._used = False
        self._halted = ""
        self._background: dict[int, Session] = {}
        self._announced: set[int] = set()

    @property
    def tier(self) -> str:
        """What confines the commands: "bubblewrap", "landlock" or "none"; "" before the first has started."""
        return self._confined.tier

    @property
    def letter(self) -> str:
        """Which kind of sandbox that is (`lathe.sandbox.ladder`)."""
        return self._confined.letter

    def weakness(self) -> str:
        """Return what the person should know where commands run in a weaker sandbox than there is, "" elsewhere."""
        if self._confined.letter in ("", "A", "F"):
            return ""
        from lathe.sandbox.probe import fix

        kind = rung(self._confined.letter)
        return f"Commands run in a weaker sandbox, {kind.letter} ({kind.name}): {kind.lacks}. {fix('A', kind.letter)}"

    async def start(self) -> None:
        """Start the sandbox ahead of the first command."""
        await self._confined.start()

    def publish(self, ports: Sequence[int]) -> list[str]:
        """Lead ports of this machine into the sandbox; return a sentence for each that cannot be had."""
        return self._published.open(ports)

    def decisions(self, session: Session) -> list[Decision]:
        """Return what was decided since the last call on connections of a command, each kind once."""
        return self._egress.take(session.process.name) if self._egress is not None else []

    def settle(self) -> None:
        """Put back now what commands in the sandbox have changed that they may not."""
        self._confined.settle()

    def put_back(self) -> list[str]:
        """Return a line on what was put back since the last call, if anything was."""
        return self._confined.news()

    def accept(self, paths: Sequence[str]) -> None:
        """Take what is at these paths now as what commands may not change: somebody changed it who may."""
        self._confined.accept(paths)

    async def denials(self, session: Session, output: str) -> list[str]:
        """Return a line for each path that the sandbox has kept from a command, by its output."""
        if session.escalated or self._confined.tier not in ("bubblewrap", "landlock") or not self._confined.mounts:
            return []
        from lathe.sandbox.denials import candidates, denials, line_for, to_try

        found = candidates(output, session.cwd)
        paths = to_try(found)
        if not paths:
            return []
        tried = dict(zip(paths, await self._confined.try_paths(paths), strict=False))
        home = str(Path.home())
        read_only = self._policy.mode == "read-only"
        known = denials(found, tried, self._confined.mounts)
        root = os.path.realpath(next(iter(self._policy.writable_roots), self.cwd))
        return [line_for(one, read_only=read_only, root=root, home=home) for one in known]

    def writes(self) -> Writes | None:
        """Return the record of what commands wrote, None where some ran outside the sandbox or none is kept."""
        return self._writes if self._free is None else None

    def trouble(self) -> str:
        """Return why nothing can be reached from the sandbox, the first time that this is asked."""
        if self._egress is None:
            return ""
        trouble, self._egress.trouble = self._egress.trouble, ""
        return trouble

    async def open(
        self,
        command: str,
        buffer: OutputBuffer,
        *,
        cwd: str,
        tty: bool = False,
        stdin: bool = False,
        escalated: bool = False,
        unbuffered: bool = False,
    ) -> Session:
        """Start `command` in the absolute folder `cwd` and return it; raise `SpawnError`."""
        if self._halted:
            raise SpawnError(self._halted)
        session = Session(command, buffer, cwd=cwd, tty=tty, stdin=stdin, escalated=escalated)
        runner = self._runner(escalated)
        self._used = True
        changes: dict[str, str] = {}
        if cwd != self._env["PWD"]:
            changes["PWD"] = cwd
        if tty:
            changes["TERM"] = "xterm-256color"
        if unbuffered:
            # Python keeps back what it prints to a pipe, and so hides what a wait looks for.
            changes["PYTHONUNBUFFERED"] = "1"

        async def spawn(argv: Sequence[str]) -> Process:
            terminal = _TERMINAL if tty else None
            keep = stdin and not tty
            return await runner.spawn(
                argv, cwd=cwd, on_output=session.receive, tty=terminal, stdin=keep, env=changes or None
            )

        words = plain_words(command) if self._shell_is_plain else None
        if words is not None:
            try:
                session.process = await spawn(words)
            except SpawnError:
                # The shell knows how to say what is wrong, and with which exit status.
                words = None
        if words is None:
            session.process = await spawn((self._shell, "-c", command))
        return session

    def keep(self, session: Session) -> int:
        """Let `session` go on in the background; return its number."""
        if not session.number:
            self._count += 1
            session.number = self._count
            self._background[session.number] = session
            session.watch_exit()
        return session.number

    def get(self, number: int) -> Session | None:
        """Return the background session of that number, running or ended but not yet collected."""
        return self._background.get(number)

    def forget(self, session: Session) -> None:
        """Drop an ended session whose output has been collected."""
        self._background.pop(session.number, None)
        self._announced.discard(session.number)

    def full(self) -> bool:
        """Tell whether no more commands may be started before others end."""
        return sum(session.running for session in self._background.values()) >= SESSION_LIMIT

    def news(self) -> list[str]:
        """Return one line for each background session that ended since the last call of this."""
        lines = []
        for number, session in self._background.items():
            if not session.running and number not in self._announced:
                self._announced.add(number)
                lines.append(f"[session {number} ended: {exit_text(session.process.returncode)}]")
        return lines

    def limits_met(self, returncode: int | None = None) -> list[str]:
        """Return one line for each limit met since the last call, and for one that ended a process so."""
        return self._confined.limits_met(returncode)

    def open_processes(self) -> list[str]:
        """Return one line for each session still running: its number, its command and for how long."""
        return [
            f"session {number}: {session.command} (running {session.wall_s:.0f} s)"
            for number, session in self._background.items()
            if session.running
        ]

    async def end_turn(self) -> None:
        """End every command still running, and whatever the ended ones left behind."""
        sessions = list(self._background.values())
        self._background.clear()
        self._announced.clear()
        if not self._used:
            return
        self._used = False
        if self._egress is not None:
            self._egress.forget()
        await asyncio.gather(*(runner.end_all() for runner in (self._confined, self._free) if runner is not None))
        if sessions:
            await asyncio.wait([session.watch_exit() for session in sessions])

    def stop_now(self, why: str, *, began: float | None = None) -> Stopped:
        """Cut the network and kill everything, from any thread; see `Runner.stop_now`."""
        began = time.monotonic() if began is None else began
        self._halted = why
        cut = self._egress.sever() if self._egress is not None else 0
        stopped = self._confined.stop_now(why, began=began)
        if self._free is not None:
            stopped = stopped.with_other(self._free.stop_now(why, began=began))
        return stopped._replace(connections=cut)

    async def stop(self, why: str, *, began: float | None = None) -> Stopped:
        """Cut the network and kill everything at once, for the reason `why`; return what is left of it.

        No command can be started any more before `resume`.
        """
        began = time.monotonic() if began is None else began
        self._halted = why
        cut = 0
        if self._egress is not None:
            cut = self._egress.sever()
            self._egress.detach()
        self._published.cut()
        self._background.clear()
        self._announced.clear()
        runners = [runner for runner in (self._confined, self._free) if runner is not None]
        first, *others = await asyncio.gather(*(runner.stop(why, began=began) for runner in runners))
        for other in others:
            first = first.with_other(other)
        return first._replace(connections=cut)

    def resume(self) -> None:
        """Let commands be started again after a stop."""
        self._halted = ""
        for runner in (self._confined, self._free):
            if runner is not None:
                runner.resume()

    async def aclose(self) -> None:
        """End everything; no more commands can be started."""
        sessions = list(self._background.values())
        self._background.clear()
        await self._published.aclose()
        await asyncio.gather(*(runner.aclose() for runner in (self._confined, self._free) if runner is not None))
        if self._egress is not None:
            await self._egress.aclose()
        if self._writes is not None:
            await asyncio.to_thread(self._writes.close)
        if sessions:
            await asyncio.wait([session.watch_exit() for session in sessions])

    def _runner(self, escalated: bool) -> Runner:
        if not escalated:
            return self._confined
        if self._free is None:
            policy = SandboxPolicy(mode="danger-full-access", network=True)
            self._free = Runner(policy, cwd=self.cwd, env=self._env)
        return self._free


def exit_text(returncode: int | None) -> str:
    """Return an exit status in words: `exit 1`, or `killed by signal 9 (SIGKILL)`."""
    if returncode is None:
        return "running"
    if returncode >= 0:
        return f"exit {returncode}"
    import signal

    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-returncode} ({name})"
