"""Layers of configuration, later ones on top, each value with the place it came from.

Built-in values, /etc/lathe/config.toml, the person's own file, the file of a trusted project, `LATHE_*` variables,
flags. Last comes /etc/lathe/requirements.toml, which can only tighten. A repository's file is never read before the
person has said, in a file of their own, that the project is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from lathe.config.paths import config_home, project_root
from lathe.config.settings import (
    APPROVAL_MODES,
    FLOORS,
    PROJECT_KEYS,
    SANDBOX_MODES,
    LimitTable,
    Requirements,
    Settings,
)
from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    from lathe.config.settings import RuleTables

SYSTEM_FOLDER = Path("/etc/lathe")
BUILT_IN = "built-in"

_EVERYWHERE = ("*", "0.0.0.0/0", "host.lathe.internal")
_NOT_SETTINGS = frozenset({"LATHE_HOME", "LATHE_COMMAND", "LATHE_DEBUG"})


class Loaded(NamedTuple):
    """Settings, where each came from (by dotted key), what a person should know, and the files looked for."""

    settings: Settings
    origins: dict[str, str]
    warnings: tuple[str, ...]
    files: tuple[tuple[str, str], ...]

    def origin(self, key: str) -> str:
        """Return where the value of the dotted `key` came from: a file, a variable, a flag or "built-in"."""
        return self.origins.get(key, BUILT_IN)


class _Stack:
    """The layers as they are laid on each other."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []
        self.files: list[tuple[str, str]] = []

    def lay(self, table: Mapping[str, Any], source: str) -> None:
        """Put `table` on top: tables are merged, lists of rules, hosts and paths added, everything else replaced."""
        self._merge(self.values, table, (), source)

    def _merge(self, into: dict[str, Any], table: Mapping[str, Any], path: tuple[str, ...], source: str) -> None:
        for key, value in table.items():
            here = (*path, key)
            if isinstance(value, Mapping):
                below = into.setdefault(key, {})
                if not isinstance(below, dict):
                    below = into[key] = {}
                self._merge(below, value, here, source)
                continue
            name = _dotted(here)
            if path in (("rules",), ("egress",), ("paths",)):
                into[key] = [*into.get(key, ()), *value]
                before = self.origins.get(name)
                self.origins[name] = f"{before}, {source}" if before else source
            else:
                into[key] = value
                self.origins[name] = source


def load_settings(
    *,
    cwd: Path,
    flags: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    defaults: Mapping[str, Any] | None = None,
    system: Path = SYSTEM_FOLDER,
) -> Loaded:
    """Return the settings for work in `cwd`.

    `flags` are values of options by key, `overrides` texts `key=value` with dotted keys, `defaults` values that count
    where no layer says anything. Raises `ConfigError`, which names the file, the line where known, and the key.
    """
    from_flags = _flags(flags or {}, overrides)
    stack = _Stack()
    stack.values.update(defaults or {})
    for path in (system / "config.toml", config_home(environ) / "config.toml"):
        _lay_file(stack, path)
    _lay_project(stack, cwd, from_flags)
    _lay_environment(stack, environ)
    for table, source in from_flags:
        stack.lay(table, source)
    requirements = _requirements(stack, system / "requirements.toml")
    settings = msgspec.convert(stack.values, Settings)
    if requirements is not None:
        settings = _tighten(settings, requirements, str(system / "requirements.toml"), stack)
    return Loaded(settings, stack.origins, tuple(stack.warnings), tuple(stack.files))


def _lay_file(stack: _Stack, path: Path) -> None:
    read = read_toml(path)
    stack.files.append((str(path), "read" if read is not None else "absent"))
    if read is None:
        return
    table, text = read
    _checked(table, str(path), text)
    stack.lay(_with_folder(table, path.parent), str(path))


def read_toml(path: Path) -> tuple[dict[str, Any], str] | None:
    """Return a TOML file's table and text, None where there is no such file; raise `ConfigError`."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", hint="Mend its permissions or move it.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8.", hint="Save the file as UTF-8.") from None
    import tomllib

    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.", hint="Strings need quotes; see https://toml.io.") from None
    except RecursionError:
        raise ConfigError(f"{path} is not TOML that can be read: it nests too deep.") from None


def _with_folder(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make paths in a file relative to the file's folder, as far as they name files to read."""
    result = dict(table)
    for key in ("instructions_file", "secret_rules"):
        if key in result:
            result[key] = str(folder / Path(result[key]).expanduser())
    if guard := result.get("guard"):
        files = {name: guard[name] for name in ("policy", "engagement") if guard.get(name)}
        result["guard"] = {**guard, **{name: str(folder / Path(file).expanduser()) for name, file in files.items()}}
    if "skills" in result:
        result["skills"] = [str(folder / Path(name).expanduser()) for name in result["skills"]]
    return result


def _lay_project(stack: _Stack, cwd: Path, flags: Sequence[tuple[Mapping[str, Any], str]]) -> None:
    root = project_root(cwd)
    path = root / ".lathe" / "config.toml"
    if not path.is_file():
        stack.files.append((str(path), "absent"))
        return
    trust: dict[str, Any] = dict(stack.values.get("projects", {}))
    for table, _ in flags:
        trust.update(table.get("projects", {}))
    trusted = {os.path.realpath(Path(name).expanduser()) for name, said in trust.items() if said.get("trusted")}
    if os.path.realpath(root) not in trusted:
        stack.files.append((str(path), "ignored: the project is not trusted"))
        stack.warnings.append(
            f"{path} is ignored, for the project is not trusted. To trust it, write"
            f' [projects."{root}"] trusted = true into your own config.toml.'
        )
        return
    read = read_toml(path)
    if read is None:
        return
    table, text = read
    _checked(table, str(path), text)
    stack.files.append((str(path), "read"))
    stack.lay(_with_folder(_allowed_of_project(table, root, path, stack), root), str(path))


def _allowed_of_project(table: dict[str, Any], root: Path, path: Path, stack: _Stack) -> dict[str, Any]:
    """Return what of a trusted repository's table counts; warn of the rest."""
    result: dict[str, Any] = {}
    for key, value in table.items():
        if key not in PROJECT_KEYS:
            stack.warnings.append(f"{path}: {key} is ignored, for a repository may not set it.")
        elif key in ("sandbox", "approve", "network") and _is_looser(key, value, stack.values):
            stack.warnings.append(f"{path}: {key} = {value!r} is ignored, for a repository can only tighten it.")
        elif key in ("instructions_file", "skills"):
            names = [value] if key == "instructions_file" else value
            if all(_is_inside(root, name) for name in names):
                result[key] = value
            else:
                stack.warnings.append(f"{path}: {key} is ignored, for it leads out of the repository.")
        elif key == "limits":
            # what is left to the machine is at least this
            least = {"memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 21, "processes": 1024}
            below = msgspec.convert({**least, **stack.values.get(key, {})}, LimitTable)
            result[key] = tightened = _tighter_limits(below, msgspec.convert(value, LimitTable))
            stack.warnings += [
                f"{path}: limits.{name} = {value[name]!r} is ignored, for a repository can only tighten it."
                for name in value
                if name not in tightened
            ]
        elif key == "paths":
            result[key] = _tightening(value, root, path, stack)
        elif key == "rules" and value.get("allow"):
            stack.warnings.append(f"{path}: rules.allow is ignored, for a repository may not allow commands.")
            result[key] = {kind: rules for kind, rules in value.items() if kind != "allow"}
        else:
            result[key] = value
    return result


def _tightening(table: Mapping[str, Any], root: Path, path: Path, stack: _Stack) -> dict[str, Any]:
    """Return what a repository may say of paths: what of its own is hidden, and what is only read."""
    if table.get("write"):
        stack.warnings.append(f"{path}: paths.write is ignored, for a repository may not open anything.")
    own: dict[str, Any] = {}
    # to `read` of a repository nothing is shown that would be hidden without it
    for key, names in (("protect", [*table.get("read", ()), *table.get("protect", ())]), ("hide", table.get("hide"))):
        kept = [name for name in names or () if _is_inside(root, name)]
        if len(kept) < len(names or ()):
            stack.warnings.append(f"{path}: an entry of paths.{key} is ignored, for it leads out of the repository.")
        if kept:
            own[key] = [str(root / name) for name in kept]
    return own


def _is_looser(key: str, value: Any, below: Mapping[str, Any]) -> bool:
    if key == "network":
        return bool(value) and not below.get(key, False)
    order: tuple[str, ...] = SANDBOX_MODES if key == "sandbox" else APPROVAL_MODES
    return order.index(value) > order.index(below.get(key) or getattr(Settings(), key))


def _tighter_limits(limits: LimitTable, demanded: LimitTable) -> dict[str, float]:
    """Return what of `demanded` is tighter than `limits`; where these set nothing, all of it is."""
    return {
        name: value
        for name in LimitTable.__struct_fields__
        if (value := getattr(demanded, name)) and not 0 < (getattr(limits, name) or 0) <= value
    }


def _is_inside(root: Path, name: str) -> bool:
    place = os.path.realpath(root / name)
    return not name.startswith("~") and Path(place).is_relative_to(os.path.realpath(root))


def _lay_environment(stack: _Stack, environ: Mapping[str, str]) -> None:
    for name in sorted(name for name in environ if name.startswith("LATHE_") and name not in _NOT_SETTINGS):
        path = tuple(name.removeprefix("LATHE_").lower().split("__"))
        if path[0] not in Settings.__struct_fields__:
            _warn_of_variable(stack, name, path[0])
            continue
        table = _assign(_as_configured(path, stack.values), environ[name], name)
        _checked(table, name, "")
        stack.lay(table, name)


def _warn_of_variable(stack: _Stack, name: str, key: str) -> None:
    from lathe.config.checks import nearest

    # Other programs of the family have variables of their own: speak up only where it looks like a slip.
    near = nearest(key, Settings.__struct_fields__)
    if near:
        stack.warnings.append(f"{name} is no setting and is ignored. Did you mean LATHE_{near.upper()}?")


def _as_configured(path: tuple[str, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Spell the second part as an entry that is there: variables know neither case nor `-`."""
    entries = values.get(path[0])
    if len(path) > 1 and isinstance(entries, Mapping):
        for entry in entries:
            if entry.lower().replace("-", "_").replace(".", "_") == path[1]:
                return (path[0], entry, *path[2:])
    return path


def _flags(flags: Mapping[str, Any], overrides: Sequence[str]) -> list[tuple[dict[str, Any], str]]:
    from_flags: list[tuple[dict[str, Any], str]] = []
    for text in overrides:
        from_flags.append((_override(text), f"--config {text.partition('=')[0].strip()}"))
    for key, value in flags.items():
        source = f"--{key.replace('_', '-')}"
        table = {key: value}
        _checked(table, source, "")
        from_flags.append((table, source))
    return from_flags


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--config {text}: there is no value.", hint="Write --config KEY=VALUE.")
    from lathe.config.checks import split_key

    # A quoted part may hold the first "=".
    path = split_key(key)
    while path is None and "=" in value:
        more, _, value = value.partition("=")
        key = f"{key}={more}"
        path = split_key(key)
    if path is None:
        raise ConfigError(f"--config {text}: {key.strip()!r} is no key.", hint="Write --config some.key=VALUE.")
    table = _assign(tuple(path), value.strip(), "--config")
    _checked(table, "--config", "")
    return table


def _assign(path: tuple[str, ...], text: str, source: str) -> dict[str, Any]:
    """Return a table with `text` as the value of `path`: as TOML where the key takes that, else as it stands."""
    value = parse_value(text)
    table = _nest(path, value)
    if value is text or isinstance(value, str):
        return table
    try:
        _checked(table, source, "")
    except ConfigError:
        as_text = _nest(path, text)
        try:
            _checked(as_text, source, "")
        except ConfigError:
            return table
        return as_text
    return table


def _nest(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def parse_value(text: str) -> Any:
    """Return `text` read as a TOML value, or `text` itself where it is none."""
    if text in ("true", "false"):
        return text == "true"
    if text[:1].isdigit() or text[:1] in ("+", "-"):
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
    if text[:1] not in ("[", "{", '"', "'"):
        return text
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _requirements(stack: _Stack, path: Path) -> Requirements | None:
    read = read_toml(path)
    stack.files.append((str(path), "read" if read is not None else "absent"))
    if read is None:
        return None
    table, text = read
    _checked(table, str(path), text, Requirements)
    return msgspec.convert(_with_folder(table, path.parent), Requirements)


def _tighten(settings: Settings, demands: Requirements, source: str, stack: _Stack) -> Settings:
    changed: dict[str, Any] = {}
    for key, order in (("sandbox", SANDBOX_MODES), ("sandbox_floor", FLOORS), ("approve", APPROVAL_MODES)):
        limit, value = getattr(demands, key), getattr(settings, key)
        ranks: tuple[str, ...] = order
        if limit is not None and ranks.index(value) > ranks.index(limit):
            changed[key] = limit
            stack.warnings.append(f"{key} is {limit}, not {value}: {source} demands it.")
    if demands.network is False and settings.network:
        changed["network"] = False
        stack.warnings.append(f"network is off: {source} demands it.")
    if limits := _tighter_limits(settings.limits, demands.limits):
        changed["limits"] = msgspec.structs.replace(settings.limits, **limits)
        stack.origins.update({f"limits.{name}": source for name in limits})
    if demands.guard.enabled and not settings.guard.enabled:
        changed["guard"] = msgspec.structs.replace(settings.guard, enabled=True)
        stack.warnings.append(f"guard.enabled is true, not false: {source} demands it.")
    files = {name: file for name in ("policy", "engagement") if (file := getattr(demands.guard, name)) is not None}
    if files:
        changed["guard"] = msgspec.structs.replace(changed.get("guard", settings.guard), **files)
    denied = (*demands.egress.deny, *(_EVERYWHERE if demands.network is False else ()))
    if denied:
        changed["egress"] = msgspec.structs.replace(settings.egress, deny=(*settings.egress.deny, *denied))
    if demands.allowed_providers is not None:
        own = settings.allowed_providers
        allowed = tuple(name for name in demands.allowed_providers if own is None or name in own)
        changed["allowed_providers"] = allowed
        changed["providers"] = {name: table for name, table in settings.providers.items() if name in allowed}
    if demands.rules.ask or demands.rules.forbid:
        changed["rules"] = _with_rules(settings.rules, demands.rules)
    for key in changed:
        stack.origins[key] = source
    settings = msgspec.structs.replace(settings, **changed)
    check_provider(settings, source)
    return settings


def _with_rules(rules: RuleTables, demanded: RuleTables) -> RuleTables:
    return msgspec.structs.replace(rules, ask=(*demanded.ask, *rules.ask), forbid=(*demanded.forbid, *rules.forbid))


def check_provider(settings: Settings, source: str = "allowed_providers") -> None:
    """Raise `ConfigError` where the provider that the settings name is not among those allowed."""
    allowed = settings.allowed_providers
    if allowed is not None and settings.provider is not None and settings.provider not in allowed:
        known = ", ".join(allowed) or "none"
        raise ConfigError(f"The provider {settings.provider} is not allowed by {source}.", hint=f"Allowed: {known}.")


def _checked(
    table: Mapping[str, Any], source: str, text: str, shape: type[Settings] | type[Requirements] = Settings
) -> None:
    from lathe.config.checks import check

    check(table, source, text, shape)


def _dotted(path: tuple[str, ...]) -> str:
    if all(part.isidentifier() for part in path):
        return ".".join(path)
    from lathe.config.checks import dotted

    return dotted(path)
