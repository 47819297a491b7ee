"""Programs that run other programs: what `sudo`, `timeout`, `xargs`, `bash -c` and their like will start.

Sources: the manual pages of coreutils, findutils, util-linux, procps, sudo and bash. An option that is not listed
here makes the answer unsound rather than wrong: nothing is then vouched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Words: TypeAlias = tuple[str | None, ...]
"""Words of a simple command after quote removal; None stands for one that only the shell will know."""


class Inner(NamedTuple):
    """What a wrapper starts.

    `argvs` are commands, `scripts` shell text (None where it is not literal), `assigns` names it puts into the
    environment. `clear` says that the wrapper adds no power of its own, so that to vouch for what it starts is to
    vouch for it. `sound` is False where the words could not be read for sure. `stdin` is True for a shell
    that reads its script from standard input.
    """

    argvs: tuple[Words, ...] = ()
    scripts: tuple[str | None, ...] = ()
    assigns: tuple[str, ...] = ()
    clear: bool = False
    sound: bool = True
    stdin: bool = False


class Options(NamedTuple):
    """How a program reads its options: letters without and with a value, long names, and operands to skip."""

    flags: str = ""
    valued: str = ""
    long_flags: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    operands: int = 0
    environment: bool = False


class _Read(NamedTuple):
    """Options as read: `seen` has letters and long names, `values` their values, `rest` what follows."""

    seen: frozenset[str]
    values: dict[str, str | None]
    assigns: tuple[str, ...]
    rest: Words
    sound: bool


SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh", "ash", "mksh", "rbash", "fish"})
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")

_CLEAR = {
    "nohup": Options(),
    "time": Options("p", environment=True),
    "timeout": Options(
        "fpv",
        "ks",
        frozenset({"foreground", "preserve-status", "verbose"}),
        frozenset({"kill-after", "signal"}),
        operands=1,
    ),
    "nice": Options("0123456789", "n", frozenset(), frozenset({"adjustment"})),
    "ionice": Options("t", "cn", frozenset({"ignore"}), frozenset({"class", "classdata"})),
    "stdbuf": Options("", "ioe", frozenset(), frozenset({"input", "output", "error"})),
    "setsid": Options("cfw", "", frozenset({"ctty", "fork", "wait"})),
    "command": Options("p"),
    "builtin": Options(),
    "exec": Options("cl", "a"),
    "env": Options(
        "i0v",
        "u",
        frozenset({"ignore-environment", "null", "debug"}),
        frozenset({"unset"}),
        environment=True,
    ),
    "xargs": Options(
        "0rtox",
        "aEIdLnPs",
        frozenset({"null", "no-run-if-empty", "verbose", "open-tty", "exit"}),
        frozenset({"arg-file", "delimiter", "max-args", "max-procs", "max-chars", "replace", "max-lines"}),
    ),
    "busybox": Options(),
    "toybox": Options(),
}
_UNCLEAR = {
    "sudo": Options(
        "AbEHKkNnPS",
        "CDghpRrTtUu",
        frozenset({"preserve-env", "set-home", "non-interactive", "background", "stdin", "askpass"}),
        frozenset({"user", "group", "host", "prompt", "chdir", "chroot", "role", "type", "close-from"}),
        environment=True,
    ),
    "doas": Options("n", "Cu"),
    "flock": Options(
        "eFnosux",
        "wE",
        frozenset({"exclusive", "shared", "nonblock", "unlock", "close", "no-fork"}),
        frozenset({"timeout", "wait", "conflict-exit-code"}),
        operands=1,
    ),
    "strace": Options("fqrtTvyCd", "eopsSuEPOIabX"),
    "chroot": Options("", "", frozenset(), frozenset({"groups", "userspec"}), operands=1),
    "parallel": Options("kmuX0", "jIn", frozenset({"bar", "keep-order"}), frozenset({"jobs"})),
    "npx": Options("yq", "p", frozenset({"yes", "no-install"}), frozenset({"package"})),
}
_LAUNCHERS = {
    ("uv", "run"),
    ("poetry", "run"),
    ("pipenv", "run"),
    ("pdm", "run"),
    ("rye", "run"),
    ("hatch", "run"),
    ("conda", "run"),
    ("bundle", "exec"),
    ("npm", "exec"),
    ("pnpm", "exec"),
    ("pnpm", "dlx"),
    ("yarn", "exec"),
    ("mise", "exec"),
}


_GLOBAL_OPTIONS = {
    "git": frozenset({"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path", "--super-prefix"}),
    "docker": frozenset({"-H", "--host", "-c", "--context", "-l", "--log-level", "--config"}),
    "podman": frozenset({"-c", "--connection", "--url", "--log-level", "--root"}),
    "kubectl": frozenset({"-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user", "-s", "--server"}),
    "npm": frozenset({"--prefix", "-w", "--workspace", "--userconfig", "--registry"}),
    "pnpm": frozenset({"-C", "--dir", "-F", "--filter"}),
    "yarn": frozenset({"--cwd"}),
    "cargo": frozenset({"-C", "--config", "-Z", "--color"}),
    "gh": frozenset({"-R", "--repo"}),
    "terraform": frozenset[str](),
    "helm": frozenset({"-n", "--namespace", "--kube-context", "--kubeconfig"}),
    "aws": frozenset({"--profile", "--region", "--output", "--endpoint-url"}),
    "gcloud": frozenset({"--project", "--account", "--configuration"}),
    "systemctl": frozenset({"-H", "--host", "-M", "--machine"}),
}
"""Programs with subcommands, and those of their global options that take the next word as value."""


def without_global_options(words: Words) -> Words:
    """Return `git -C there push` as `git push`, for programs whose global options are known."""
    valued = _GLOBAL_OPTIONS.get(words[0] or "")
    if valued is None:
        return words
    index = 1
    while index < len(words):
        word = words[index]
        if word is None or not (word.startswith("-") or (words[0] == "cargo" and word.startswith("+"))):
            break
        index += 2 if word in valued else 1
    return (words[0], *words[index:])


def unwrap(words: Words) -> Inner | None:
    """Return what the simple command `words` starts beside itself, None where it is no wrapper."""
    if not words or words[0] is None:
        return None
    name = program_name(words[0])
    if name in _CLEAR or name in _UNCLEAR:
        return _plain(name, words)
    if name in SHELLS:
        return _shell(words)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(words)
    if len(words) > 1 and (name, words[1]) in _LAUNCHERS:
        rest = words[2:]
        while rest and (rest[0] is None or rest[0].startswith("-")):
            rest = rest[1:]
        return Inner(argvs=(rest,) if rest else ())
    return None


def program_name(word: str) -> str:
    """Return the last part of a program's path: "/usr/bin/git" is "git"."""
    return word.rsplit("/", 1)[-1]


def _plain(name: str, words: Words) -> Inner:
    options = _CLEAR.get(name) or _UNCLEAR[name]
    if name == "command" and len(words) > 1 and words[1] in ("-v", "-V"):
        return Inner(clear=True)
    if name == "env":
        split = _split_string(words)
        if split is not None:
            return split
    read = _read(words, options)
    rest = read.rest
    if name == "flock" and rest[:1] == ("-c",):
        return Inner(scripts=rest[1:2], sound=read.sound)
    if name == "xargs":
        rest = _with_unknown_operands(rest, read)
    if name == "parallel":
        rest = (*rest[: rest.index(":::")], None) if ":::" in rest else (*rest, None)
    sound = read.sound and rest[:1] != ("!",)
    return Inner(argvs=(rest,) if rest else (), assigns=read.assigns, clear=name in _CLEAR, sound=sound)


def _with_unknown_operands(rest: Words, read: _Read) -> Words:
    """Return the command of an `xargs`: words come from its input, at the end or where the marker stands."""
    marker = read.values.get("I") or read.values.get("replace")
    if "I" not in read.values and "replace" not in read.values:
        return (*(rest or ("echo",)), None)
    return tuple(None if word is None or marker is None or marker in word else word for word in rest)


def _split_string(words: Words) -> Inner | None:
    for index, word in enumerate(words[1:], 1):
        if word is None or not word.startswith("-"):
            return None
        found = re.fullmatch(r"(?:-[iv0]*S|--split-string=?)(.*)", word, re.DOTALL)
        if found is not None:
            script = [found[1]] if found[1] else []
            return Inner(scripts=(_joined((*script, *words[index + 1 :])),), sound=False)
    return None


def _joined(words: Words) -> str | None:
    literal = [word for word in words if word is not None]
    return " ".join(literal) if len(literal) == len(words) else None


def _read(words: Words, options: Options) -> _Read:
    """Read `words[1:]` as getopt does up to the first operand, then skip assignments and operands."""
    seen: set[str] = set()
    values: dict[str, str | None] = {}
    sound = True
    index = 1
    while index < len(words):
        word = words[index]
        if word is None:
            sound = False
            index += 1
            continue
        if word == "--":
            index += 1
            break
        if len(word) < 2 or not word.startswith("-"):
            break
        following = words[index + 1] if index + 1 < len(words) else None
        read = _long(word, options) if word.startswith("--") else _cluster(word, options)
        sound = sound and read.sound
        seen.update(read.names)
        index += 1
        if read.takes:
            values[read.takes] = following if read.value is None else read.value
            index += read.value is None
    assigns: list[str] = []
    while options.environment and index < len(words):
        word = words[index]
        found = _ASSIGNMENT.match(word) if word is not None else None
        if found is None:
            break
        assigns.append(found[1])
        index += 1
    skipped = words[index : index + options.operands]
    sound = sound and None not in skipped
    return _Read(frozenset(seen), values, tuple(assigns), words[index + options.operands :], sound)


class _Option(NamedTuple):
    names: tuple[str, ...]
    takes: str = ""
    value: str | None = None
    sound: bool = True


def _long(word: str, options: Options) -> _Option:
    name, equals, value = word[2:].partition("=")
    if name in options.long_valued:
        return _Option((name,), name, value if equals else None)
    return _Option((name,), sound=name in options.long_flags)


def _cluster(word: str, options: Options) -> _Option:
    """Read a cluster of letters: the first one that takes a value ends it."""
    names: list[str] = []
    for position, letter in enumerate(word[1:], 2):
        names.append(letter)
        if letter in options.valued:
            return _Option(tuple(names), letter, word[position:] or None)
        if letter not in options.flags:
            return _Option(tuple(names), sound=False)
    return _Option(tuple(names))


_SHELL_FLAGS = frozenset("abefhiklmnprtuvxBCEHPTs")
_SHELL_LONG = frozenset({"--login", "--norc", "--noprofile", "--posix", "--verbose", "--no-config"})


def _shell(words: Words) -> Inner:
    """Read a shell's command line: its `-c` script, or that it reads standard input."""
    sound, script, reads_input = True, False, False
    index = 1
    while index < len(words):
        word = words[index]
        if word is None:
            sound = False
        elif word in ("--", "-"):
            index += 1
            break
        elif word.startswith("--"):
            sound = sound and word in _SHELL_LONG
        elif word[:1] in ("-", "+") and len(word) > 1:
            letters = word[1:]
            script = script or "c" in letters
            reads_input = reads_input or "s" in letters
            index += letters.count("o") + letters.count("O")
            sound = sound and set(letters) <= _SHELL_FLAGS | {"c", "o", "O"}
        else:
            break
        index += 1
    if script:
        return Inner(scripts=words[index : index + 1] or (None,), clear=True, sound=sound)
    return Inner(stdin=reads_input or index >= len(words), sound=sound)


def _evaluated(words: Words) -> Inner:
    rest = words[2:] if words[1:2] == ("--",) else words[1:]
    return Inner(scripts=(_joined(rest),), clear=True)


def _watched(words: Words) -> Inner:
    read = _read(
        words,
        Options(
            "bcdegtwx",
            "nq",
            frozenset({"beep", "color", "differences", "exec", "errexit", "chgexit", "no-title"}),
            frozenset({"interval"}),
        ),
    )
    if read.seen & {"x", "exec"}:
        return Inner(argvs=(read.rest,), clear=True, sound=read.sound)
    return Inner(scripts=(_joined(read.rest),), clear=True, sound=read.sound)


def _found(words: Words) -> Inner | None:
    """Read the commands of `find -exec … ;` and of `fd -x …`."""
    starts = {"-exec", "-execdir", "-ok", "-okdir", "-x", "-X", "--exec", "--exec-batch"}
    argvs: list[Words] = []
    current: list[str | None] | None = None
    appends = words[0] is not None and program_name(words[0]) != "find"  # fd adds what it found where no {} stands
    for word in words[1:]:
        if current is None:
            current = [] if word in starts else None
        elif word in (";", "+"):
            argvs.append(tuple(current))
            current = None
        else:
            current.append(None if word is None or "{" in word else word)
    if current:
        argvs.append(tuple(current))
    if appends:
        argvs = [argv if None in argv else (*argv, None) for argv in argvs]
    return Inner(argvs=tuple(argv for argv in argvs if argv)) if argvs else None


def _trapped(words: Words) -> Inner:
    rest = words[2:] if words[1:2] == ("--",) else words[1:]
    if not rest or (rest[0] is not None and rest[0].startswith("-")):
        return Inner(clear=True)
    return Inner(scripts=rest[:1], clear=True)


def _after_c(words: Words) -> Inner:
    """Read `su -c SCRIPT` and `script -qc SCRIPT`."""
    scripts: list[str | None] = []
    for index, word in enumerate(words[1:], 1):
        if word is not None and (word == "--command" or re.fullmatch(r"-[a-z]*c", word)):
            scripts.extend(words[index + 1 : index + 2])
        elif word is not None and word.startswith("--command="):
            scripts.append(word.partition("=")[2])
    return Inner(scripts=tuple(scripts))


_SPECIAL: dict[str, Callable[[Words], Inner | None]] = {
    "coproc": lambda words: Inner(argvs=(words[1:],) if len(words) > 1 else (), sound=False),
    "eval": _evaluated,
    "watch": _watched,
    "find": _found,
    "fd": _found,
    "fdfind": _found,
    "trap": _trapped,
    "su": _after_c,
    "runuser": _after_c,
    "script": _after_c,
}
