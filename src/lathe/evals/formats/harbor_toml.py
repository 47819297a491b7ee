"""The settings of Harbor's `task.toml`, every version from 1.0 to 1.4 (Harbor 0.26, `harbor/models/task/config.py`).

What Harbor takes and Lathe can't run is refused with a sentence: steps, Windows, a verifier with an environment of its
own, MCP servers, skills, TPUs. Where Harbor leaves a limit to its provider, that of the format's first version holds:
1 CPU, 2 GiB of memory, 10 GiB of disk.
"""

from __future__ import annotations

import ipaddress
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from lathe.evals.formats.reading import MOST_SECONDS, Unreadable, word, words
from lathe.evals.task import Healthcheck, Network, NetworkMode, Resources

NO_LIMIT_S = 86_400.0
"""The time of an agent whose task sets no limit."""
MOST_MB = 2**24

_VERSION = re.compile(r"1(?:\.[0-9]+)*")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*/[a-zA-Z0-9][a-zA-Z0-9._-]*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}")
_SIZE_UNITS = {"G": 1024.0, "M": 1.0, "K": 1 / 1024}
_MODES: dict[str, NetworkMode] = {"no-network": "none", "allowlist": "allowlist", "public": "public"}


class Settings(NamedTuple):
    """A `task.toml` that was read. `name` is "" where the folder's name counts; times are in seconds."""

    name: str
    category: str
    difficulty: str
    tags: tuple[str, ...]
    image: str
    resources: Resources
    network: Network
    env: dict[str, str]
    workdir: str
    build_timeout_s: float
    healthcheck: Healthcheck | None
    agent_timeout_s: float
    agent_user: str
    agent_network: Network | None
    verifier_timeout_s: float
    verifier_user: str
    verifier_env: dict[str, str]
    verifier_network: Network | None
    solution_env: dict[str, str]


def settings_of(text: str, given: Mapping[str, str]) -> Settings:
    """Return the settings; raise `Unreadable`.

    `given` are the variables of this machine that a task may have through `${NAME}`; nothing else of this machine's
    environment reaches it.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"task.toml is no TOML: {str(error)[:120]}.") from None
    _supported(data)
    metadata, package = _table(data, "metadata"), _table(data, "task")
    environment, agent, verifier = (_table(data, name) for name in ("environment", "agent", "verifier"))
    return Settings(
        name=_package_name(package),
        category=word(metadata, "category"),
        difficulty=word(metadata, "difficulty"),
        tags=words(metadata, "tags") or words(package, "keywords"),
        image=_text(environment, "docker_image", "environment"),
        resources=_resources(environment),
        network=_baseline(environment),
        env=_variables(environment, "environment", given),
        workdir=_text(environment, "workdir", "environment"),
        build_timeout_s=_seconds(environment, "build_timeout_sec", "environment", 600.0),
        healthcheck=_healthcheck(environment),
        agent_timeout_s=_seconds(agent, "timeout_sec", "agent", NO_LIMIT_S),
        agent_user=_user(agent, "agent"),
        agent_network=_network(agent, "agent"),
        verifier_timeout_s=_seconds(verifier, "timeout_sec", "verifier", 600.0),
        verifier_user=_user(verifier, "verifier"),
        verifier_env=_variables(verifier, "verifier", given),
        verifier_network=_network(verifier, "verifier"),
        solution_env=_variables(_table(data, "solution"), "solution", given),
    )


def _supported(data: dict[str, Any]) -> None:
    version = data.get("schema_version", data.get("version", "1.0"))
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise Unreadable(f"Version {str(version)[:20]!r} of the task format is not known here.")
    environment, verifier = _table(data, "environment"), _table(data, "verifier")
    system = environment.get("os", "linux")
    refused = {
        "A task of several steps": data.get("steps"),
        "A Windows task": not isinstance(system, str) or system.lower() != "linux",
        "A verifier with an environment of its own": verifier.get("environment") is not None
        or verifier.get("environment_mode", "shared") != "shared",
        "A verifier that collects from services": verifier.get("collect"),
        "A task with MCP servers": environment.get("mcp_servers"),
        "A task with skills": environment.get("skills_dir"),
        "A task that needs a TPU": environment.get("tpu"),
    }
    for what, there in refused.items():
        if there:
            raise Unreadable(f"{what} is not supported here.")


# --- values


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"task.toml: {name} is no table.")
    return value


def _package_name(package: dict[str, Any]) -> str:
    if not package:
        return ""
    name = package.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise Unreadable("task.toml: [task] name is not of the form organisation/name.")
    return name.partition("/")[2]


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"task.toml: [{where}] {key} is not a text.")
    return value


def _number(value: Any, what: str) -> float:
    """Return a number, also one that is written as a text, which Harbor takes too."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise Unreadable(f"task.toml: {what} is not a number.")


def _seconds(table: dict[str, Any], key: str, where: str, default: float, *, zero: bool = False) -> float:
    value = table.get(key)
    if value is None:
        return default
    seconds = _number(value, f"[{where}] {key}")
    if seconds < 0 or (seconds == 0 and not zero) or seconds > MOST_SECONDS:
        raise Unreadable(f"task.toml: [{where}] {key} = {seconds:g} is not between 0 and {MOST_SECONDS:g} seconds.")
    return seconds


def _user(table: dict[str, Any], where: str) -> str:
    value = table.get("user")
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Unreadable(f"task.toml: [{where}] user is neither a name nor a number.")
    return str(value)


def _variables(table: dict[str, Any], where: str, given: Mapping[str, str]) -> dict[str, str]:
    values = table.get("env")
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise Unreadable(f"task.toml: [{where}] env is no table of texts.")
    filled, missing = {}, []
    for name, value in values.items():
        if not name or "=" in name or "\0" in name + value:
            raise Unreadable(f"task.toml: [{where}] env has {name[:40]!r}, which is no name of a variable.")
        template = _TEMPLATE.fullmatch(value)
        if template is None:
            filled[name] = value
        elif template[1] in given:
            filled[name] = given[template[1]]
        elif template[2] is not None:
            filled[name] = template[2]
        else:
            missing.append(template[1])
    if missing:
        raise Unreadable(f"[{where}] env needs {', '.join(missing)} of this machine, which it was not given.")
    return filled


# --- resources and healthcheck


def _resources(table: dict[str, Any]) -> Resources:
    usual = Resources()
    return Resources(
        cpus=_cpus(table.get("cpus"), usual.cpus),
        memory_mb=_megabytes(table, "memory", usual.memory_mb),
        disk_mb=_megabytes(table, "storage", usual.disk_mb),
        gpus=_gpus(table.get("gpus")),
    )


def _cpus(value: Any, usual: float) -> float:
    if value is None:
        return usual
    cpus = _number(value, "[environment] cpus")
    if not 0 < cpus <= 4096:
        raise Unreadable(f"task.toml: [environment] cpus = {cpus:g} is not between 0 and 4096.")
    return cpus


def _gpus(value: Any) -> int:
    gpus = 0.0 if value is None else _number(value, "[environment] gpus")
    if gpus != int(gpus) or not 0 <= gpus <= 1024:
        raise Unreadable("task.toml: [environment] gpus is not a count.")
    return int(gpus)


def _megabytes(table: dict[str, Any], name: str, usual: int) -> int:
    """Return a size in MiB: `memory_mb`, or `memory` as the first versions wrote it ("2G", "512M", "1024K")."""
    plain, worded = table.get(f"{name}_mb"), table.get(name)
    size = None if plain is None else _number(plain, f"[environment] {name}_mb")
    if worded is not None:
        parsed = _worded_size(worded, name)
        if size is not None and size != parsed:
            raise Unreadable(f"task.toml: [environment] {name} and {name}_mb disagree.")
        size = parsed
    if size is None:
        return usual
    if size != int(size) or not 0 < size <= MOST_MB:
        raise Unreadable(f"task.toml: [environment] {name} = {size:g} MiB is not between 1 and {MOST_MB}.")
    return int(size)


def _worded_size(value: Any, name: str) -> float:
    words = value.strip().upper() if isinstance(value, str) else ""
    try:
        return float(int(float(words[:-1]) * _SIZE_UNITS[words[-1:]]))
    except (KeyError, ValueError, OverflowError):
        raise Unreadable(f"task.toml: [environment] {name} = {value!r:.40} is no size such as '2G'.") from None


def _healthcheck(environment: dict[str, Any]) -> Healthcheck | None:
    table = _table(environment, "healthcheck")
    if not table:
        return None
    where, usual = "environment.healthcheck", Healthcheck("true")
    command = _text(table, "command", where)
    if not command:
        raise Unreadable("task.toml: [environment.healthcheck] has no command.")
    retries = _number(table.get("retries", usual.retries), f"[{where}] retries")
    if retries != int(retries) or not 0 <= retries <= 10_000:
        raise Unreadable(f"task.toml: [{where}] retries is not a count.")
    return Healthcheck(
        command=command,
        interval_s=_seconds(table, "interval_sec", where, usual.interval_s, zero=True),
        timeout_s=_seconds(table, "timeout_sec", where, usual.timeout_s),
        start_period_s=_seconds(table, "start_period_sec", where, usual.start_period_s, zero=True),
        start_interval_s=_seconds(table, "start_interval_sec", where, usual.start_interval_s, zero=True),
        retries=int(retries),
    )


# --- network


def _baseline(environment: dict[str, Any]) -> Network:
    """Return the environment's network; `allow_internet` is how the first versions said it, and gives way."""
    if environment.get("allowed_hosts") == [] and environment.get("network_mode") is None:
        return Network("public")
    own = _network(environment, "environment")
    if own is not None:
        return own
    allowed = environment.get("allow_internet")
    if allowed is not None and not isinstance(allowed, bool):
        raise Unreadable("task.toml: [environment] allow_internet is neither true nor false.")
    return Network("none" if allowed is False else "public")


def _network(table: dict[str, Any], where: str) -> Network | None:
    mode, hosts = table.get("network_mode"), table.get("allowed_hosts")
    if hosts is not None and (not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts)):
        raise Unreadable(f"task.toml: [{where}] allowed_hosts is no list of names.")
    names = tuple(_host(host, where) for host in hosts or ())
    if mode is None:
        if hosts is not None:
            raise Unreadable(f"task.toml: [{where}] has allowed_hosts without network_mode = 'allowlist'.")
        return None
    if not isinstance(mode, str) or mode not in _MODES:
        raise Unreadable(f"task.toml: [{where}] network_mode = {mode!r:.40} is not one of {', '.join(_MODES)}.")
    if names and mode != "allowlist":
        raise Unreadable(f"task.toml: [{where}] has allowed_hosts without network_mode = 'allowlist'.")
    return Network(_MODES[mode], names)


def _host(host: str, where: str) -> str:
    """Return a name, `*.` pattern, address or network in its usual form."""
    name = host.strip().lower().rstrip(".")
    try:
        if "%" not in name:
            if "/" in name:
                return ipaddress.ip_network(name, strict=True).compressed
            if ":" in name:
                return ipaddress.IPv6Address(name).compressed
    except ValueError:
        name = ""
    stem = name.removeprefix("*.")
    if (
        not name
        or not all(_LABEL.fullmatch(label) for label in stem.split("."))
        or (stem != name and _is_address(stem))
    ):
        raise Unreadable(f"task.toml: [{where}] allowed_hosts has {host!r:.60}, which is no host.")
    return name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
