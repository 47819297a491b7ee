"""How an agent under test reaches its model: through a gateway, by a door in its environment.

Whatever the agent is, it holds a key of the gateway's and never a provider's. Where the person names no gateway, one is
started for the run, on this machine, with their own providers behind it and the guard switched off: what is measured
then is the model, and what a guard would do to it is measured apart.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from lathe.evals.environments.base import Door
from lathe.evals.gateway_process import GatewayProcess, free_port
from lathe.protocol.errors import ConfigError, LatheError

PORT = 18_484
"""Where agents find the gateway in their environment."""
_READY_S = 60.0


class Access(NamedTuple):
    """A gateway's address here, and a key for it; `url` has no `/v1`. `own` is one that was started for the run."""

    url: str
    key: str
    own: bool = False

    @property
    def inside(self) -> str:
        """The gateway's address in an environment."""
        return f"http://127.0.0.1:{PORT}"

    @property
    def door(self) -> Door:
        """What leads there."""
        parts = urlsplit(self.url)
        return Door(PORT, parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80))


def named(environ: Mapping[str, str]) -> Access | None:
    """Return the gateway that the person names by LATHE_GATEWAY_URL and LATHE_GATEWAY_KEY; raise `ConfigError`."""
    url, key = environ.get("LATHE_GATEWAY_URL", ""), environ.get("LATHE_GATEWAY_KEY", "")
    if not url:
        return None
    if not key:
        raise ConfigError("LATHE_GATEWAY_URL is set and LATHE_GATEWAY_KEY is not.")
    if urlsplit(url).scheme != "http":
        # A door passes bytes on; the certificate would not fit the name that an agent asks for.
        raise ConfigError("Agents in an environment reach a gateway by http only.", hint="Put one on this machine.")
    return Access(url.rstrip("/"), key)


class RunGateway:
    """A gateway for one run. `upstreams` and `models` are tables of its `gateway.toml`."""

    def __init__(self, upstreams: Mapping[str, Any], models: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._settings = {"upstreams": upstreams, "models": models}
        self._environ = environ
        self._process: GatewayProcess | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> Access:
        """Return how it is reached, as soon as it answers; raise `LatheError`."""
        self._folder = tempfile.TemporaryDirectory(prefix="lathe-eval-gateway-")
        folder, port = Path(self._folder.name), free_port()
        (folder / "gateway.toml").write_text(_toml(self._settings, port), encoding="utf-8")
        environ = {**self._environ, "LATHE_HOME": str(folder / "home")}
        command = [sys.executable, "-m", "lathe", "serve", "--config", "gateway.toml"]
        process = self._process = GatewayProcess(command, folder, environ, port)
        try:
            if await asyncio.to_thread(process.wait, _READY_S, for_key=True):
                return Access(f"http://127.0.0.1:{port}", process.key, own=True)
            said = process.said.removeprefix("lathe: ") or "it said nothing."
            raise LatheError(f"The run's gateway did not start: {said}")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End it; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.end)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def for_model(model: str, providers: Mapping[str, Any], environ: Mapping[str, str]) -> RunGateway:
    """Return a gateway that serves `PROVIDER/MODEL` under the name MODEL, by the person's own providers."""
    provider, _, name = model.partition("/")
    if not name:
        raise ConfigError(f"The model {model} names no provider.", hint="Write PROVIDER/MODEL.")
    table = dict(providers.get(provider, {}))
    if "wire" in table:
        table["wires"] = [table.pop("wire")]
    route = {"upstream": provider, "model": name}
    return RunGateway({provider: table}, {name_of(model): {"routes": [route]}}, environ)


def name_of(model: str) -> str:
    """Return by what name a run's gateway serves `PROVIDER/MODEL`."""
    return model.rpartition("/")[2]


def _toml(settings: Mapping[str, Any], port: int) -> str:
    lines = [f'listen = "127.0.0.1:{port}"', "[guard]", "enabled = false"]
    for kind, tables in settings.items():
        for name, table in tables.items():
            lines.append(f"[{kind}.{_word(name)}]")
            lines += [f"{_word(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_word(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return msgspec.json.encode(value).decode()
