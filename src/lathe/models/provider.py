"""Providers: where a model is asked, in which wire, with which key; and how a name becomes a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from lathe.models.catalogue import ModelInfo, find_model, find_provider, provider_names
from lathe.protocol.errors import ConfigError, ModelRejected

if TYPE_CHECKING:
    from pathlib import Path

    from lathe.models.base import ModelClient
    from lathe.models.retry import RetryPolicy

WireName: TypeAlias = Literal["responses", "chat", "messages"]


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint. A value in `headers` may be `env:NAME`: the variable's value then.

    `key_env` names the variable with the key ("" for none); `query` is added to every address (Azure's
    `api-version`); `default_model` is what is asked where nobody names one. `quirks` are fields of
    `catalogue.Quirks`. `gateway` says that it is a gateway of Lathe's whose word on the key's rights counts.
    """

    name: str
    base_url: str
    wire: WireName = "chat"
    key_env: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    quirks: dict[str, Any] = {}
    default_model: str = ""
    gateway: bool = False


class Resolved(NamedTuple):
    provider: Provider
    model: ModelInfo


def make_provider(name: str, settings: Mapping[str, Any]) -> Provider:
    """Return the provider that the table `settings` describes, on top of a built-in one of that name.

    Raises `ConfigError` that names the field.
    """
    base = find_provider(name) or {}
    merged = {**base, **settings, "name": name}
    for table in ("headers", "query", "quirks"):
        if table in base and table in settings:
            merged[table] = {**base[table], **settings[table]}
    if not merged.get("base_url"):
        raise ConfigError(f"The provider {name!r} has no base_url.", hint=f'Set base_url under [providers."{name}"].')
    try:
        return msgspec.convert(merged, Provider)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The provider {name!r} is wrong: {error}.") from None


def builtin_provider(name: str, environ: Mapping[str, str]) -> Provider | None:
    """Return the built-in provider `name` as the environment adjusts it, or None.

    `OPENAI_BASE_URL` is asked with the Responses wire, and with Chat Completions from then on where the
    endpoint has no such path; `ANTHROPIC_BASE_URL` and `ANTHROPIC_AUTH_TOKEN` (a bearer token) count too.
    """
    if find_provider(name) is None:
        return None
    settings: dict[str, Any] = {}
    if name == "openai" and environ.get("OPENAI_BASE_URL"):
        settings = {"base_url": environ["OPENAI_BASE_URL"], "default_model": "", "quirks": {"fallback": "chat"}}
    elif name == "anthropic":
        if environ.get("ANTHROPIC_BASE_URL"):
            settings = {"base_url": environ["ANTHROPIC_BASE_URL"]}
        if environ.get("ANTHROPIC_AUTH_TOKEN") and not environ.get("ANTHROPIC_API_KEY"):
            settings |= {"key_env": "ANTHROPIC_AUTH_TOKEN", "quirks": {"bearer": True}}
    elif name == "azure" and environ.get("AZURE_OPENAI_ENDPOINT"):
        settings = {"base_url": environ["AZURE_OPENAI_ENDPOINT"].rstrip("/") + "/openai/v1"}
    return make_provider(name, settings)


def resolve_model(
    name: str | None,
    provider: str | None,
    providers: Mapping[str, Provider],
    environ: Mapping[str, str],
    models: Mapping[str, Mapping[str, Any]] | None = None,
) -> Resolved:
    """Return whom to ask for the model `name`, and what is known of it.

    `providers` are the configured ones (they hide built-in ones of the same name), `models` the configured
    entries of models. `name` may be `provider/model`. Without a provider the maker of a model that the catalogue
    knows is asked, or an endpoint that the environment or the configuration names; an unknown model goes to
    whoever has a key, in the order OpenAI, Anthropic, OpenRouter, configured. Raises `ConfigError`.
    """
    if provider is None and name and "/" in name:
        first, rest = name.split("/", 1)
        if rest and _is_known(first, providers):
            provider, name = first, rest
    if provider is not None:
        chosen = _provider(provider, providers, environ)
    else:
        chosen = _guess(find_model(name, models).provider if name else "", providers, environ)
    name = name or chosen.default_model
    if not name:
        raise ConfigError(f"No model is named for {chosen.name}.", hint="Name one with -m.")
    return Resolved(chosen, find_model(name, models))


def _is_known(name: str, providers: Mapping[str, Provider]) -> bool:
    return name in providers or find_provider(name) is not None


def _provider(name: str, providers: Mapping[str, Provider], environ: Mapping[str, str]) -> Provider:
    found = providers.get(name) or builtin_provider(name, environ)
    if found is None:
        known = ", ".join(dict.fromkeys([*providers, *provider_names()]))
        raise ConfigError(f"There is no provider {name!r}.", hint=f"Known are {known}.")
    return found


def _guess(maker: str, providers: Mapping[str, Provider], environ: Mapping[str, str]) -> Provider:
    maker = maker if _is_known(maker, providers) else ""
    for name in [*([maker] if maker else []), "openai", "anthropic", "openrouter", *providers]:
        if name not in providers:
            # Another maker's own endpoint has no such model; one that the environment names may have any.
            elsewhere = maker not in ("", name) and not environ.get(f"{name.upper()}_BASE_URL")
            if elsewhere or not _has_means(name, environ):
                continue
        found = _provider(name, providers, environ)
        if name not in providers or not found.key_env or environ.get(found.key_env):
            return found
    if maker:
        key_env = _provider(maker, providers, environ).key_env
        hint = f"Set {key_env}, or say who else serves it with -m provider/model."
        raise ConfigError(f"The model is {maker}'s, and there is no key for {maker}.", hint=hint)
    raise ConfigError(
        "There is no model to ask: no provider is configured and no key is set.",
        hint="Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or name a provider with -m provider/model.",
    )


def _has_means(name: str, environ: Mapping[str, str]) -> bool:
    match name:
        case "openai":
            return bool(environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"))
        case "anthropic":
            return any(environ.get(f"ANTHROPIC_{end}") for end in ("API_KEY", "AUTH_TOKEN", "BASE_URL"))
        case "openrouter":
            return bool(environ.get("OPENROUTER_API_KEY"))
        case _:
            return False


def key_of(provider: Provider, environ: Mapping[str, str]) -> str:
    """Return the provider's key, or "" where it needs none; raise `ModelRejected` where it is missing."""
    if not provider.key_env:
        return ""
    key = environ.get(provider.key_env, "").strip()
    if not key and provider.base_url.startswith("https:"):
        hint = f"Set {provider.key_env}, or use another provider."
        raise ModelRejected(f"There is no key for {provider.name}.", hint=hint, code="model_key")
    return key


def open_client(
    provider: Provider,
    model: ModelInfo,
    *,
    environ: Mapping[str, str],
    retry: RetryPolicy | None = None,
    connect_timeout_s: float = 15.0,
    idle_timeout_s: float = 300.0,
    record: Path | None = None,
    replay: Path | None = None,
) -> ModelClient:
    """Return a client of `model` at `provider`; nothing is sent before its first request.

    `record` appends every exchange to a tape, `replay` answers from one instead of the network. Raises
    `ConfigError` and `ModelRejected` (no key).
    """
    from lathe.models.client import WireClient, open_http
    from lathe.models.retry import RetryPolicy

    key = "" if replay is not None else key_of(provider, environ)
    http = open_http(provider, environ, connect_timeout_s, idle_timeout_s, record=record, replay=replay)
    return WireClient(provider, model, key=key, environ=environ, http=http, retry=retry or RetryPolicy())
