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
SandboxFloor: TypeAlias = Literal["bubblewrap", "landlock", "container"]
FLOORS: tuple[SandboxFloor, ...] = ("bubblewrap", "landlock", "container")
"""From the strictest to the loosest."""
APPROVAL_MODES: tuple[ApprovalMode, ...] = ("untrusted", "on-request", "never")
"""From the strictest to the loosest."""

Position: TypeAlias = str | tuple[str, ...]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Amount: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
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


class PathTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The keys of `[paths]`: patterns with `*`, `?` and `**`; relative ones are of the workspace, `~/` of the home.

    What `write` means may be written. What `read` means is seen, but not written. `protect` only takes writing away,
    `hide` seeing as well.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person says of a project."""

    trusted: bool = False


class LimitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What commands in the sandbox may use; 0 is no limit, None as much as is good for the machine.

    The fields are those of `lathe.sandbox.limits.Limits`, in their order.
    """

    memory_mb: Amount | None = None
    processes: Amount | None = None
    cpu_seconds: Amount = 0
    cpus: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    file_mb: Amount = 0
    open_files: Amount = 0


class CredentialTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[egress.credentials."HOST"]`: a header that requests to the host get on their way out.

    `env` names the variable with the secret; the header's value is `scheme` and the secret. With `user`, it is the
    `Basic` one of that user and the secret.
    """

    env: str
    header: str = "Authorization"
    scheme: str = "Bearer"
    user: str = ""


class EgressTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[egress]`: what commands may reach where `network` is off (`sandbox/destinations.py`).

    `publish` are ports of the sandbox that this machine's 127.0.0.1 leads to.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    publish: tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...] = ()
    credentials: dict[str, CredentialTable] = {}


class EgressDemands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator denies to all commands."""

    deny: tuple[str, ...] = ()


class GuardTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[guard]`: whether calls are judged before they run, and by which policy (None: the shipped one).

    `engagement` is the file of a piece of authorised security work ("" and None: there is none).
    """

    enabled: bool = True
    policy: str | None = None
    engagement: str | None = None


class GuardDemands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator demands of the guard. `policy` and `engagement` take the place of the person's own."""

    enabled: Literal[True] | None = None
    policy: str | None = None
    engagement: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in force. Times are seconds, sizes tokens.

    `compact_at` is the fraction of the model's context window at which a thread is compacted. `providers`, `models`
    and `mcp` hold tables as they are written; their keys and types have been checked (`ProviderTable`, `ModelTable`,
    `McpTable`). `allowed_providers` is None where any provider may be asked.
    """

    model: str | None = None
    provider: str | None = None
    sandbox: SandboxMode = "workspace-write"
    sandbox_floor: SandboxFloor = "landlock"
    approve: ApprovalMode = "on-request"
    network: bool = False
    egress: EgressTable = EgressTable()
    writable_roots: tuple[str, ...] = ()
    paths: PathTable = PathTable()
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
    limits: LimitTable = LimitTable()
    guard: GuardTable = GuardTable()
    providers: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    mcp: dict[str, dict[str, Any]] = {}
    rules: RuleTables = RuleTables()
    projects: dict[str, Project] = {}


class ProviderTable(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `[providers.NAME]`; a value in `headers` may be `env:NAME`, the variable's value then.

    With `gateway` the endpoint is a gateway of Lathe's, and what it says of the key's rights counts.
    """

    base_url: str = ""
    wire: Wire = "chat"
    key_env: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    quirks: dict[str, Any] = {}
    default_model: str = ""
    gateway: bool = False


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
    sandbox_floor: SandboxFloor | None = None
    approve: ApprovalMode | None = None
    network: Literal[False] | None = None
    egress: EgressDemands = EgressDemands()
    allowed_providers: tuple[str, ...] | None = None
    limits: LimitTable = LimitTable()
    guard: GuardDemands = GuardDemands()
    rules: RuleTables = RuleTables()


TABLES: dict[str, type[msgspec.Struct]] = {"providers": ProviderTable, "models": ModelTable, "mcp": McpTable}
"""The shape of one entry of each section that `Settings` keeps as it is written."""

CHOICES: dict[str, tuple[str, ...]] = {
    "sandbox": SANDBOX_MODES,
    "sandbox_floor": FLOORS,
    "approve": APPROVAL_MODES,
    "wire": ("responses", "chat", "messages"),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "efforts": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}

PROJECT_KEYS = frozenset(
    {
        *("model", "reasoning_effort", "max_output_tokens", "compact_at", "tool_output_tokens"),
        *("sandbox", "approve", "network", "limits", "paths", "rules", "instructions_file", "skills"),
    }
)
"""What a trusted repository may set. Never who is asked and with which key, what is started outside the sandbox,
what may be written, or whom to trust: whoever can change a file of the repository would decide that."""
