"""The format itself: ATIF as Harbor 0.26 reads it (its RFC 0001, schema versions 1.0 to 1.8).

Reading forgives: what can be understood is kept, the rest is left out, and what comes back is always valid. Writing
does not: a trajectory that Harbor would refuse is refused here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

VERSION = "ATIF-v1.7"
"""The oldest version that has all that Lathe writes, so that older readers take it too."""
VERSIONS = tuple(f"ATIF-v1.{minor}" for minor in range(9))
Source: TypeAlias = Literal["system", "user", "agent"]
_SOURCES: dict[str, Source] = {
    "assistant": "agent",
    "model": "agent",
    "human": "user",
    "developer": "system",
    "tool": "system",
    "environment": "system",
}
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SOUNDS = tuple(f"audio/{kind}" for kind in ("wav", "mpeg", "mp4", "aac", "ogg", "flac", "webm", "aiff"))


class TrajectoryError(ValueError):
    """A trajectory that can't be read at all, or must not be written; the message says why in a sentence."""


class ImageSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an image or a sound lies: a path beside the trajectory, or a URL. `duration_sec` is a sound's."""

    media_type: str
    path: str
    duration_sec: float | None = None


class ContentPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a message: `text`, or the `source` of an image or a sound."""

    type: Literal["text", "image", "audio"]
    text: str | None = None
    source: ImageSource | None = None


Content: TypeAlias = str | tuple[ContentPart, ...]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]
    extra: dict[str, Any] | None = None


class SubagentTrajectoryRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another agent's trajectory: embedded in this one by its id, or in a file of its own."""

    trajectory_id: str | None = None
    session_id: str | None = None
    trajectory_path: str | None = None
    extra: dict[str, Any] | None = None


class ObservationResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came back; `source_call_id` is a call of the same step, or None where no call asked for it."""

    source_call_id: str | None = None
    content: Content | None = None
    subagent_trajectory_ref: tuple[SubagentTrajectoryRef, ...] | None = None
    extra: dict[str, Any] | None = None


class Observation(msgspec.Struct, frozen=True):
    results: tuple[ObservationResult, ...]


class Metrics(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step took. `prompt_tokens` counts everything read, `cached_tokens` the part a cache served."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    completion_token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    extra: dict[str, Any] | None = None


class FinalMetrics(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sums over all steps."""

    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_cost_usd: float | None = None
    total_steps: int | None = None
    extra: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step: what somebody said, the calls made with it, and what came back. Ids count from 1, without a gap."""

    step_id: int
    source: Source
    message: Content
    timestamp: str | None = None
    model_name: str | None = None
    reasoning_effort: str | float | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    observation: Observation | None = None
    metrics: Metrics | None = None
    is_copied_context: bool | None = None
    llm_call_count: int | None = None
    extra: dict[str, Any] | None = None


class Agent(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    version: str
    model_name: str | None = None
    tool_definitions: tuple[dict[str, Any], ...] | None = None
    extra: dict[str, Any] | None = None


class Trajectory(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An agent's whole run, or with `trajectory_id` a part of another's."""

    schema_version: str
    agent: Agent
    steps: tuple[Step, ...]
    session_id: str | None = None
    trajectory_id: str | None = None
    notes: str | None = None
    final_metrics: FinalMetrics | None = None
    continued_trajectory_ref: str | None = None
    extra: dict[str, Any] | None = None
    subagent_trajectories: tuple[Trajectory, ...] | None = None


_S = TypeVar("_S", bound=msgspec.Struct)
_AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")


def text_of(content: Content | None) -> str:
    """Return the text of a message; other parts are named in brackets."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        part.text or "" if part.source is None else f"[{part.type}: {part.source.path[:200]}]" for part in content
    )


def write(trajectory: Trajectory) -> bytes:
    """Return the JSON of a trajectory; raise `TrajectoryError` where Harbor's reader would refuse it."""
    for fault in faults_of(trajectory):
        raise TrajectoryError(fault)
    try:
        return msgspec.json.encode(trajectory)
    except (TypeError, ValueError, OverflowError) as error:
        raise TrajectoryError(f"The trajectory is not JSON: {error}.") from None


def faults_of(trajectory: Trajectory) -> Iterator[str]:
    """Yield what a strict reader would refuse of a trajectory, a sentence each."""
    if trajectory.schema_version not in VERSIONS:
        yield f"The schema version {trajectory.schema_version} is not one of {VERSIONS[0]} to {VERSIONS[-1]}."
    if not trajectory.steps:
        yield "A trajectory has at least one step."
    for number, step in enumerate(trajectory.steps, 1):
        if step.step_id != number:
            yield f"Step {number} has the id {step.step_id}: ids count from 1."
        for fault in _faults_of_step(step):
            yield f"Step {number} {fault}."
    final = trajectory.final_metrics
    if final is not None and final.total_steps is not None and final.total_steps < 0:
        yield "The number of steps is negative."
    seen: set[str] = set()
    for below in trajectory.subagent_trajectories or ():
        if below.trajectory_id is None or below.trajectory_id in seen:
            yield "A trajectory within another needs an id of its own."
        seen.add(below.trajectory_id or "")
        yield from faults_of(below)


def _faults_of_step(step: Step) -> Iterator[str]:
    if step.source not in ("system", "user", "agent"):
        yield f"comes from {step.source}, which is neither system, user nor agent"
    if step.timestamp is not None and not _is_time(step.timestamp):
        yield f"has the time {step.timestamp}, which is not ISO 8601"
    if step.source != "agent":
        wrong = [name for name in _AGENT_ONLY if getattr(step, name) is not None]
        if wrong:
            yield f"is not the agent's and has {', '.join(wrong)}"
    if step.llm_call_count is not None and step.llm_call_count < 0:
        yield "counts fewer than no requests"
    if step.llm_call_count == 0 and step.source == "agent" and (step.metrics or step.reasoning_content) is not None:
        yield "asked no model and has metrics or reasoning"
    contents: list[Content | None] = [step.message]
    calls = {call.tool_call_id for call in step.tool_calls or ()}
    for result in step.observation.results if step.observation else ():
        contents.append(result.content)
        if result.source_call_id is not None and result.source_call_id not in calls:
            yield f"has a result of {result.source_call_id}, which it did not call"
        for ref in result.subagent_trajectory_ref or ():
            if ref.trajectory_id is None and ref.trajectory_path is None:
                yield "refers to a trajectory without an id or a path"
    for content in contents:
        if isinstance(content, tuple) and not all(map(_is_sound, content)):
            yield "has a part whose type and content do not agree"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def _is_sound(part: ContentPart) -> bool:
    if part.type == "text":
        return part.text is not None and part.source is None
    if part.source is None or part.text is not None:
        return False
    source = part.source
    if part.type == "image":
        return source.media_type in _IMAGES and source.duration_sec is None
    return source.media_type in _SOUNDS and (source.duration_sec is None or source.duration_sec >= 0)


def read(data: bytes | str) -> Trajectory:
    """Return the trajectory that a JSON text holds, mended where it is not quite one.

    Steps are numbered anew, other names for a source are understood, and what a strict reader would refuse is left
    out. Raises `TrajectoryError` where the text is no JSON object or has no step.
    """
    try:
        exact = msgspec.json.decode(data, type=Trajectory)
        if next(faults_of(exact), None) is None:
            return exact
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrajectoryError(f"The trajectory is not JSON: {error}.") from None
    found = _trajectory(raw)
    if found is None:
        raise TrajectoryError("The trajectory has no steps.")
    return found


def _trajectory(raw: Any) -> Trajectory | None:
    if not isinstance(raw, dict):
        return None
    steps = raw.get("steps")
    found = [_step(one) for one in steps if isinstance(one, dict)] if isinstance(steps, list) else []
    if not found:
        return None
    given: dict[str, Any] = raw["agent"] if isinstance(raw.get("agent"), dict) else {}
    must = {name: given[name] if _is_str(given.get(name)) else "unknown" for name in ("name", "version")}
    final = _forgiven(raw.get("final_metrics"), FinalMetrics)
    if final is not None and (final.total_steps or 0) < 0:
        final = msgspec.structs.replace(final, total_steps=None)
    version = raw.get("schema_version")
    return _forgiven(
        raw,
        Trajectory,
        schema_version=version if version in VERSIONS else VERSIONS[-1],
        agent=_forgiven(given, Agent, **must),
        steps=tuple(msgspec.structs.replace(step, step_id=number) for number, step in enumerate(found, 1)),
        final_metrics=final,
        subagent_trajectories=_subagents(raw.get("subagent_trajectories")),
    )


def _subagents(raw: Any) -> tuple[Trajectory, ...] | None:
    if not isinstance(raw, list):
        return None
    found: dict[str, Trajectory] = {}
    for one in filter(None, map(_trajectory, raw)):
        name = one.trajectory_id
        while name is None or name in found:
            name = f"{one.trajectory_id or 'subagent'}-{len(found) + 1}" if name is None else f"{name}'"
        found[name] = msgspec.structs.replace(one, trajectory_id=name)
    return tuple(found.values())


def _step(raw: dict[str, Any]) -> Step:
    said = raw.get("source")
    named: Source = _SOURCES.get(said, "agent") if isinstance(said, str) else "agent"
    known = said if said in ("system", "user", "agent") else named
    given: dict[str, Any] = {
        "step_id": 1,
        "source": known,
        "message": "" if raw.get("message") is None else _content(raw["message"]),
        "tool_calls": None,
        "observation": None,
    }
    calls = raw.get("tool_calls")
    if isinstance(calls, list):
        given["tool_calls"] = tuple(_call(one, number) for number, one in enumerate(calls) if isinstance(one, dict))
    ids = {call.tool_call_id for call in given["tool_calls"] or ()} if known == "agent" else set()
    watched = raw.get("observation")
    if isinstance(watched, dict) and isinstance(watched.get("results"), list):
        results = (_result(one, ids) for one in watched["results"] if isinstance(one, dict))
        given["observation"] = Observation(tuple(results))
    if known != "agent":
        given.update(dict.fromkeys(_AGENT_ONLY))
    step = _forgiven(raw, Step, **given)
    assert step is not None
    changes: dict[str, Any] = {}
    if step.timestamp is not None and not _is_time(step.timestamp):
        changes["timestamp"] = None
    if step.llm_call_count is not None and (step.llm_call_count < 0 or step.metrics or step.reasoning_content):
        changes["llm_call_count"] = step.llm_call_count if step.llm_call_count > 0 else None
    if step.llm_call_count == 0 and known == "agent" and step.reasoning_content == "":
        changes["reasoning_content"] = None
    return msgspec.structs.replace(step, **changes)


def _call(raw: dict[str, Any], number: int) -> ToolCall:
    arguments = raw.get("arguments")
    call = _forgiven(
        raw,
        ToolCall,
        tool_call_id=raw["tool_call_id"] if _is_str(raw.get("tool_call_id")) else f"call_{number}",
        function_name=raw["function_name"] if _is_str(raw.get("function_name")) else "unknown",
        arguments=arguments if isinstance(arguments, dict) else {} if arguments is None else {"input": arguments},
    )
    assert call is not None
    return call


def _result(raw: dict[str, Any], ids: set[str]) -> ObservationResult:
    source = raw.get("source_call_id")
    refs = raw.get("subagent_trajectory_ref")
    kept = [_forgiven(one, SubagentTrajectoryRef) for one in refs] if isinstance(refs, list) else None
    result = _forgiven(
        raw,
        ObservationResult,
        source_call_id=source if _is_str(source) and source in ids else None,
        content=_content(raw.get("content")),
        subagent_trajectory_ref=None
        if kept is None
        else tuple(ref for ref in kept if ref and (ref.trajectory_id or ref.trajectory_path) is not None),
    )
    assert result is not None
    return result


def _content(raw: Any) -> Content | None:
    if raw is None or isinstance(raw, str):
        return raw
    if not isinstance(raw, list):
        return msgspec.json.encode(raw).decode()
    parts = []
    for one in raw:
        part = _forgiven(one, ContentPart) if isinstance(one, dict) and "type" in one else None
        if part is None or not _is_sound(part):
            part = ContentPart("text", one if isinstance(one, str) else msgspec.json.encode(one).decode())
        parts.append(part)
    return tuple(parts)


def _is_str(raw: Any) -> bool:
    return isinstance(raw, str)


@functools.cache
def _fields(shape: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(shape)


def _forgiven(raw: Any, shape: type[_S], **given: Any) -> _S | None:
    """Return `shape` with what is `given` and the fields of `raw` that fit; None where one that must be is not."""
    if not isinstance(raw, dict):
        return None
    kept: dict[str, Any] = dict(given)
    for field in _fields(shape):
        if field.name in given or raw.get(field.name) is None:
            continue
        try:
            kept[field.name] = msgspec.convert(raw[field.name], field.type, strict=False)
        except (msgspec.ValidationError, OverflowError):
            continue
    try:
        return shape(**kept)
    except TypeError:
        return None
