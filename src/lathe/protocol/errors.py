"""Errors that a person sees: one type per cause, a stable code, a sentence, an exit code.

LatheError
├── UsageError            2  the command line, the configuration or an input file is wrong
│   └── ConfigError       2
├── TurnError             1  the turn could not be finished
│   ├── StorageError      1  a journal or a file could not be written (disk full, read-only)
│   └── ContextOverflow   1  the conversation does not fit the model even after compaction
├── ModelError
│   ├── ModelRejected     2  the endpoint refused the request for good (wrong key, no such model)
│   ├── ModelUnreachable  4  nothing usable came back within the retry budget
│   └── ModelFailed       1  the model itself reported a failure of this turn
├── SafeguardStop         3  policy stopped the turn
│   └── ContentRefused    3  the endpoint refused what it was sent, by its policy
└── Interrupted         130  the person stopped it
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lathe.protocol.blocks import PolicyRefusal


class ExitCode(IntEnum):
    """What `lathe` returns to the shell; see DESIGN, section 5."""

    DONE = 0
    TURN_FAILED = 1
    USAGE = 2
    SAFEGUARD = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


class LatheError(Exception):
    """Base of every error with a sentence for the person; `code` is stable, `hint` says what to do next."""

    code = "error"
    exit_code = ExitCode.TURN_FAILED

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(LatheError):
    """The command line or an input file is wrong."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration value or file is wrong; the message names the file and the key."""

    code = "config"


class TurnError(LatheError):
    """The turn could not be finished."""

    code = "turn_failed"


class StorageError(TurnError):
    """A journal or a file could not be written; what was there before is intact."""

    code = "storage"


class ModelError(LatheError):
    """Something about the model's endpoint."""

    code = "model"


class ModelRejected(ModelError):
    """The endpoint refused the request for good: wrong key, no such model, bad request."""

    code = "model_rejected"
    exit_code = ExitCode.USAGE


class ModelUnreachable(ModelError):
    """Nothing usable came back within the retry budget."""

    code = "model_unreachable"
    exit_code = ExitCode.UNREACHABLE


class ModelFailed(ModelError):
    """The model reported a failure of this turn (content filter, server-side tool, truncated for good)."""

    code = "model_failed"


class ContextOverflow(TurnError):
    """The endpoint says that the input is longer than the model's context window."""

    code = "context_overflow"


class SafeguardStop(LatheError):
    """Policy stopped the turn."""

    code = "safeguard"
    exit_code = ExitCode.SAFEGUARD


class ContentRefused(SafeguardStop):
    """The endpoint refused what it was sent, by its policy; `refusal` is what it said."""

    def __init__(self, message: str, refusal: PolicyRefusal, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.refusal = refusal


class Interrupted(LatheError):
    """The person stopped the turn."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
