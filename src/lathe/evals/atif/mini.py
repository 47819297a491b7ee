"""What mini-swe-agent leaves, as a trajectory: the file of `--output`, format mini-swe-agent-1.1.

Its messages are those of Chat Completions, each with an `extra` of its own: when it was, what the model's answer was in
full, what a command printed and how it ended (https://mini-swe-agent.com/latest/usage/output_files/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from lathe.evals.atif.draft import Draft, as_count, as_text, stamp
from lathe.evals.atif.format import Agent, FinalMetrics, Metrics, Trajectory


class Told(NamedTuple):
    """What the file says of the whole; `exit_status` is `Submitted` where it ended by itself, "" where it did not."""

    exit_status: str
    answer: str
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


def told_of(data: bytes) -> Told:
    """Return what the file says of the whole; raise `ValueError` where it is none."""
    whole = _whole(data)
    info = _table(whole.get("info"))
    messages = _messages(whole)
    said = [as_text(one.get("content")) for one in messages if one.get("role") == "assistant"]
    answer = as_text(info.get("submission")).strip() or next((one for one in reversed(said) if one), "")
    metrics = [found for one in messages if (found := _metrics(one)) is not None]
    return Told(
        as_text(info.get("exit_status")),
        answer,
        as_count(_table(info.get("model_stats")).get("api_calls")),
        sum(one.prompt_tokens or 0 for one in metrics),
        sum(one.cached_tokens or 0 for one in metrics),
        sum(one.completion_tokens or 0 for one in metrics),
    )


def from_mini(data: bytes) -> Trajectory:
    """Return the trajectory that the file holds; raise `ValueError` where it is none.

    A step is one answer of the model with the commands in it and what they printed.
    """
    whole, told = _whole(data), told_of(data)
    info = _table(whole.get("info"))
    model = as_text(_table(_table(info.get("config")).get("model")).get("model_name")).removeprefix("openai/")
    draft = Draft()
    for message in _messages(whole):
        _take(draft, message)
    return draft.finish(
        Agent("mini-swe-agent", as_text(info.get("mini_version")) or "unknown", model_name=model or None),
        session="",
        totals=FinalMetrics(told.input_tokens, told.output_tokens, told.cached_tokens),
    )


def _take(draft: Draft, message: dict[str, Any]) -> None:
    extra, text = _table(message.get("extra")), as_text(message.get("content"))
    at = extra.get("timestamp")
    when = stamp(round(at * 1000)) if isinstance(at, int | float) and 0 <= at < 2**33 else None
    match message.get("role"):
        case "assistant":
            step = draft.add("agent", text, timestamp=when, requests=1, metrics=_metrics(message))
            step.model = as_text(_table(extra.get("response")).get("model")) or None
            if thought := as_text(message.get("reasoning_content")):
                step.thoughts.append(thought)
            for call in _list(message.get("tool_calls")):
                asked = _table(call.get("function"))
                draft.call(
                    step, as_text(call.get("id")), as_text(asked.get("name")), _arguments(asked.get("arguments"))
                )
        case "tool":
            more = {"exit_code": extra["returncode"]} if extra.get("returncode") is not None else None
            output = extra.get("raw_output")
            draft.answer(as_text(message.get("tool_call_id")), output if isinstance(output, str) else text, more)
        case "exit":
            draft.add("system", text or as_text(extra.get("exit_status")), timestamp=when)
        case "user" | "system" as role:
            draft.add(role, text, timestamp=when)
        case _:
            pass


def _metrics(message: dict[str, Any]) -> Metrics | None:
    """Return what an answer took; one that was no proper call stands in the words that say so."""
    usage = _table(_table(_table(message.get("extra")).get("response")).get("usage"))
    if not usage:
        return None
    cached = as_count(_table(usage.get("prompt_tokens_details")).get("cached_tokens"))
    return Metrics(as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens")), cached)


def _whole(data: bytes) -> dict[str, Any]:
    try:
        whole = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("It is no JSON.") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("messages"), list):
        raise ValueError("It holds no messages.")
    return whole


def _messages(whole: dict[str, Any]) -> list[dict[str, Any]]:
    return list(_list(whole["messages"]))


def _list(value: Any) -> Iterator[dict[str, Any]]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _arguments(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value
