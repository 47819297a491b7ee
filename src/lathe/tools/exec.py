"""`exec_command` and `write_stdin`: the commands that a model runs, and what it types into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.events import CommandExecution, Connection
from lathe.protocol.items import ToolCall
from lathe.sandbox.destinations import NOT_LISTED
from lathe.sandbox.runner import SpawnError
from lathe.tools.arguments import decode_arguments
from lathe.tools.base import Access, MalformedCall, Outcome, RunCommand, ToolContext
from lathe.tools.output import OutputBuffer
from lathe.tools.sessions import SESSION_LIMIT, CommandSessions, Session, Stop, exit_text

if TYPE_CHECKING:
    from lathe.sandbox.egress import Decision

__all__ = ["CommandSessions", "ExecArgs", "ExecCommandTool", "StdinArgs", "WriteStdinTool"]

_WAIT_S: Final = 60.0
_INTERACTIVE_WAIT_S: Final = 5.0
_INPUT_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 600.0

_INTERRUPT: Final = "\x03"
_END_OF_FILE: Final = "\x04"
_SHELLS: Final = {"bash", "sh", "zsh", "dash"}

_WAIT_PROPERTIES: Final[dict[str, Any]] = {
    "until": {"type": "string", "description": "Return as soon as the new output matches this regular expression."},
    "max_output_tokens": {"type": "integer", "description": "Longer output is cut in the middle."},
}
_EXEC_SPEC = ToolSpec(
    name="exec_command",
    description=(
        "Run a shell command. Returns its output when it ends, prints a match of `until`, or `wait_s` is over; "
        "in the last two cases it goes on as a session for write_stdin, until the turn ends."
    ),
    parameters={
        "type": "object",
        "properties": {
            "cmd": {"type": "string", "description": "For bash."},
            "workdir": {"type": "string", "description": "Relative to the working directory, which is the default."},
            "wait_s": {"type": "number", "description": "At most 600; default 60, interactive ones 5."},
            **_WAIT_PROPERTIES,
            "tty": {"type": "boolean", "description": "Give it a terminal."},
            "stdin": {"type": "boolean", "description": "Keep its standard input open for write_stdin."},
            "escalate": {"type": "boolean", "description": "Ask to run it outside the sandbox."},
            "reason": {"type": "string", "description": "With escalate: why, in a sentence for the person."},
        },
        "required": ["cmd"],
        "additionalProperties": False,
    },
)
_STDIN_SPEC = ToolSpec(
    name="write_stdin",
    description="Type into a running session, or wait for more of its output. Returns what is new.",
    parameters={
        "type": "object",
        "properties": {
            "session_id": {"type": "integer"},
            "chars": {"type": "string", "description": "Empty: only wait. \\u0003: interrupt it."},
            "wait_s": {"type": "number", "description": "At most 600; default 60, after input without `until` 2."},
            **_WAIT_PROPERTIES,
            "eof": {"type": "boolean", "description": "End its standard input after `chars`."},
            "kill": {"type": "boolean", "description": "End it and all that it started."},
        },
        "required": ["session_id"],
        "additionalProperties": False,
    },
)


class _RawExec(msgspec.Struct):
    """`exec_command` as models write it, with the names that other agents' tools have taught them."""

    cmd: str | list[str] | None = None
    command: str | list[str] | None = None
    workdir: str = ""
    tty: bool = False
    stdin: bool = False
    wait_s: float | None = None
    yield_time_ms: float | None = None
    timeout_ms: float | None = None
    until: str = ""
    max_output_tokens: int | None = None
    escalate: bool = False
    sandbox_permissions: str = ""
    with_escalated_permissions: bool = False
    reason: str = ""
    justification: str = ""


class _RawStdin(msgspec.Struct):
    session_id: int
    chars: str = ""
    wait_s: float | None = None
    yield_time_ms: float | None = None
    until: str = ""
    max_output_tokens: int | None = None
    kill: bool = False
    eof: bool = False


class ExecArgs(msgspec.Struct, frozen=True):
    """Arguments of `exec_command`; `until` is a compiled pattern, `wait_s` within its limits."""

    command: str
    workdir: str
    wait_s: float
    until: Any = None
    tty: bool = False
    stdin: bool = False
    max_output_tokens: int | None = None
    escalate: bool = False
    reason: str = ""


class StdinArgs(msgspec.Struct, frozen=True):
    """Arguments of `write_stdin`."""

    session_id: int
    chars: str
    wait_s: float
    until: Any = None
    max_output_tokens: int | None = None
    kill: bool = False
    eof: bool = False


class ExecCommandTool:
    """Runs commands in `sessions`."""

    spec = _EXEC_SPEC
    parallel = False

    def __init__(self, sessions: CommandSessions) -> None:
        self._sessions = sessions

    def parse(self, call: ToolCall) -> ExecArgs:
        raw = decode_arguments(call, _RawExec)
        command = _command_line(raw.cmd if raw.cmd is not None else raw.command)
        if not command.strip():
            raise MalformedCall("exec_command: `cmd` is missing.")
        if "\0" in command or "\0" in raw.workdir:
            raise MalformedCall("exec_command: a command cannot hold a NUL character.")
        default = _INTERACTIVE_WAIT_S if (raw.tty or raw.stdin) and not raw.until else _WAIT_S
        return ExecArgs(
            command=command,
            workdir=raw.workdir,
            wait_s=_wait(raw.wait_s, raw.yield_time_ms if raw.timeout_ms is None else raw.timeout_ms, default),
            until=_pattern(call.name, raw.until),
            tty=raw.tty,
            stdin=raw.stdin or raw.tty,
            max_output_tokens=raw.max_output_tokens,
            escalate=raw.escalate or raw.with_escalated_permissions or raw.sandbox_permissions == "require_escalated",
            reason=raw.reason or raw.justification,
        )

    def access(self, args: ExecArgs, cwd: Path) -> tuple[Access, ...]:
        return (RunCommand(args.command, _folder(cwd, args.workdir), args.escalate, args.reason),)

    def begin(self, args: ExecArgs, item_id: str) -> CommandExecution:
        return CommandExecution(item_id, args.command, "", None, "in_progress")

    async def run(self, args: ExecArgs, context: ToolContext) -> Outcome:
        if self._sessions.full():
            return _refused(args.command, context, f"{SESSION_LIMIT} sessions are running; end some with write_stdin.")
        buffer = OutputBuffer(context.output_tokens, context.spill / f"{context.item_id}.log", context.hiding)
        try:
            session = await self._sessions.open(
                args.command,
                buffer,
                cwd=_folder(context.cwd, args.workdir),
                tty=args.tty,
                stdin=args.stdin,
                escalated=args.escalate and context.escalated,
                unbuffered=args.until is not None,
            )
        except SpawnError as error:
            reason = "\n".join((str(error), *self._sessions.limits_met()))
            return _refused(args.command, context, reason)
        stop = await session.wait(args.wait_s, args.until, context.delta)
        return await _report(
            self._sessions,
            session,
            stop,
            limit_tokens=args.max_output_tokens,
            context=context,
            command=args.command,
        )


class WriteStdinTool:
    """Types into the sessions that `ExecCommandTool` left running, and waits for them."""

    spec = _STDIN_SPEC
    parallel = False

    def __init__(self, sessions: CommandSessions) -> None:
        self._sessions = sessions

    def parse(self, call: ToolCall) -> StdinArgs:
        raw = decode_arguments(call, _RawStdin)
        typed = raw.chars != "" or raw.eof
        return StdinArgs(
            session_id=raw.session_id,
            chars=raw.chars,
            wait_s=_wait(raw.wait_s, raw.yield_time_ms, _INPUT_WAIT_S if typed and not raw.until else _WAIT_S),
            until=_pattern(call.name, raw.until),
            max_output_tokens=raw.max_output_tokens,
            kill=raw.kill,
            eof=raw.eof,
        )

    def access(self, args: StdinArgs, cwd: Path) -> tuple[Access, ...]:
        """What is typed into a session may be a command, and runs where the session does: inside or outside."""
        session = self._sessions.get(args.session_id)
        text = args.chars.strip().strip(_INTERRUPT + _END_OF_FILE)
        if session is None or not text:
            return ()
        return (RunCommand(text, str(cwd), session.escalated, f"Input for: {session.command}"),)

    def begin(self, args: StdinArgs, item_id: str) -> CommandExecution:
        return CommandExecution(item_id, self._shown(args), "", None, "in_progress", session_id=args.session_id)

    async def run(self, args: StdinArgs, context: ToolContext) -> Outcome:
        shown = self._shown(args)
        session = self._sessions.get(args.session_id)
        if session is None:
            return _refused(shown, context, f"There is no session {args.session_id}; it may have ended.")
        stop: Stop = "ended"
        if args.kill:
            await session.kill()
        elif session.running and (refusal := _type(session, args)):
            return _refused(shown, context, refusal)
        else:
            stop = await session.wait(args.wait_s, args.until, context.delta)
        return await _report(
            self._sessions, session, stop, limit_tokens=args.max_output_tokens, context=context, command=shown
        )

    def _shown(self, args: StdinArgs) -> str:
        session = self._sessions.get(args.session_id)
        command = session.command if session is not None else f"session {args.session_id}"
        return f"{command} <<< {args.chars!r}" if args.chars else command


def _type(session: Session, args: StdinArgs) -> str:
    """Pass input on to the session; return a sentence where it takes none, else ""."""
    chars, eof = args.chars, args.eof
    if not session.tty:
        if _INTERRUPT in chars:
            session.process.interrupt()
            chars = chars.replace(_INTERRUPT, "")
        if chars.endswith(_END_OF_FILE):
            chars, eof = chars[:-1], True
        if (chars or eof) and not session.stdin:
            return f"Session {session.number} has no standard input; start such a command with `stdin` or `tty`."
    if chars:
        session.process.write(chars.encode("utf-8", "replace"))
    if eof:
        session.process.close_stdin()
    return ""


async def _report(
    sessions: CommandSessions,
    session: Session,
    stop: Stop,
    *,
    limit_tokens: int | None,
    context: ToolContext,
    command: str,
) -> Outcome:
    returncode = session.process.returncode
    number: int | None = None
    if stop == "ended":
        head = exit_text(returncode)
        sessions.forget(session)
    else:
        number = sessions.keep(session)
        head = f"running, session {number}"
        if stop == "matched":
            head += ", `until` matched"
        elif stop == "slow pattern":
            head += ", `until` takes too long to match: use a simpler one"
    shown = session.buffer.take(limit_tokens, more=stop != "ended")
    decisions = sessions.decisions(session)
    lines = [*_refusals(decisions, sessions.trouble()), *sessions.put_back(), *sessions.limits_met(returncode)]
    if stop == "ended" and returncode:
        lines += await sessions.denials(session, shown.text)
    text = _with_lines(shown.text, lines)
    output = f"{head} · {_seconds(session.wall_s)}"
    if text:
        output += "\n" + text
    output = _with_lines(output, sessions.news())
    item = CommandExecution(
        context.item_id,
        command,
        text,
        returncode if returncode is None or returncode >= 0 else 128 - returncode,
        "completed" if number is not None or returncode == 0 else "failed",
        session_id=number,
        wall_ms=round(session.wall_s * 1000, 1),
        output_path=shown.path,
        connections=tuple(_connection(decision) for decision in decisions),
    )
    return Outcome(output, item)


def _with_lines(text: str, lines: Sequence[str]) -> str:
    return "\n".join(filter(None, (text.removesuffix("\n"), *lines))) if lines else text


def _refusals(decisions: Sequence[Decision], trouble: str) -> list[str]:
    """Return a line for each connection that was not let, with what would allow it."""
    lines = [f"[network: {trouble}]"] if trouble else []
    for attempt, allowed, reason, method in decisions:
        if not allowed:
            port = f":{attempt.port}" if attempt.port else ""
            where = f"{method} {attempt.host}{port}".strip()
            fix = f'; egress.allow = ["{where}"] would allow it' if NOT_LISTED in reason else ""
            lines.append(f"[network: {where} was refused: {reason}{fix}]")
    return lines


def _connection(decision: Decision) -> Connection:
    attempt = decision.attempt
    return Connection(attempt.host, attempt.port, decision.allowed, decision.reason, attempt.program, decision.method)


def _refused(command: str, context: ToolContext, reason: str) -> Outcome:
    return Outcome(reason, CommandExecution(context.item_id, command, reason, None, "failed"))


def _command_line(given: str | list[str] | None) -> str:
    """Return one line for bash; a list is either a shell with its script or a program with its arguments."""
    if given is None or isinstance(given, str):
        return given or ""
    if len(given) == 3 and Path(given[0]).name in _SHELLS and given[1] in ("-c", "-lc"):
        return given[2]
    import shlex

    return shlex.join(given)


def _folder(cwd: Path, workdir: str) -> str:
    if not workdir:
        return str(cwd)
    return str(cwd / (Path(workdir).expanduser() if workdir == "~" or workdir.startswith("~/") else workdir))


def _wait(seconds: float | None, millis: float | None, default: float) -> float:
    if seconds is None:
        seconds = default if millis is None else millis / 1000
    return min(seconds, _LONGEST_WAIT_S) if seconds > 0 else 0.0


def _pattern(tool: str, until: str) -> re.Pattern[str] | None:
    if not until:
        return None
    try:
        return re.compile(until, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise MalformedCall(f"{tool}: `until` is not a regular expression: {error}.") from None


def _seconds(wall_s: float) -> str:
    return f"{wall_s:.1f} s" if wall_s < 10 else f"{wall_s:.0f} s"
