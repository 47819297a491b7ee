"""The environment of commands: the person's own, without secrets.

The login shell's part of it is captured in the background and cached; this file is also what does that, imported by
its bare name in a process of its own (see `_capture_later`), so nothing of Lathe is imported above.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_CAPTURE_SECONDS = 20
_NOT_KEPT = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "LATHE_COMMAND"})
_FIXED = {"LATHE": "1", "PAGER": "cat", "GIT_PAGER": "cat", "MANPAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
_FIXED["TERM"] = "dumb"  # whoever asks for a terminal says which
_PROFILES = ("/etc/profile", "/etc/profile.d", "/etc/bash.bashrc", "/etc/environment", "/etc/zsh")
_OWN_PROFILES = (".profile", ".bash_profile", ".bash_login", ".bashrc", ".zshenv", ".zprofile", ".zshrc", ".zlogin")

_SECRET_WORDS = frozenset(
    {"KEY", "KEYS", "AUTH", "OAUTH", "AUTHORIZATION", "BASICAUTH", "PWD", "CREDS", "JWT", "DSN", "BEARER", "COOKIE"}
)
_SECRET_PARTS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL")
_SECRET_ENDS = ("APIKEY", "APIKEYS", "ACCESSKEY", "PRIVATEKEY", "SIGNINGKEY", "AUTHKEY", "MASTERKEY", "PASS")
_HARMLESS_WORDS = frozenset({"TOKENIZER", "TOKENIZERS", "TOKENIZE", "COMPASS", "BYPASS", "SECRETARY"})
# how the keys of well-known services begin, each followed by a long run of letters and digits
_SECRET_BEGINNINGS = (
    "sk-",
    "sk_live_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "xoxa-",
    "xoxb-",
    "xoxe-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "hf_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "ya29.",
    "eyJ",
    "SG.",
    "Bearer ",
    "AccountKey=",
    "SharedAccessKey=",
)
_SHORTEST_KEY = 12


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name probably holds a secret; judged by whole words, in any case."""
    words = "".join(char if char.isalnum() else " " for char in name.upper()).split()
    if name.upper() in ("PWD", "OLDPWD"):
        return False
    return any(_is_secret_word(word) for word in words) or words[-1:] == ["PAT"]


def _is_secret_word(word: str) -> bool:
    if word in _HARMLESS_WORDS:
        return False
    return word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) or any(part in word for part in _SECRET_PARTS)


def is_secret_value(value: str) -> bool:
    """Return whether a value looks like a key, a private key or a URL with a password, whatever its name."""
    if "-----BEGIN" in value:
        return True
    for start in _SECRET_BEGINNINGS:
        at = value.find(start)
        if at >= 0 and not value[at - 1 : at].isalnum() and _run(value[at + len(start) :]) >= _SHORTEST_KEY:
            return True
    _scheme, *rests = value.split("://")
    for rest in rests:
        login, at_sign, _host = rest.partition("/")[0].rpartition("@")
        _user, colon, password = login.partition(":")
        if at_sign and colon and password:
            return True
    return False


def _run(text: str) -> int:
    for index, char in enumerate(text):
        if not (char.isalnum() or char in "_-+/=."):
            return index
    return len(text)


def _without_secrets(environment: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_KEPT
        and name.upper() not in names
        and not is_secret_name(name)
        and not is_secret_value(value)
    }


def command_environment(extra_secret_names: Iterable[str] = (), cache_dir: Path | None = None) -> dict[str, str]:
    """Return the environment for commands: the login shell's, under this process's, without secrets.

    `extra_secret_names` are variables that hold keys by configuration. The login shell's part comes from
    `cache_dir`; where it is not there yet, or the profile files have changed, it is captured in the background for
    the next time, and this call does not wait for it.
    """
    names = frozenset(name.upper() for name in extra_secret_names)
    current = _without_secrets(os.environ, names)
    login = _login_environment(cache_dir, names) if cache_dir is not None else {}
    merged = {**login, **current}
    path = [*current.get("PATH", "").split(":"), *login.get("PATH", "").split(":")]
    merged["PATH"] = ":".join(dict.fromkeys(filter(None, path))) or "/usr/local/bin:/usr/bin:/bin"
    return {**merged, **_FIXED}


def _login_environment(cache_dir: Path, names: frozenset[str]) -> dict[str, str]:
    import json

    shell = os.environ.get("SHELL") or "/bin/sh"
    key = _key(shell)
    try:
        cached = json.loads((cache_dir / "login-env.json").read_bytes())
        known, login = cached["key"], {str(k): str(v) for k, v in cached["environment"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known, login = None, {}
    if known != key:
        _capture_later(shell, cache_dir, names)
    return _without_secrets(login, names)


def _key(shell: str) -> list[str]:
    """Return what tells whether a capture still holds: the shell, and each profile's size and time of change."""
    home = Path.home()
    parts = [shell]
    for profile in (*map(Path, _PROFILES), *(home / own for own in _OWN_PROFILES)):
        for path in [profile, *sorted(profile.iterdir())] if profile.is_dir() else [profile]:
            try:
                status = path.stat()
            except OSError:
                continue
            parts.append(f"{path} {status.st_mtime_ns} {status.st_size}")
    return parts


def _capture_later(shell: str, cache_dir: Path, names: frozenset[str]) -> None:
    """Start the capture in a process of its own, which nobody waits for."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.append({here!r}); import environment; environment.capture(*sys.argv[1:])"
    argv = [sys.executable, "-I", "-S", "-E", "-c", code, shell, str(cache_dir), *sorted(names)]
    basics = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR")
    environment = {name: os.environ[name] for name in basics if name in os.environ}
    environment |= {"SHELL": shell, "TERM": "dumb"}
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    redirect = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    try:
        os.posix_spawn(argv[0], argv, environment, file_actions=redirect, setsid=True)
    except OSError:
        return  # the commands do without
    finally:
        os.close(null)


def capture(shell: str, cache_dir: str, *names: str) -> None:
    """Write what a login shell sets to `login-env.json` in `cache_dir`, without secrets and for its owner only."""
    import json
    import select
    import signal

    key = _key(shell)
    source, sink = os.pipe()
    redirect = [(os.POSIX_SPAWN_DUP2, sink, 1)]
    # a profile that goes on for ever is cut off by the wait below
    pid = os.posix_spawn(shell, [shell, "-lc", "command env -0"], os.environ, file_actions=redirect, setsid=True)
    os.close(sink)
    data = b""
    while select.select([source], [], [], _CAPTURE_SECONDS)[0] and (block := os.read(source, 65536)):
        data += block
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(source)
    # a profile may print something of its own first, which ends where the first variable's name begins
    entries = [entry.rpartition("\n")[2] if i == 0 else entry for i, entry in enumerate(os.fsdecode(data).split("\0"))]
    login = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    kept = _without_secrets(login, frozenset(names))
    folder = Path(cache_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"login-env.{os.getpid()}"
    text = json.dumps({"key": key, "environment": kept})
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.write(handle, text.encode("utf-8", "surrogateescape"))
    os.close(handle)
    temporary.replace(folder / "login-env.json")
