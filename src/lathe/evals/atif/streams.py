"""What other agents print while they work, as trajectories: `exec --json` of Lathe and Codex CLI, and Claude Code's
`--output-format stream-json`. A line that is not understood is passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from lathe.evals.atif.draft import Draft, StepDraft, as_count, as_text
from lathe.evals.atif.format import Agent, FinalMetrics, Metrics, Trajectory

_QUIET = ("item.started", "item.updated")
_CALLS = {
    "command_execution": "exec_command",
    "file_change": "apply_patch",
    "web_search": "web_search",
    "mcp_tool_call": "",
    "tool_call": "",
    "collab_tool_call": "",
}


def from_exec_events(
    lines: Iterable[str | bytes], *, name: str = "codex", version: str = "unknown", model: str = "", prompt: str = ""
) -> Trajectory:
    """Return the trajectory that the lines of `codex exec --json` or `lathe exec --json` tell of.

    They do not say where one model request ends and the next begins: a message or a thought begins a step, and so does
    a call, unless it is the first since then or began while the one before it still ran. `prompt` is what was asked;
    the lines don't hold it.
    """
    reading = _ExecReading(model)
    if prompt:
        reading.draft.add("user", prompt)
    for event in _events(lines):
        reading.take(event)
    return reading.draft.finish(
        Agent(name, version, model_name=reading.model or None), session=reading.thread, totals=reading.totals
    )


class _ExecReading:
    def __init__(self, model: str) -> None:
        self.draft = Draft()
        self.thread = ""
        self.model = model
        self.totals = FinalMetrics()
        self.running: set[str] = set()

    def take(self, event: dict[str, Any]) -> None:
        kind, item = event.get("type"), event.get("item")
        if kind == "thread.started":
            self.thread = self.thread or as_text(event.get("thread_id"))
            self.model = self.model or as_text(event.get("model"))
        elif kind == "turn.completed":
            self._total(event.get("usage"))
        elif kind in ("turn.failed", "error"):
            error = event.get("error")
            self.draft.add("system", as_text(error.get("message") if isinstance(error, dict) else event.get("message")))
        elif kind == "model.served":
            self.draft.add("system", f"{event.get('served')} served in place of {event.get('requested')}.", extra=event)
        elif isinstance(item, dict) and kind in ("item.completed", *_QUIET):
            self._item(str(kind), item)

    def _item(self, kind: str, item: dict[str, Any]) -> None:
        what, name = as_text(item.get("type")), as_text(item.get("id"))
        if what in _CALLS:
            self._call(kind, what, name, item)
        elif kind == "item.completed" and what in ("agent_message", "assistant_message", "reasoning"):
            step = self.draft.last()
            if step is None or step.calls or step.message:
                step = self.draft.add("agent")
            text = as_text(item.get("text"))
            step.thoughts.append(text) if what == "reasoning" else step.say(text)
        elif kind == "item.completed" and what == "error":
            self.draft.add("system", as_text(item.get("message")))
        elif kind != "item.started" and what == "todo_list":
            step = self.draft.last() or self.draft.add("agent")
            step.extra["todo_list"] = item.get("items")

    def _call(self, kind: str, what: str, name: str, item: dict[str, Any]) -> None:
        if not self.draft.knows(name):
            step = self.draft.last()
            if step is None or (step.calls and not self.running):
                step = self.draft.add("agent")
            self.draft.call(step, name, _CALLS[what] or as_text(item.get("tool")) or what, _asked(what, item))
        if kind != "item.completed":
            self.running.add(name)
            return
        self.running.discard(name)
        known = {
            key: item[key]
            for key in ("status", "exit_code", "wall_ms", "diff")
            if item.get(key) is not None and item[key] != ""
        }
        self.draft.answer(name, _came_back(what, item), known)

    def _total(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        totals = self.totals
        cost = usage.get("cost_usd")
        self.totals = FinalMetrics(
            (totals.total_prompt_tokens or 0) + as_count(usage.get("input_tokens")),
            (totals.total_completion_tokens or 0) + as_count(usage.get("output_tokens")),
            (totals.total_cached_tokens or 0) + as_count(usage.get("cached_input_tokens")),
            total_cost_usd=(totals.total_cost_usd or 0.0) + float(cost)
            if isinstance(cost, (int, float))
            else totals.total_cost_usd,
        )


def _asked(what: str, item: dict[str, Any]) -> Any:
    match what:
        case "command_execution":
            return {"cmd": item.get("command")}
        case "file_change":
            return {"changes": item.get("changes")}
        case "web_search":
            return {"query": item.get("query")}
        case _:
            return item.get("arguments") if item.get("arguments") is not None else {}


def _came_back(what: str, item: dict[str, Any]) -> str:
    match what:
        case "command_execution":
            return as_text(item.get("aggregated_output"))
        case "file_change":
            changes = item.get("changes")
            listed = [one for one in changes if isinstance(one, dict)] if isinstance(changes, list) else []
            lines = [f"{one.get('kind', 'update')} {one.get('path', '')}" for one in listed]
            return "\n".join([*lines, as_text(item.get("error"))]).strip()
        case _:
            return as_text(item.get("error") or item.get("result") or "")


def from_claude_events(lines: Iterable[str | bytes], *, version: str = "unknown", prompt: str = "") -> Trajectory:
    """Return the trajectory that the lines of Claude Code's `stream-json` output tell of.

    Lines with the same message id are one model request. What a sub-agent did stands among the steps, marked
    `parent_tool_use_id` in their `extra`. Costs are known for the whole only.
    """
    reading = _ClaudeReading(version)
    if prompt:
        reading.draft.add("user", prompt)
    for event in _events(lines):
        reading.take(event)
    return reading.trajectory()


class _ClaudeReading:
    def __init__(self, version: str) -> None:
        self.draft = Draft()
        self.session = self.model = ""
        self.version = version
        self.cost: float | None = None
        self.steps: dict[str, StepDraft] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind, message = event.get("type"), event.get("message")
        self.session = self.session or as_text(event.get("session_id"))
        if kind == "system" and event.get("subtype") == "init":
            self.model = as_text(event.get("model"))
            self.version = as_text(event.get("claude_code_version")) or self.version
        elif kind == "assistant" and isinstance(message, dict):
            self._said(event, message)
        elif kind == "user" and isinstance(message, dict):
            self._heard(message.get("content"))
        elif kind == "result":
            cost = event.get("total_cost_usd")
            self.cost = float(cost) if isinstance(cost, (int, float)) else self.cost
            if event.get("is_error"):
                self.draft.add("system", as_text(event.get("result")) or as_text(event.get("subtype")))

    def _said(self, event: dict[str, Any], message: dict[str, Any]) -> None:
        name = as_text(message.get("id"))
        step = self.steps.get(name) if name else None
        if step is None:
            step = self.steps[name] = self.draft.add("agent", requests=1)
            step.model = as_text(message.get("model")) or None
            if event.get("parent_tool_use_id"):
                step.extra["parent_tool_use_id"] = event["parent_tool_use_id"]
        if isinstance(message.get("usage"), dict):
            step.metrics = _claude_metrics(message["usage"])
        for block in _blocks(message.get("content")):
            match block.get("type"):
                case "text":
                    step.say(as_text(block.get("text")))
                case "thinking":
                    step.thoughts.append(as_text(block.get("thinking")))
                case "tool_use" | "server_tool_use":
                    given = block.get("input")
                    self.draft.call(
                        step, as_text(block.get("id")), as_text(block.get("name")), {} if given is None else given
                    )
                case _:
                    pass

    def _heard(self, content: Any) -> None:
        for block in _blocks(content):
            if block.get("type") == "tool_result":
                extra = {"is_error": True} if block.get("is_error") else None
                self.draft.answer(as_text(block.get("tool_use_id")), _joined(block.get("content")), extra)
            elif block.get("type") == "text":
                self.draft.add("user", as_text(block.get("text")))

    def trajectory(self) -> Trajectory:
        metrics = [step.metrics for step in self.draft.steps if step.metrics is not None]
        totals = FinalMetrics(
            sum(one.prompt_tokens or 0 for one in metrics),
            sum(one.completion_tokens or 0 for one in metrics),
            sum(one.cached_tokens or 0 for one in metrics),
            total_cost_usd=self.cost,
        )
        agent = Agent("claude-code", self.version, model_name=self.model or None)
        return self.draft.finish(agent, session=self.session, totals=totals)


def _claude_metrics(usage: dict[str, Any]) -> Metrics:
    """Return the tokens of a request: Anthropic counts what a cache served, and what was written to it, apart."""
    cached, written = as_count(usage.get("cache_read_input_tokens")), as_count(usage.get("cache_creation_input_tokens"))
    return Metrics(
        prompt_tokens=as_count(usage.get("input_tokens")) + cached + written,
        completion_tokens=as_count(usage.get("output_tokens")),
        cached_tokens=cached,
        extra={"cache_write_tokens": written} if written else None,
    )


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _joined(content: Any) -> str:
    if not isinstance(content, list):
        return as_text(content)
    parts = [as_text(one["text"]) if "text" in one else f"[{one.get('type', 'part')}]" for one in _blocks(content)]
    return "\n".join(parts)


def _events(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        if not text.lstrip().startswith("{"):
            continue
        try:
            event = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event
