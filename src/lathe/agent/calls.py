"""Running the tool calls of one model answer: parse, approve, run, answer. Every call gets one output."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from lathe.agent.approvals import ApprovalQuestion, Approvals
from lathe.agent.guarding import Guarding, Judged, Wished
from lathe.agent.hiding import HidingSink, revealed
from lathe.agent.known import only_reads
from lathe.agent.verdict import NO_WORKAROUND
from lathe.guard.shell import plain_parts
from lathe.guard.wrappers import Words
from lathe.protocol.errors import LatheError, SafeguardStop
from lathe.protocol.events import CallRejected, Event, ItemCompleted, ItemDelta, ItemStarted, ItemUpdated, ShownItem
from lathe.protocol.items import ContentPart, Item, ToolCall, ToolOutput, output_for
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.apply_patch import ApplyPatchTool
from lathe.tools.base import MalformedCall, NothingHidden, Outcome, RunCommand, Tool, ToolContext
from lathe.tools.exec import ExecArgs
from lathe.tools.patch_command import intercepted_patch

if TYPE_CHECKING:
    from lathe.guard.vault import Vault

INTERRUPTED = "Interrupted by the person before it finished. It may have had part of its effect."
HALTED = (
    "Not finished: Lathe stopped the turn and all that ran in it, and asks the person. It may have had part of its"
    " effect. Do not try the same in another way."
)


class Sink(Protocol):
    """Where outputs and events of calls go: journal first, then transcript and listener."""

    def answered(self, output: ToolOutput, event: Event) -> None: ...

    def is_answered(self, call_id: str) -> bool: ...

    def emit(self, event: Event) -> None: ...

    def show(self, event: Event) -> None:
        """Show without journalling: updates that a later event supersedes."""
        ...

    def next_item_id(self) -> str: ...


class CallWatch(Protocol):
    """What looks at the workspace around a call (`agent.watch.Watch`)."""

    trouble: str

    async def before(self) -> None: ...

    def running(self) -> None: ...

    def after(self, what: str, *, recorded: bool = False, agreed: bool = False) -> None: ...

    def news(self) -> list[str]: ...


class Prepared(NamedTuple):
    """A call that may run.

    `destructive` says that what it does to files wants undoing, if it was a mistake; `watched` that it may change any;
    `agreed` that the person let this very call.
    """

    call: ToolCall
    tool: Tool
    args: Any
    escalated: bool
    destructive: bool
    watched: bool
    agreed: bool


class CallRunner:
    """Runs calls for one thread. `watch` looks at the workspace around those that may change it; `risky` is held then.

    With a `vault` no secret leaves: a call is run with the values of its placeholders, and whatever comes of it is
    hidden before it is journalled, shown or sent. With a `guard` every call is judged before it runs.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        approvals: Approvals,
        *,
        cwd: Path,
        policy: SandboxPolicy,
        spill: Path,
        output_tokens: int,
        watch: CallWatch | None = None,
        vault: Vault | None = None,
        guard: Guarding | None = None,
        deltas: bool = False,
        risky: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._watch = watch
        self._risky = risky
        self._vault = vault
        self._guard = guard
        self._before: Sequence[Item] = ()
        self.tools = {tool.spec.name: tool for tool in tools}
        self._approvals = approvals
        self._cwd = cwd
        self._policy = policy
        self._spill = spill
        self._output_tokens = output_tokens
        self._deltas = deltas
        self.rejected_in_a_row = 0
        self.interruption = INTERRUPTED
        """What a call is answered with that a cancelled turn cuts short."""

    async def run(self, calls: Sequence[ToolCall], sink: Sink, before: Sequence[Item] = ()) -> None:
        """Answer every call, in order; those of parallel tools that stand together run together.

        `before` is the conversation so far. When cancelled, the call that runs is ended, and it and all after it are
        answered as interrupted. Raises `SafeguardStop` where the guard stops the turn; then no further call is run.
        """
        self._before = before
        if self._vault is not None:
            sink = HidingSink(sink, self._vault)
        waiting = list(calls)
        try:
            while waiting:
                group = self._parallel_group(waiting)
                if len(group) > 1:
                    await self._run_together(group, sink)
                    del waiting[: len(group)]
                else:
                    await self._run_one(waiting[0], sink)
                    del waiting[0]
        except asyncio.CancelledError:
            for call in waiting:
                if not sink.is_answered(call.call_id):
                    self._reject(call, "interrupted", self.interruption, sink)
            raise
        except SafeguardStop:
            for call in waiting:
                if not sink.is_answered(call.call_id):
                    self._reject(call, "forbidden", f"{call.name} was not run: a safeguard stopped the turn.", sink)
            raise

    def _parallel_group(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        group: list[ToolCall] = []
        for call in calls:
            tool = self.tools.get(call.name)
            if tool is None or not tool.parallel:
                break
            group.append(call)
        return group

    async def _run_together(self, calls: Sequence[ToolCall], sink: Sink) -> None:
        ready = [await self._prepare(call, sink) for call in calls]
        tasks = [asyncio.create_task(self._execute(one, sink)) for one in ready if one is not None]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_one(self, call: ToolCall, sink: Sink) -> None:
        prepared = await self._prepare(call, sink)
        if prepared is None:
            return
        with self._risky() if prepared.watched else contextlib.nullcontext():
            await self._run_watched(call, prepared, sink)

    async def _run_watched(self, call: ToolCall, prepared: Prepared, sink: Sink) -> None:
        watch = self._watch if prepared.watched else None
        if watch is None:
            await self._execute(prepared, sink)
            return
        if prepared.destructive and watch.trouble:
            why = f"{call.name} was not run, for it would destroy what can't be kept: {watch.trouble} {NO_WORKAROUND}"
            self._reject(call, "denied", why, sink)
            return
        recorded = prepared.tool.spec.name in ("exec_command", "write_stdin") and not prepared.escalated
        if recorded:
            watch.running()
        try:
            await self._execute(prepared, sink)
        finally:
            did = prepared.args.command if isinstance(prepared.args, ExecArgs) else call.name
            shown = self._vault.hide(did) if self._vault is not None else did
            watch.after(shown, recorded=recorded, agreed=prepared.agreed)

    async def _prepare(self, call: ToolCall, sink: Sink) -> Prepared | None:
        """Return the call ready to run, or answer it as rejected and return None."""
        tool = self.tools.get(call.name)
        if tool is None:
            self._reject(call, "unknown_tool", self._unknown(call.name), sink)
            return None
        try:
            tool, args = self._intercept(tool, tool.parse(self._revealed(call)))
        except MalformedCall as error:
            self._reject(call, "malformed", f"{call.name} was not run: {error}", sink)
            return None
        watched = not tool.parallel and may_change(tool, args)
        access, agreed = tool.access(args, self._cwd), False
        if self._guard is not None and access:
            risky = watched or any(isinstance(one, RunCommand) and one.escalate for one in access)
            passes = await self._guarded(self._guard, Wished(call, access, risky, self._cwd, self._before), sink)
            if passes is None:
                return None
            agreed = passes
        if self._watch is not None and watched:
            await self._watch.before()  # what the person has changed meanwhile counts in the review
        review = await self._approvals.review(access, policy=self._policy, cwd=self._cwd, agreed=agreed)
        if not review.allowed:
            self._reject(call, "denied", review.message, sink)
            return None
        self.rejected_in_a_row = 0
        return Prepared(call, tool, args, review.escalated, review.destructive, watched, agreed or review.agreed)

    async def _guarded(self, guard: Guarding, wished: Wished, sink: Sink) -> bool | None:
        """Return whether the person agreed to a call that may run; answer it and return None where it may not.

        Raises `SafeguardStop`.
        """
        judged = await guard.judge(wished)
        if judged is None:
            return False
        step: str = judged.measure.step
        answer = words = ""
        if step == "hold":
            why = self._approvals.forbids(wished.access, policy=self._policy, cwd=self._cwd)
            if why:  # nobody need be asked about it
                self._reject(wished.call, "denied", why, sink)
                return None
            sink.emit(judged.event())
            step, answer, words, judged = await self._held(guard, wished, judged)
        sink.emit(judged.event(step=step, answer=answer))
        if step in ("allow", "log"):
            return answer == "approve"
        said = f' The person said: "{words}"' if words else ""
        reason = "denied" if words else "forbidden"
        self._reject(wished.call, reason, f"{judged.output}{said} {NO_WORKAROUND}", sink)
        if step in ("pause", "restrict"):
            raise SafeguardStop(judged.measure.sentence, hint="Say how to go on: the thread is intact.")
        return None

    async def _held(self, guard: Guarding, wished: Wished, judged: Judged) -> tuple[str, str, str, Judged]:
        """Return how a hold ends: the step, the person's answer and words, and what was judged last."""
        measure = judged.measure
        waits = measure.ground == "monitor"  # else no check is under way that could be waited for
        choices = tuple(one for one in measure.choices if one != "wait" or waits)
        question = ApprovalQuestion(wished.access, f"{wished.call.name} is held", judged.notice, (), choices)
        answer = await self._approvals.hold(question, measure.wait_s)
        if answer.choice == "once" and "approve" in choices:
            return "allow", "approve", "", judged
        if answer.choice != "wait":
            return "withhold", "drop", answer.words.strip(), judged
        again = await guard.judge(wished) if waits else judged
        if again is None:
            return "allow", "wait", "", judged
        step = again.measure.then if again.measure.step == "hold" else again.measure.step
        return step, "wait", "", again

    def _revealed(self, call: ToolCall) -> ToolCall:
        return revealed(call, self._vault) if self._vault is not None else call

    def _intercept(self, tool: Tool, args: Any) -> tuple[Tool, Any]:
        """A patch that is applied through the shell is a patch: same checks, same event."""
        patch_tool = self.tools.get("apply_patch")
        if isinstance(args, ExecArgs) and isinstance(patch_tool, ApplyPatchTool):
            found = intercepted_patch(args.command)
            if found is not None:
                return patch_tool, patch_tool.arguments(found.text, str(Path(args.workdir, found.directory or "")))
        return tool, args

    async def _execute(self, prepared: Prepared, sink: Sink) -> None:
        call, tool, args, escalated, *_ = prepared
        item_id = sink.next_item_id()
        begun = tool.begin(args, item_id)
        sink.emit(ItemStarted(begun))
        context = ToolContext(
            cwd=self._cwd,
            policy=self._policy,
            spill=self._spill,
            item_id=item_id,
            show=lambda item: sink.show(ItemUpdated(item)),
            delta=(lambda text: sink.show(ItemDelta(item_id, "output", text))) if self._deltas else _ignore,
            escalated=escalated,
            output_tokens=self._output_tokens,
            hiding=self._vault or NothingHidden(),
        )
        try:
            outcome = await tool.run(args, context)
        except asyncio.CancelledError:
            sink.answered(output_for(call, self.interruption), ItemCompleted(_with_status(begun, "interrupted")))
            raise
        except LatheError:
            raise
        except Exception as error:  # a fault of one tool must not take the thread with it
            text = f"{call.name} failed inside Lathe: {type(error).__name__}: {error}"
            outcome = Outcome(text, _with_status(begun, "failed"))
        if self._watch is not None and isinstance(outcome.output, str) and (news := self._watch.news()):
            outcome = outcome._replace(output="\n".join((outcome.output.removesuffix("\n"), *news)))
        sink.answered(output_for(call, outcome.output), ItemCompleted(outcome.item))

    def _reject(self, call: ToolCall, reason: Any, message: str, sink: Sink) -> None:
        self.rejected_in_a_row += 1
        output: str | tuple[ContentPart, ...] = message
        sink.answered(output_for(call, output), CallRejected(call.call_id, call.name, reason, message))

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.tools, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        return f"There is no tool {name!r}.{guess} The tools are: {', '.join(self.tools)}."


def may_change(tool: Tool, args: Any) -> bool:
    """Tell whether a call may change the workspace, as far as can be told cheaply."""
    if isinstance(args, ExecArgs):
        parts = plain_parts(args.command)
        return parts is None or not all(only_reads(part) or _only_searches(part.words) for part in parts)
    return tool.spec.name in ("write_stdin", "apply_patch") or tool.spec.name.startswith("mcp__")


def _only_searches(words: Words) -> bool:
    """Tell whether a command is the search of mend, which works in a copy: what changes meanwhile is the person's."""
    return words[:4] == (sys.executable, "-m", "lathe.mend", "--time") and not {"--run-tests", None} & set(words)


def _ignore(_: str) -> None:
    return None


def _with_status(item: ShownItem, status: str) -> ShownItem:
    return msgspec.structs.replace(item, status=status) if hasattr(item, "status") else item
