"""`lathe doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from lathe.cli.options import working_directory
from lathe.config.layers import Loaded, load_settings
from lathe.config.paths import lathe_home
from lathe.config.settings import Settings
from lathe.protocol.errors import LatheError

if TYPE_CHECKING:
    from lathe.models.provider import Provider
    from lathe.sandbox.probe import TierReport

State: TypeAlias = Literal["ok", "warn", "fail"]
_MARKS: dict[State, str] = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
ENDPOINT_SECONDS = 3.0
LEAST_FREE = 50 * 2**20
"""Bytes below which a journal can't be relied on."""
LITTLE_FREE = 2**30
_WELL_KNOWN_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY")


class Check(NamedTuple):
    """One thing that was looked at; "fail" means that no run is possible, `fix` what to do."""

    name: str
    state: State
    detail: str
    fix: str = ""


def main(argv: list[str]) -> int:
    """Print what was found; return 0 if a run is possible, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="lathe doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument("-C", "--cd", metavar="DIR", default=".", help="as for work in DIR")
    parser.add_argument("--endpoints", action="store_true", help="ask every configured endpoint for its models")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    checks = examine(working_directory(options), os.environ, endpoints=options.endpoints)
    possible = all(check.state != "fail" for check in checks)
    if options.json:
        from lathe.protocol.codec import encode

        print(encode({"possible": possible, "checks": [check._asdict() for check in checks]}).decode())
    else:
        _print(checks, possible)
    return 0 if possible else 1


def _print(checks: list[Check], possible: bool) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{_MARKS[check.state]:<4}  {check.name:<{width}}  {check.detail}")
        if check.fix:
            print(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    print()
    print("A run is possible." if possible else "No run is possible until what says FAIL is mended.")


def examine(cwd: Path, environ: Mapping[str, str], *, endpoints: bool = False) -> list[Check]:
    """Return all checks for work in `cwd`; nothing is changed but a probe file that is taken away again."""
    loaded, configuration = check_configuration(cwd, environ)
    settings = loaded.settings if loaded is not None else Settings()
    checks = [
        check_python(),
        *configuration,
        *check_sandbox(settings),
        check_program("git", environ, "Threads work without it, but have no diff and no undo; install git."),
        check_program("bash", environ, "Commands run in another shell; install bash."),
        check_program("rg", environ, "Search falls back to grep; install ripgrep."),
        check_shell_grammar(),
        check_mcp(settings),
        check_home(lathe_home(environ)),
        *check_models(settings, environ),
        *check_evaluations(),
    ]
    if endpoints:
        checks += asyncio.run(_check_endpoints(settings, environ))
    return checks


def check_python() -> Check:
    """Name the interpreter; an older one than 3.11 could not read this file."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version} on {sys.platform}")


def check_configuration(cwd: Path, environ: Mapping[str, str]) -> tuple[Loaded | None, list[Check]]:
    """Return the settings, None where they are wrong, and what is to be said of them and of the rules."""
    from lathe.agent.rules import load_rules
    from lathe.config.paths import project_root

    try:
        loaded = load_settings(cwd=cwd, environ=environ)
        load_rules(loaded.settings.rules, project_root(cwd), lathe_home(environ))
    except LatheError as error:
        return None, [Check("configuration", "fail", error.message, error.hint)]
    read = [path for path, state in loaded.files if state == "read"]
    checks = [Check("configuration", "ok", ", ".join(read) or "no file, built-in values")]
    checks += [Check("configuration", "warn", warning) for warning in loaded.warnings]
    return loaded, checks


def check_sandbox(settings: Settings) -> list[Check]:
    """Try every kind of sandbox by running a command in it; say which one commands get, and what holds the limits."""
    import msgspec

    from lathe.sandbox.ladder import tiers_down_to
    from lathe.sandbox.limits import Limits
    from lathe.sandbox.probe import probe

    reports = probe(Limits(*msgspec.structs.astuple(settings.limits)))
    allowed = {*tiers_down_to(settings.sandbox_floor), "machine-proc"}
    if settings.sandbox == "danger-full-access":
        allowed = {"none"}
    taken = next((report for report in reports if report.works and report.rung.tier in allowed), None)
    checks = []
    for report in reports:
        state: State = "ok" if report.works or report.rung.letter in "EF" else "warn" if taken else "fail"
        chosen = "commands run in it. " if report is taken else ""
        detail = f"{report.rung.name}: {chosen}{report.reason}"
        checks.append(Check(f"sandbox {report.rung.letter}", state, detail, "" if report.works else report.fix))
    if taken is not None and taken.driver:
        checks.append(_limits_of(taken))
    return checks


def _limits_of(report: TierReport) -> Check:
    if not report.missing:
        return Check("limits", "ok", f"held by {report.driver}")
    return Check(
        "limits",
        "warn",
        f"held by {report.driver}; nothing holds {', '.join(report.missing)}",
        "Run Lathe in a systemd user session (systemd-run --user --scope lathe), or give the container its cgroups.",
    )


def check_program(name: str, environ: Mapping[str, str], fix: str) -> Check:
    """Look for a program that makes Lathe better, and ask for its version."""
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None:
        return Check(name, "warn", "not found", fix)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=False, text=True).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "warn", f"{path} does not run: {error}", fix)
    return Check(name, "ok", (said.splitlines() or [path])[0].strip())


def check_shell_grammar() -> Check:
    """Check that lines of shell can be read for approvals."""
    try:
        from lathe.guard.shell import analyse

        found = analyse("echo $(true) | cat")
    except (ImportError, OSError) as error:
        return Check("tree-sitter", "fail", str(error), "Reinstall Lathe: pip install --force-reinstall lathe.")
    return Check("tree-sitter", "ok", f"reads bash ({len(found.parts)} commands of 3 found)")


def check_mcp(settings: Settings) -> Check:
    """Check the library for MCP servers, which is an extra."""
    from importlib.metadata import PackageNotFoundError, version

    wanted = [name for name, table in settings.mcp.items() if table.get("enabled", True)]
    servers = f"{len(wanted)} servers configured" if wanted else "no server configured"
    try:
        return Check("mcp", "ok", f"{version('mcp')}, {servers}")
    except PackageNotFoundError:
        if not wanted:
            return Check("mcp", "ok", "the extra is not installed, and not needed")
        return Check("mcp", "fail", f"the extra is not installed; {servers}", "pip install 'lathe[mcp]'")


def check_evaluations() -> list[Check]:
    """Say what trials of `lathe eval` can run in here; nothing else needs that."""
    from lathe.evals.environments.maker import examine as parts

    return [Check(part.name, "ok" if part.works else "warn", part.detail, part.fix) for part in parts()]


def check_home(home: Path) -> Check:
    """Check that threads can be kept: the folder is writable and the disk has room."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-") as probe:
            probe.write(b"probe")
            probe.flush()
        free = shutil.disk_usage(home).free
    except OSError as error:
        fix = "Make it writable, or set LATHE_HOME to a folder that is."
        return Check("home", "fail", f"{home} can't be written: {error.strerror}", fix)
    room = f"{free / 2**30:.1f} GiB free"
    if free < LITTLE_FREE:
        state: State = "fail" if free < LEAST_FREE else "warn"
        return Check("home", state, f"{home}, {room}", "Free some space, or set LATHE_HOME to another disk.")
    return Check("home", "ok", f"{home}, {room}")


def check_models(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    """Say which keys are there, by name, and whom a run would ask."""
    from lathe.cli.engine import secret_names, wants_mend
    from lathe.models.provider import key_of, make_provider, resolve_model

    names = list(dict.fromkeys((*_WELL_KNOWN_KEYS, *secret_names(settings))))
    there = [name for name in names if environ.get(name, "").strip()]
    keys = Check("keys", "ok", ", ".join(there) if there else "none")
    if wants_mend(settings, environ):
        return [keys, Check("model", "ok", "mend, the embedded engine: it needs no key")]
    try:
        providers = {name: make_provider(name, table) for name, table in settings.providers.items()}
        provider, model = resolve_model(settings.model, settings.provider, providers, environ, settings.models)
        key_of(provider, environ)
    except LatheError as error:
        return [keys, Check("model", "fail", error.message, error.hint)]
    return [keys, Check("model", "ok", f"{model.name} from {provider.name} ({provider.base_url})")]


async def _check_endpoints(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    providers, wrong = _configured(settings, environ)
    asked = await asyncio.gather(*(check_endpoint(provider, environ) for provider in providers))
    return [*wrong, *asked] or [Check("endpoints", "ok", "none configured")]


def _configured(settings: Settings, environ: Mapping[str, str]) -> tuple[list[Provider], list[Check]]:
    """Return the providers that a run could ask, and what is wrong with others."""
    from lathe.models.catalogue import provider_names
    from lathe.models.provider import builtin_provider, make_provider

    found: list[Provider] = []
    wrong: list[Check] = []
    for name, table in settings.providers.items():
        try:
            found.append(make_provider(name, table))
        except LatheError as error:
            wrong.append(Check(f"endpoint {name}", "warn", error.message, error.hint))
    for name in provider_names():
        if name in settings.providers:
            continue
        try:
            builtin = builtin_provider(name, environ)
        except LatheError:
            continue  # Azure without an address of one's own
        if builtin is not None and (environ.get(builtin.key_env) or name == settings.provider):
            found.append(builtin)
    return found, wrong


async def check_endpoint(provider: Provider, environ: Mapping[str, str]) -> Check:
    """Ask for the endpoint's list of models, for at most `ENDPOINT_SECONDS`."""
    from lathe.models.endpoint import header_lines, parse_endpoint
    from lathe.models.http import HttpClient, TransportError

    name = f"endpoint {provider.name}"
    fix = "Check base_url, the network and the proxy settings."
    try:
        endpoint = parse_endpoint(provider.base_url)
        client = HttpClient(endpoint, environ, connect_timeout_s=ENDPOINT_SECONDS, idle_timeout_s=ENDPOINT_SECONDS)
    except LatheError as error:
        return Check(name, "warn", error.message, error.hint)
    try:
        async with asyncio.timeout(ENDPOINT_SECONDS):
            answer = await client.get(f"{endpoint.path}/models", header_lines(_headers(provider, environ)))
            answer.abort()
    except TimeoutError:
        return Check(name, "warn", f"no answer from {endpoint.authority} within {ENDPOINT_SECONDS:g} s", fix)
    except TransportError as error:
        return Check(name, "warn", str(error), fix)
    finally:
        await client.aclose()
    if answer.status in (401, 403):
        key = provider.key_env or "the key"
        return Check(name, "warn", f"{endpoint.authority} refuses the key ({answer.status})", f"Check {key}.")
    return Check(name, "ok", f"{endpoint.authority} answers ({answer.status})")


def _headers(provider: Provider, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    headers = [("accept", "application/json"), ("user-agent", "lathe")]
    key = environ.get(provider.key_env, "").strip() if provider.key_env else ""
    if provider.wire == "messages":
        headers.append(("anthropic-version", "2023-06-01"))
    if key and provider.wire == "messages" and not provider.quirks.get("bearer"):
        headers.append(("x-api-key", key))
    elif key:
        headers.append(("authorization", f"Bearer {key}"))
    for header, value in provider.headers.items():
        found = environ.get(value[4:], "") if value.startswith("env:") else value
        if found:
            headers.append((header.lower(), found))
    return headers
