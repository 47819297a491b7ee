"""A trajectory in the making: steps that still grow, and where each call's result belongs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from lathe.evals.atif.format import (
    VERSION,
    Agent,
    Content,
    FinalMetrics,
    Metrics,
    Observation,
    ObservationResult,
    Source,
    Step,
    ToolCall,
    Trajectory,
)


class StepDraft(msgspec.Struct):
    """A step that may still get calls, results and metrics."""

    source: Source
    message: Content = ""
    timestamp: str | None = None
    model: str | None = None
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    results: list[ObservationResult] = []
    metrics: Metrics | None = None
    requests: int | None = None
    extra: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """Add words to what was said."""
        if not self.message:
            self.message = text
        elif isinstance(self.message, str):
            self.message = f"{self.message}\n{text}"

    def done(self, number: int) -> Step:
        """Return the step as it is kept."""
        return Step(
            step_id=number,
            source=self.source,
            message=self.message,
            timestamp=self.timestamp,
            model_name=self.model,
            reasoning_content="\n".join(self.thoughts) or None,
            tool_calls=tuple(self.calls) or None,
            observation=Observation(tuple(self.results)) if self.results else None,
            metrics=self.metrics,
            llm_call_count=self.requests,
            extra=self.extra or None,
        )


class Draft:
    """A trajectory's steps so far."""

    def __init__(self) -> None:
        self.steps: list[StepDraft] = []
        self._called: dict[str, StepDraft] = {}

    def add(self, source: Source, message: Content = "", **more: Any) -> StepDraft:
        """Begin a step and return it."""
        step = StepDraft(source, message, **more)
        self.steps.append(step)
        return step

    def last(self) -> StepDraft | None:
        """Return the agent's step that is the last of all, or None."""
        return self.steps[-1] if self.steps and self.steps[-1].source == "agent" else None

    def knows(self, call_id: str) -> bool:
        """Return whether a call with this id was made."""
        return call_id in self._called

    def call(self, step: StepDraft, call_id: str, name: str, arguments: Any) -> None:
        """Add a call to a step."""
        given = arguments if isinstance(arguments, dict) else {"input": arguments}
        step.calls.append(ToolCall(call_id, name, given))
        self._called[call_id] = step

    def answer(self, call_id: str, content: Content | None, extra: dict[str, Any] | None = None) -> None:
        """Add what came back for a call to the step that made it; what nobody called for is an observation apart."""
        step = self._called.get(call_id)
        if step is not None:
            step.results.append(ObservationResult(call_id, content, extra=extra or None))
        else:
            self.add("system").results.append(ObservationResult(None, content, extra=extra or None))

    def describe(self, call_id: str, **extra: Any) -> None:
        """Add to what is known of a call's result."""
        step = self._called.get(call_id)
        for number, result in enumerate(step.results if step else ()):
            if step is not None and result.source_call_id == call_id:
                step.results[number] = msgspec.structs.replace(result, extra={**(result.extra or {}), **extra})

    def finish(self, agent: Agent, *, session: str, totals: FinalMetrics, **more: Any) -> Trajectory:
        """Return the trajectory. One without any step gets one that says so, for the format wants at least one."""
        if not self.steps:
            self.add("system", "Nothing was done.")
        return Trajectory(
            schema_version=VERSION,
            agent=agent,
            steps=tuple(step.done(number) for number, step in enumerate(self.steps, 1)),
            session_id=session or None,
            trajectory_id=session or None,
            final_metrics=msgspec.structs.replace(totals, total_steps=len(self.steps)),
            **more,
        )


def stamp(t: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_text(value: Any) -> str:
    """Return what somebody's JSON says where a text belongs: anything else as JSON, "" for nothing."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def as_count(value: Any) -> int:
    """Return what somebody's JSON says where a count belongs; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and value > 0 else 0
