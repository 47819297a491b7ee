"""The gateway's settings: a TOML file of its own, with which models are asked where."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lathe.gateway.identity.settings import OidcTable, SmtpTable, check_provider
from lathe.gateway.principals import Tier
from lathe.guard.working_days import Calendar, Clock
from lathe.models.endpoint import parse_endpoint
from lathe.models.provider import WireName
from lathe.protocol.errors import ConfigError

_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class UpstreamTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[upstreams.NAME]`: an endpoint that serves models. Times are seconds.

    NAME may be a built-in provider (`openai`, `anthropic`, `vllm`, …), whose values then need not be given. `wires`
    are those it speaks, the best first. `concurrent` is how many requests it takes at a time; more wait their turn.
    `health` is a path that is asked while the endpoint seems to be down ("" for its list of models).
    """

    base_url: str = ""
    wires: tuple[WireName, ...] = ()
    key_env: str | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    quirks: dict[str, Any] = {}
    concurrent: _Count | None = None
    connect_timeout_s: _Seconds = 10.0
    idle_timeout_s: _Seconds = 300.0
    health: str = ""


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model is asked, and what it is called there."""

    upstream: str
    model: str = ""


class PriceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens; what is None costs as `input`."""

    input: float
    output: float
    cached_input: float | None = None


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[models.NAME]`. `routes` are tried in order; one without a name of its own is the name of an upstream.

    `requires` is the tier from which on a principal may use it, `scope` a word that an entitlement must have.
    """

    routes: tuple[str | RouteTable, ...]
    aliases: tuple[str, ...] = ()
    price: PriceTable | None = None
    context_window: _Count | None = None
    max_output_tokens: _Count | None = None
    requires: Tier = "default"
    scope: str = ""
    quirks: dict[str, Any] = {}


class BatchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[batches]`: how large a file may be, how much a project may keep in all, in MB; how many lines a batch may have.

    `running` is how many lines of all batches a replica has under way; `days` is how long files are kept.
    """

    file_mb: _Count = 200
    project_mb: _Count = 4096
    lines: _Count = 100_000
    running: _Count = 32
    days: _Count = 30


class MetricsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[metrics]`: with `open` everyone who reaches the gateway may read `/metrics`; else it takes a key."""

    open: bool = False


class GuardTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[guard]`: which policy and taxonomy hold, "" for those that Lathe comes with; holidays are days as 2026-12-25.

    `reasoner` is a model of this gateway that is asked for a second look at what the topical monitor passes on, "" for
    the embedded reasoner alone. `shadow` is a policy that is only tried. Without `enabled` no request is judged, and
    receipts say so. Appeals are not decided on Saturdays, Sundays and holidays, by the days of `zone`.
    """

    enabled: bool = True
    policy: str = ""
    taxonomy: str = ""
    reasoner: str = ""
    shadow: str = ""
    holidays: tuple[datetime.date, ...] = ()
    zone: str = "UTC"

    @property
    def calendar(self) -> Calendar:
        """Which days are worked."""
        return Calendar(holidays=self.holidays, zone=self.zone)


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Sizes in MB, times in seconds.

    `public_url` is how browsers and clients reach the gateway, where that is not `listen`. `retention` holds where a
    project says nothing. `response_days` is how long a stored response can be gone on with. `proof` says for a tier
    which proofs of identity it needs (`identity/proof.py`). `safeguards` are files (`safeguards.py`).
    """

    listen: str = "127.0.0.1:8484"
    public_url: str = ""
    database: str = ""
    region: str = ""
    body_mb: _Count = 32
    body_timeout_s: _Seconds = 60.0
    queue_timeout_s: _Seconds = 120.0
    retention: Literal["full", "metadata", "zero"] = "metadata"
    response_days: _Count = 30
    mend: bool = True
    upstreams: dict[str, UpstreamTable] = {}
    models: dict[str, ModelTable] = {}
    safeguards: tuple[str, ...] = ()
    oidc: dict[str, OidcTable] = {}
    smtp: SmtpTable = SmtpTable()
    proof: dict[Tier, tuple[tuple[str, ...], ...]] = {}
    batches: BatchTable = BatchTable()
    metrics: MetricsTable = MetricsTable()
    guard: GuardTable = GuardTable()


def load_settings(path: Path, *, required: bool) -> GatewaySettings:
    """Return the settings in a file; the built-in ones where it is not there and not `required`.

    Raises `ConfigError` that names the file and the key.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path} is not there.") from None
        return GatewaySettings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}.") from None
    try:
        settings = msgspec.convert(data, GatewaySettings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is wrong: {error}.") from None
    _check(settings, path)
    listen_address(settings)
    return settings


def _check(settings: GatewaySettings, path: Path) -> None:
    named: dict[str, str] = {}
    for name, model in settings.models.items():
        if not model.routes:
            raise ConfigError(f"{path}: the model {name!r} has no routes.", hint="Name an upstream.")
        for route in model.routes:
            upstream = route if isinstance(route, str) else route.upstream
            if upstream not in settings.upstreams and upstream != "mend":
                known = ", ".join(settings.upstreams) or "none"
                raise ConfigError(f"{path}: the model {name!r} names the upstream {upstream!r}; there is {known}.")
        for known_as in (name, *model.aliases):
            if known_as in named:
                raise ConfigError(f"{path}: {known_as!r} is a name of {named[known_as]!r} and of {name!r}.")
            named[known_as] = name
    if settings.public_url and parse_endpoint(settings.public_url).path:
        raise ConfigError(f"{path}: public_url has a path.", hint="Give scheme, host and port only.")
    for name, table in settings.oidc.items():
        check_provider(name, table)
    Clock.of(settings.guard.calendar)


def listen_address(settings: GatewaySettings) -> tuple[str, int]:
    """Return host and port to listen on; raise `ConfigError`."""
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{settings.listen!r} is no address to listen on.", hint="Give HOST:PORT.")
    return host.strip("[]"), int(port)
