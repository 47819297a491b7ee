"""From settings and environment to a model that can be asked; `mend` where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from lathe.agent.workshop import Engine
from lathe.config.layers import check_provider
from lathe.config.settings import Settings
from lathe.models.catalogue import ModelInfo
from lathe.models.provider import Provider, make_provider, open_client, resolve_model
from lathe.models.retry import RetryPolicy

if TYPE_CHECKING:
    from lathe.agent.rights import AskRights
    from lathe.models.rights import Entitled

MEND_WINDOW = 1_000_000
_KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")


def open_engine(settings: Settings, environ: Mapping[str, str]) -> Engine:
    """Return the engine that the settings name, else the one whose key is there, else `mend`.

    Raises `ConfigError` or `ModelRejected` (no key); nothing is sent yet.
    """
    if wants_mend(settings, environ):
        from lathe.mend.policy import MendModel

        info = ModelInfo(name="mend", context_window=MEND_WINDOW)
        return Engine(MendModel(), info, name="mend", provider="mend", secret_names=secret_names(settings))
    providers: dict[str, Provider] = {name: make_provider(name, table) for name, table in settings.providers.items()}
    provider, model = resolve_model(settings.model, settings.provider, providers, environ, settings.models)
    check_provider(msgspec.structs.replace(settings, provider=provider.name))
    client = open_client(
        provider,
        model,
        environ=environ,
        retry=RetryPolicy(attempts=settings.retries, budget_s=settings.retry_budget_s),
        idle_timeout_s=settings.idle_timeout_s,
    )
    names = (*secret_names(settings), *([provider.key_env] if provider.key_env else []))
    rights = _asking(provider, model.name, environ) if provider.gateway else None
    return Engine(client, model, name=model.name, provider=provider.name, secret_names=names, rights=rights)


def _asking(provider: Provider, model: str, environ: Mapping[str, str]) -> AskRights:
    """Return what asks a gateway what the key is entitled to; nothing of it is loaded before."""

    async def ask() -> Entitled:
        from lathe.models.rights import entitled

        return await entitled(provider, model, environ)

    return ask


def wants_mend(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Return whether the embedded engine does the work: asked for by name, or nothing else is there."""
    if "mend" in (settings.model, settings.provider):
        return True
    return not (
        settings.model
        or settings.provider
        or settings.providers
        or environ.get("OPENROUTER_API_KEY")
        or any(environ.get(name) for name in _KEYS)
    )


def secret_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all variables that hold a secret of a configured provider: its key, its headers."""
    names: list[str] = []
    for table in settings.providers.values():
        names.append(table.get("key_env", ""))
        names += [value[4:] for value in table.get("headers", {}).values() if value.startswith("env:")]
    return tuple(name for name in names if name)
