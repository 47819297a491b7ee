"""What a batch is, whichever API it was made by."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lathe.models.provider import WireName

Api: TypeAlias = Literal["openai", "anthropic"]
State: TypeAlias = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
LineState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled", "expired"]
ACTIVE: tuple[State, ...] = ("validating", "in_progress", "finalizing", "cancelling")
"""States in which there is something left to do."""
ENDPOINTS: dict[str, WireName] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
}
SCOPES = frozenset({"relay", "batch"})
"""Of these a key must have one."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
WINDOW_MS = 86_400_000
"""How long a batch may take: what has not been asked by then expires."""


def is_id(text: str) -> bool:
    """Return whether a text may be an id: what a database would not take is none."""
    return _ID.fullmatch(text) is not None


class Fault(msgspec.Struct, frozen=True):
    """Why a file is no batch; `line` counts from 1 and is None where the fault is that of no line."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Body(msgspec.Struct):
    """What is known of a batch besides the columns of its row; times are milliseconds since the epoch.

    `models` are those that its lines name, `total` is how many lines there are, `headers` go with each of them.
    `outcome` is the state that it ends in, `counts` its lines by state once they are gone. `lasts_s` is how long the
    files that come out of it are kept, where the caller says so.
    """

    endpoint: str
    input_file: str
    total: int = 0
    models: list[str] = []
    metadata: dict[str, str] | None = None
    headers: dict[str, str] = {}
    lasts_s: int | None = None
    faults: list[Fault] = []
    times: dict[str, int] = {}
    outcome: State = "completed"
    counts: dict[str, int] = {}
    output_file: str = ""
    error_file: str = ""


class Batch(NamedTuple):
    """A row of the table `batches`."""

    id: str
    organisation: str
    project: str
    key: str
    api: Api
    state: State
    body: Body
    replica: str
    note: str
    created: int
    deadline: int
    expires: int

    @property
    def wire(self) -> WireName:
        """In which wire its lines are."""
        return ENDPOINTS[self.body.endpoint]


class NewLine(NamedTuple):
    """A line as it is read; the fields are columns of the table `batch_lines`."""

    number: int
    custom_id: str
    model: str
    request: str
    state: LineState = "waiting"
    status: int = 0
    answer: str = ""


class Work(NamedTuple):
    """A line that a replica has claimed; `tries` counts this time."""

    batch: Batch
    number: int
    model: str
    request: str
    tries: int

    @property
    def place(self) -> tuple[str, int]:
        """Batch and number."""
        return (self.batch.id, self.number)


class Ended(NamedTuple):
    """A line that is over."""

    number: int
    custom_id: str
    state: LineState
    asked: str
    status: int
    answer: str
    tries: int
