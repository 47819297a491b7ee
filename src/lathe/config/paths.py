"""Where Lathe keeps things on this machine (XDG Base Directory Specification; Apple's folders on macOS)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def lathe_home(environ: Mapping[str, str]) -> Path:
    """Return the folder of threads and grants: $LATHE_HOME, else `lathe` in the platform's data folder."""
    if chosen := environ.get("LATHE_HOME"):
        return _expanded(chosen).absolute()
    if sys.platform == "darwin":
        return _home(environ) / "Library" / "Application Support" / "lathe"
    return _xdg(environ, "XDG_DATA_HOME", ".local/share")


def config_home(environ: Mapping[str, str]) -> Path:
    """Return the folder of the person's own `config.toml`: `lathe` in $XDG_CONFIG_HOME or ~/.config."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config")


def cache_home(environ: Mapping[str, str]) -> Path:
    """Return the folder of what can be made again: `lathe` in $XDG_CACHE_HOME, ~/.cache or ~/Library/Caches."""
    if sys.platform == "darwin" and not environ.get("XDG_CACHE_HOME"):
        return _home(environ) / "Library" / "Caches" / "lathe"
    return _xdg(environ, "XDG_CACHE_HOME", ".cache")


def project_root(cwd: Path) -> Path:
    """Return the root of the git repository that `cwd` is in, else `cwd` itself."""
    for folder in (cwd, *cwd.parents):
        if (folder / ".git").exists():
            return folder
    return cwd


def _xdg(environ: Mapping[str, str], name: str, default: str) -> Path:
    # The specification says to ignore relative paths.
    chosen = environ.get(name, "")
    return (Path(chosen) if chosen.startswith("/") else _home(environ) / default) / "lathe"


def _home(environ: Mapping[str, str]) -> Path:
    return (Path(environ["HOME"]) if environ.get("HOME") else _expanded("~")).absolute()


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        from lathe.protocol.errors import ConfigError

        raise ConfigError(
            f"Nobody knows which folder {path} is.", hint="Set HOME, and LATHE_HOME if you like."
        ) from None
