"""Settings: every key of the configuration, with its type and its built-in value."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

SandboxMode: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]
ApprovalMode: TypeAlias = Literal["never", "on-request", "untrusted"]
Wire: TypeAlias = Literal["responses", "chat", "messages"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

SANDBOX_MODES: tuple[SandboxMode, ...] = ("read-only", "workspace-write", "danger-full-access")
"""From the strictest to the loosest."""
APPROVAL_MODES: tuple[ApprovalMode, ...] = ("untrusted", "on-request", "never")
"""From the strictest to the loosest."""

Position: TypeAlias = str | tuple[str, ...]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class RuleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule about commands, or about the tools of MCP servers.

    `prefix` is how a command must begin, word by word; a list in a position holds alternatives. `flags` are options
    of which every entry (one of its alternatives) must stand somewhere behind the prefix; a single letter also
    counts inside a cluster (`-f` in `-xdf`). With `outside` the rule holds only where a path among the operands lies
    outside the workspace or is not known. `tool` is `server/tool`, with `*` and `?` as wildcards, instead of a
    prefix. `match` and `not_match` are commands that the rule must and must not match: they are tried when it loads.
    """

    prefix: tuple[Position, ...] = ()
    flags: tuple[Position, ...] = ()
    outside: bool = False
    tool: str = ""
    reason: str = ""
    match: tuple[str, ...] = ()
    not_match: tuple[str, ...] = ()


class RuleTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rules by what they say; forbid wins over ask, and ask over allow."""

    allow: tuple[RuleSpec, ...] = ()
    ask: tuple[RuleSpec, ...] = ()
    forbid: tuple[RuleSpec, ...] = ()


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person says of a project."""

    trusted: bool = False


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in force. Times are seconds, sizes tokens.

    `compact_at` is the fraction of the model's context window at which a thread is compacted. `providers`, `models`
    and `mcp` hold tables as they are written; their keys and types have been checked (`ProviderTable`, `ModelTable`,
    `McpTable`). `allowed_providers` is None where any provider may be asked.
    """

    model: str | None = None
    provider: str | None = None
    sandbox: SandboxMode = "workspace-write"
    approve: ApprovalMode = "on-request"
    network: bool = False
    writable_roots: tuple[str, ...] = ()
    whole_home: bool = False
    reasoning_effort: Effort | None = None
    max_output_tokens: Count | None = None
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    retry_budget_s: Seconds = 120.0
    idle_timeout_s: Seconds = 300.0
    compact_at: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.85
    tool_output_tokens: Count = 10_000
    hide_secrets: bool = True
    secret_rules: str | None = None
    instructions_file: str | None = None
    skills: tuple[str, ...] = ()
    allowed_providers: tuple[str, ...] | None = None
    providers: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    mcp: dict[str, dict[str, Any]] = {}
    rules: RuleTables = RuleTables()
    projects: dict[str, Project] = {}


class ProviderTable(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `[providers.NAME]`; a value in `headers` may be `env:NAME`, the variable's value then."""

    base_url: str = ""
    wire: Wire = "chat"
    key_env: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    quirks: dict[str, Any] = {}
    default_model: str = ""


class PriceTable(msgspec.Struct, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


class ModelTable(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `[models.NAME]`."""

    context_window: Count = 1
    max_output_tokens: Count | None = None
    price: PriceTable | None = None
    long_from: Count | None = None
    long_price: PriceTable | None = None
    efforts: tuple[Effort, ...] = ()
    quirks: dict[str, Any] = {}
    provider: str = ""


class McpTable(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `[mcp.NAME]`: a `command` or a `url`, and what goes with it."""

    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    url: str = ""
    headers: dict[str, str] = {}
    tools: tuple[str, ...] | None = None
    timeout_s: Seconds = 120.0
    startup_timeout_s: Seconds = 30.0
    enabled: bool = True


class Requirements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator demands in `requirements.toml`; it can only tighten what the other layers say."""

    sandbox: SandboxMode | None = None
    approve: ApprovalMode | None = None
    network: Literal[False] | None = None
    allowed_providers: tuple[str, ...] | None = None
    rules: RuleTables = RuleTables()


TABLES: dict[str, type[msgspec.Struct]] = {"providers": ProviderTable, "models": ModelTable, "mcp": McpTable}
"""The shape of one entry of each section that `Settings` keeps as it is written."""

CHOICES: dict[str, tuple[str, ...]] = {
    "sandbox": SANDBOX_MODES,
    "approve": APPROVAL_MODES,
    "wire": ("responses", "chat", "messages"),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "efforts": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}

PROJECT_KEYS = frozenset(
    {
        *("model", "reasoning_effort", "max_output_tokens", "compact_at", "tool_output_tokens"),
        *("sandbox", "approve", "network", "rules", "instructions_file", "skills"),
    }
)
"""What a trusted repository may set. Never who is asked and with which key, what is started outside the sandbox,
what may be written, or whom to trust: whoever can change a file of the repository would decide that."""
