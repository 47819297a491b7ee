"""What went wrong with a request, whether to send it again, and when: one place for all wires."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from lathe.models.http import TransportError
from lathe.models.refusals import refusal_of
from lathe.protocol.errors import (
    ContentRefused,
    ContextOverflow,
    LatheError,
    ModelFailed,
    ModelRejected,
    ModelUnreachable,
)

Verdict: TypeAlias = Literal[
    "retry", "rejected", "blocked", "missing_model", "missing_path", "key", "quota", "overflow", "failed"
]


class RetryPolicy(msgspec.Struct, frozen=True):
    """How long to keep trying. Times in seconds; `attempts` counts the retries, not the first request.

    `budget_s` bounds the waiting and the requests that gave nothing; `first_budget_s` takes its place while
    the endpoint has never answered and refuses connections, so that a wrong address is known soon.
    """

    attempts: int = 4
    budget_s: float = 120.0
    first_budget_s: float = 3.0
    base_s: float = 0.5
    most_s: float = 30.0


class EndpointError(Exception):
    """The endpoint's own error: an HTTP status, or an error event in a stream (`status` is None)."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        lathe: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.lathe = lathe or {}
        """What a gateway of Lathe's says besides."""


class BrokenStream(Exception):
    """The stream made no sense, or ended before its last event."""


Failure: TypeAlias = EndpointError | BrokenStream | TransportError

# Patterns stay strings, compiled when an error needs them: start-up pays for nothing that goes well.
# These are words of OpenAI, Anthropic, Bedrock, Google, xAI, OpenRouter, vLLM, SGLang, llama.cpp, Ollama, LM Studio.
_OVERFLOW = (
    r"context_length_exceeded|exceed_context_size|prompt is too long|input is too long|maximum context length"
    r"|exceeds? the (model'?s? )?(available |maximum )?context|context (length|window|size) (was )?(exceeded|limit)"
    r"|exceeds? (the )?(model'?s? )?(maximum )?(context|token limit)|maximum prompt length|too many input tokens"
    r"|input length and `?max_tokens`? exceed|longer than the (model'?s? )?context|reduce the length of the"
    r"|input token count .*exceeds|greater than the context length|larger than the max(imum)? context"
    r"|request_too_large|exceeds the context window|model_context_window_exceeded"
)
_QUOTA = r"insufficient_quota|billing_not_active|credit balance is too low|insufficient[_ ]credits"
_MODEL = r"model_not_found|\bmodels?\b"
_KEY_CODES = frozenset(("authentication_error", "permission_error", "invalid_api_key"))
_TRANSIENT = r"server_error|api_error|internal|overload|rate_limit|timeout|slow_down|unavailable"


def error_from_body(status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
    """Return the error that an answer with a status of 400 or more tells of."""
    text = body.decode("utf-8", "replace").strip()
    try:
        data = msgspec.json.decode(body)
    except msgspec.DecodeError:
        plain = "" if text.startswith("<") else " ".join(text.split())[:300]
        return EndpointError(plain, status=status, headers=headers)
    error = error_from_json(data)
    return EndpointError(
        error.message or text[:300], status=status, code=error.code, headers=headers, lathe=error.lathe
    )


def error_from_json(data: Any) -> EndpointError:
    """Return the error that `data` holds, whatever of the known shapes it has."""
    error = data
    if isinstance(data, dict):
        error = data.get("error", data.get("detail", data))
    if not isinstance(error, dict):
        return EndpointError(_sentence(error))
    # OpenRouter wraps the words of the provider behind it.
    wrapped = error.get("metadata")
    raw = wrapped.get("raw") if isinstance(wrapped, dict) else None
    message = _sentence(error.get("message") or error.get("msg") or error.get("detail") or "")
    if isinstance(raw, str) and raw and raw not in message:
        message = f"{message}: {' '.join(raw.split())[:300]}" if message else raw[:300]
    code, kind = error.get("code"), error.get("type")
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    name = code if isinstance(code, str) and code else kind if isinstance(kind, str) else ""
    own = error.get("lathe")
    return EndpointError(
        message,
        status=number if number and 400 <= number < 600 else None,
        code=name,
        lathe=own if isinstance(own, dict) else None,
    )


def _sentence(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())[:1000]
    return "" if value in (None, {}, []) else msgspec.json.encode(value).decode()[:300]


def judge(failure: Failure) -> Verdict:
    """Return what `failure` means for the request."""
    if not isinstance(failure, EndpointError) or failure.headers.get("x-should-retry") == "true":
        return "retry"
    status, words = failure.status, f"{failure.code} {failure.message}"
    if refusal_of(failure) is not None:
        return "blocked"
    final = _final_cause(status, failure.code, words)
    if final is not None:
        return final
    if status is None:
        return "retry" if not failure.code or _says(_TRANSIENT, failure.code) else "failed"
    if failure.headers.get("x-should-retry") == "false":
        return "rejected"
    return "retry" if status in (408, 409, 425, 429) or status >= 500 else "rejected"


def _final_cause(status: int | None, code: str, words: str) -> Verdict | None:
    """Return the cause that no retry mends, as far as there is one."""
    if status == 413 or (status != 429 and _says(_OVERFLOW, words)):
        return "overflow"
    if status == 402 or _says(_QUOTA, words):
        return "quota"
    if status in (401, 403) or (status is None and code in _KEY_CODES):
        return "key"
    if status in (404, 405):
        return "missing_model" if _says(_MODEL, words) else "missing_path"
    return "missing_model" if code == "model_not_found" else None


def _says(pattern: str, words: str) -> bool:
    return re.search(pattern, words, re.IGNORECASE) is not None


class Naming(NamedTuple):
    """The words in which an error tells the person who was asked."""

    provider: str
    address: str
    model: str
    key_env: str


def as_error(failure: Failure, verdict: Verdict, who: Naming) -> LatheError:
    """Return what the person is told of a failure that is final."""
    words = _words(failure)
    match verdict:
        case "key":
            hint = f"Check the key in {who.key_env}." if who.key_env else "It may need a key: set its key_env."
            return ModelRejected(f"{who.provider} refused the key: {words}", hint=hint, code="model_key")
        case "missing_model":
            hint = f"Name another with -m, or look at the list of {who.address}/models."
            return ModelRejected(f"{who.provider} has no model {who.model!r}: {words}", hint=hint, code="no_such_model")
        case "missing_path":
            hint = "Check the provider's base_url and wire."
            return ModelRejected(f"There is no such API at {who.address}: {words}", hint=hint)
        case "quota":
            hint = "Check the plan and billing of the account, or use another provider."
            return ModelRejected(f"{who.provider} says the account may spend no more: {words}", hint=hint, code="quota")
        case "blocked" if isinstance(failure, EndpointError) and (refusal := refusal_of(failure)) is not None:
            return ContentRefused(f"{who.provider} refused this by its policy ({refusal.code}): {words}", refusal)
        case "overflow":
            return ContextOverflow(f"The conversation is too long for {who.model}: {words}")
        case "failed":
            return ModelFailed(f"{who.model} failed: {words}")
        case _:
            return ModelRejected(f"{who.provider} rejected the request: {words}", hint="See `lathe doctor`.")


def _words(failure: Failure) -> str:
    if not isinstance(failure, EndpointError):
        return f"{failure}."
    text = failure.message or failure.code or f"HTTP {failure.status}"
    return text if text[-1:] in ".!?" else f"{text}."


def reason(failure: Failure) -> str:
    """Return `failure` in a few words, for `RetryScheduled`."""
    if isinstance(failure, EndpointError):
        status = f"HTTP {failure.status}" if failure.status is not None else failure.code or "error event"
        return f"{status}: {failure.message[:200]}" if failure.message else status
    return str(failure)


class Wait(NamedTuple):
    attempt: int
    delay_s: float


class RetryBudget:
    """Keeps count for one request: how often it was sent and how long that gave nothing."""

    def __init__(self, policy: RetryPolicy, *, answered_before: bool) -> None:
        self._policy = policy
        self._answered = answered_before
        self._spent_s = 0.0
        self._attempt = 0

    def next(self, failure: Failure, fruitless_s: float, who: Naming) -> Wait:
        """Return when to send again, after a try that gave nothing for `fruitless_s`; raise `ModelUnreachable`."""
        self._spent_s += fruitless_s
        policy = self._policy
        refused = isinstance(failure, TransportError) and failure.fault in ("refused", "connect")
        if not refused:
            self._answered = True
        budget_s = policy.budget_s if self._answered else min(policy.budget_s, policy.first_budget_s)
        wished = retry_after(failure)
        delay_s = self._backoff(refused) if wished is None else wished
        self._attempt += 1
        if self._attempt > policy.attempts or self._spent_s + delay_s > budget_s:
            raise self._unreachable(failure, wished, who)
        self._spent_s += delay_s
        return Wait(self._attempt, delay_s)

    def _backoff(self, refused: bool) -> float:
        base_s = self._policy.base_s / 2 if refused else self._policy.base_s
        return float(min(self._policy.most_s, base_s * 2**self._attempt) * (0.75 + os.urandom(1)[0] / 510))

    def _unreachable(self, failure: Failure, wished: float | None, who: Naming) -> ModelUnreachable:
        tries = "once" if self._attempt == 1 else f"{self._attempt} times"
        if wished is not None and self._attempt <= self._policy.attempts:
            hint = f"It asks to wait {wished:.0f} s: try again then, or raise retry_budget_s."
        elif isinstance(failure, TransportError) and failure.fault in ("refused", "connect"):
            hint = "Is it running, and is the provider's base_url right?"
        else:
            hint = "Try again later, or use another provider."
        return ModelUnreachable(
            f"{who.provider} at {who.address} gave no usable answer (asked {tries}): {reason(failure)}.", hint=hint
        )


def retry_after(failure: Failure) -> float | None:
    """Return the seconds that the endpoint asks to wait (RFC 9110, section 10.2.3), or None."""
    if not isinstance(failure, EndpointError):
        return None
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = failure.headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value)
        if 0 <= seconds < 1e9:
            return seconds
    return None


def _until(date: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return -1.0
