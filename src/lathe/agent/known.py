"""Commands that Lathe knows: those that only read, and what family a command belongs to.

All of it is data. What only reads is checked down to its options.
"""

from __future__ import annotations

import re

from lathe.guard.shell import Part
from lathe.guard.wrappers import SHELLS, without_global_options

READ_ONLY = frozenset(
    {
        *("ls", "cat", "head", "tail", "wc", "pwd", "echo", "true", "false", ":", "test", "[", "[[", "cd"),
        *("basename", "dirname", "readlink", "realpath", "stat", "du", "df", "nl", "cut", "tr", "comm"),
        *("paste", "fold", "rev", "tac", "od", "strings", "md5sum", "sha1sum", "sha256sum", "cksum", "cmp"),
        *("id", "whoami", "uname", "which", "type", "arch", "nproc", "uptime", "ps", "groups", "seq", "sleep"),
        *("grep", "egrep", "fgrep", "diff", "exit", "return", "break", "continue", "wait", "jq", "column"),
    }
)
"""No option of theirs writes or starts anything."""

_UNSAFE_OPTIONS: dict[str, tuple[str, ...]] = {
    "printf": ("-v",),
    "sort": ("-o", "--output", "--compress-program", "-T", "--temporary-directory"),
    "rg": ("--pre", "--pre-glob", "--hostname-bin", "-z", "--search-zip"),
    "find": ("-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf", "-fls"),
    "fd": ("-x", "-X", "--exec", "--exec-batch"),
    "tree": ("-o", "-R"),
    "date": ("-s", "--set"),
    "file": ("-C", "--compile"),
}

_GIT_READS = frozenset(
    {
        *("status", "diff", "log", "show", "shortlog", "rev-parse", "rev-list", "ls-files", "ls-tree", "blame", "grep"),
        *("describe", "cat-file", "merge-base", "name-rev", "for-each-ref", "show-ref", "diff-tree", "diff-index"),
        *("count-objects", "check-ignore", "check-attr", "cherry", "range-diff", "whatchanged", "version"),
    }
)
_GIT_UNSAFE = ("--output", "--ext-diff", "--textconv", "--filters", "-O", "--open-files-in-pager")
_GIT_LISTS: dict[str, re.Pattern[str]] = {
    "branch": re.compile(r"(?: (?:-[arvl]+|--(?:list|all|remotes|verbose|show-current)))*(?: --(?:no-)?merged)?"),
    "tag": re.compile(r"|(?: (?:-l|--list|-n\d*))(?: \S+)?"),
    "remote": re.compile(r"(?: (?:-v|--verbose))?| get-url \S+"),
    "stash": re.compile(r" (?:list|show)(?: -\S+)*"),
    "reflog": re.compile(r"(?: show)?"),
    "worktree": re.compile(r" list(?: --porcelain)?"),
    "config": re.compile(r" (?:--get(?:-all)? \S+|--list|-l)"),
}
_SED_PRINT = re.compile(r"(?:(?:\d+|\$|/[^/;{}]*/)(?:,(?:\+?\d+|\$|/[^/;{}]*/))?p;?)+")
_VERSIONED = frozenset(
    {
        *("python", "python3", "node", "npm", "pnpm", "yarn", "cargo", "rustc", "gcc", "g++", "clang", "make"),
        *("cmake", "java", "ruby", "pip", "pip3", "uv", "pytest", "ruff", "mypy", "git", "rg", "bash", "docker"),
    }
)
_DECLARATIONS = frozenset({"export", "declare", "local", "readonly", "typeset"})
_HARMLESS_NAMES = re.compile(
    r"LANG|LC_[A-Z]+|TZ|NO_COLOR|FORCE_COLOR|CLICOLOR|CI|TERM|COLUMNS|LINES|PYTHONUNBUFFERED|PYTHONDONTWRITEBYTECODE"
    r"|PYTHONHASHSEED|RUST_BACKTRACE|RUST_LOG|NODE_ENV|DEBUG|VERBOSE|(?!path$|fpath$|.*_proxy$)[a-z_][a-z0-9_]*"
)


def harmless_variables(names: tuple[str, ...]) -> bool:
    """Tell whether setting these variables cannot change what a program runs or loads."""
    return all(_HARMLESS_NAMES.fullmatch(name) for name in names)


def only_reads(part: Part) -> bool:
    """Tell whether the simple command only reads, whatever its unknown words turn out to be."""
    if not part.words:
        return True
    name = part.words[0]
    if name is None:
        return False
    if name in READ_ONLY or (name in _DECLARATIONS and part.assigns):
        return True
    words = part.known
    return words is not None and not part.stray and _known_to_read(name, words)


def _known_to_read(name: str, words: tuple[str, ...]) -> bool:
    match name:
        case "git":
            return _git_reads(words)
        case "sed":
            return _sed_prints(words[1:])
        case "uniq":
            return sum(not word.startswith("-") for word in words[1:]) <= 1
        case "command":
            return words[1:2] in (("-v",), ("-V",))
        case _ if name in _UNSAFE_OPTIONS:
            return not any(_has_option(word, _UNSAFE_OPTIONS[name]) for word in words[1:])
        case _:
            return name in _VERSIONED and words[1:] == ("--version",)


def _has_option(word: str, options: tuple[str, ...]) -> bool:
    if not word.startswith("-") or word == "--":
        return False
    if word.startswith("--"):
        # GNU programs take any beginning of a long option that is not ambiguous.
        written = word.partition("=")[0]
        return any(option.startswith(written) for option in options)
    short = tuple(option[1] for option in options if len(option) == 2)
    return any(letter in word[1:] for letter in short) or word in options


def _git_reads(words: tuple[str, ...]) -> bool:
    rest = words[1:]
    while rest and rest[0] in ("--no-pager", "-P", "--no-optional-locks"):
        rest = rest[1:]
    if rest[:1] == ("-C",):
        rest = rest[2:]
    if not rest:
        return False
    if rest[0] in _GIT_LISTS:
        return _GIT_LISTS[rest[0]].fullmatch("".join(f" {word}" for word in rest[1:])) is not None
    if rest[0] not in _GIT_READS:
        return False
    unsafe = _GIT_UNSAFE if rest[0] == "grep" else tuple(flag for flag in _GIT_UNSAFE if flag != "-O")
    return not any(_has_option(word, unsafe) for word in rest[1:])


def _sed_prints(words: tuple[str, ...]) -> bool:
    quiet = False
    while words and words[0] in ("-n", "-E", "-r", "-nE", "-nr", "--quiet", "--silent"):
        quiet = quiet or "n" in words[0] or words[0].startswith("--")
        words = words[1:]
    if not words or words[0].startswith("-") or any(word.startswith("-") for word in words[1:]):
        return False
    return quiet and _SED_PRINT.fullmatch(words[0]) is not None


def only_carries(part: Part, inside: bool) -> bool:
    """Tell whether the command only passes text on, beside one that was allowed: it opens no file.

    `inside` says whether its operand, for `cd`, lies in the workspace.
    """
    if not part.words:
        return True
    words = part.known
    if words is None:
        return False
    match words[0]:
        case "cd":
            return inside and len(words) == 2
        case "true" | "false" | ":" | "echo" | "pwd" | "exit" | "sleep" | "wait":
            return True
        case "head" | "tail" | "wc" | "uniq" | "cut" | "tr" | "cat" | "nl" | "tac":
            operands = [word for word in words[1:] if not word.startswith("-") and not word.isdigit()]
            return not operands or (words[0] == "tr" and len(operands) <= 2)
        case "sort":
            return all(re.fullmatch(r"-[nruhbfsVgM]+|-k[\d.,nr]+|-t.", word) for word in words[1:])
        case "grep" | "egrep":
            flags = [word for word in words[1:] if word.startswith("-")]
            return len(words) - 1 - len(flags) == 1 and all(re.fullmatch(r"-[EFivnqwxco]+", flag) for flag in flags)
        case _:
            return False


_NO_FAMILY = (
    SHELLS
    | READ_ONLY
    | frozenset(
        {
            *("python", "python2", "python3", "node", "deno", "bun", "ruby", "perl", "php", "lua", "osascript", "awk"),
            *("gawk", "sed", "sudo", "doas", "su", "env", "xargs", "eval", "exec", "nohup", "timeout", "nice", "time"),
            *("command", "builtin", "ssh", "scp", "rsync", "curl", "wget", "nc", "ncat", "socat", "telnet", "ftp"),
            *("rm", "rmdir", "mv", "cp", "dd", "ln", "tee", "install", "truncate", "shred", "chmod", "chown", "chgrp"),
            *("kill", "pkill", "killall", "mkfs", "mount", "umount", "shutdown", "reboot", "crontab", "at", "screen"),
            *("tmux", "find", "fd", "parallel", "watch", "strace", "gdb", "script", "expect", "source", ".", "trap"),
            *("busybox", "toybox", "chroot", "unshare", "nsenter", "flock", "setsid", "stdbuf", "ionice", "npx"),
            *("psql", "mysql", "sqlite3", "redis-cli", "mongosh", "aws", "gcloud", "az", "vim", "vi", "nano", "emacs"),
            *("alias", "export", "declare", "unset", "set", "read", "let", "printf", "doas", "runuser", "coproc"),
        }
    )
)
"""To allow these would be to allow anything, or to allow damage."""

_DEPTHS: dict[tuple[str, ...], int] = {
    **dict.fromkeys(
        [
            *[("git",), ("npm",), ("pnpm",), ("yarn",), ("cargo",), ("go",), ("docker",), ("podman",), ("kubectl",)],
            *[("pip",), ("pip3",), ("uv",), ("poetry",), ("pdm",), ("hatch",), ("make",), ("just",), ("terraform",)],
            *[("apt",), ("apt-get",), ("brew",), ("dnf",), ("systemctl",), ("bazel",), ("dotnet",), ("gradle",)],
            *[
                ("mvn",),
                ("rake",),
                ("bundle",),
                ("helm",),
                ("rustup",),
                ("conda",),
                ("mix",),
                ("composer",),
                ("swift",),
            ],
        ],
        2,
    ),
    **dict.fromkeys(
        [
            *[("npm", "run"), ("pnpm", "run"), ("yarn", "run"), ("docker", "compose"), ("uv", "run"), ("uv", "pip")],
            *[("poetry", "run"), ("pdm", "run"), ("bundle", "exec"), ("git", "remote"), ("git", "stash")],
            *[("git", "config"), ("git", "worktree"), ("git", "submodule"), ("go", "mod"), ("gh",)],
        ],
        3,
    ),
}
_STARTERS = frozenset(
    {
        *[("uv", "run"), ("poetry", "run"), ("pdm", "run"), ("hatch", "run"), ("conda", "run"), ("bundle", "exec")],
        *[("docker", "run"), ("docker", "exec"), ("podman", "run"), ("podman", "exec"), ("kubectl", "exec")],
        *[("npm", "exec"), ("pnpm", "exec"), ("pnpm", "dlx"), ("yarn", "exec"), ("go", "run"), ("cargo", "run")],
        *[("git", "config"), ("git", "submodule"), ("git", "bisect"), ("git", "filter-branch"), ("gh", "api")],
    }
)
_MODULE_NEVER = frozenset({"code", "pdb", "timeit", "runpy", "idlelib", "trace", "cProfile", "profile", "site"})
_NAME = re.compile(r"[A-Za-z][\w.+-]*")
_SUBCOMMAND = re.compile(r"[A-Za-z][\w.:/-]*")


def family(part: Part) -> tuple[str, ...] | None:
    """Return the words that "don't ask again" would allow for this command, None where there is no fair set.

    A family is a program with its subcommand, never an interpreter, a shell, a launcher or what destroys.
    """
    words = part.known
    if not words or not harmless_variables(part.assigns):
        return None
    name = words[0]
    if re.fullmatch(r"python[\d.]*", name) and words[1:2] == ("-m",):
        return _module_family(words)
    if name in _NO_FAMILY or not _NAME.fullmatch(name) or re.fullmatch(r"python[\d.]*", name):
        return None
    if without_global_options(words) != words:
        return None
    depth = _DEPTHS.get(words[:2], _DEPTHS.get(words[:1], 1))
    if words[:2] in _STARTERS:
        return _started_family(words) if depth == 3 and words[1] in ("run", "exec") else None
    if len(words) < depth or not all(_SUBCOMMAND.fullmatch(word) for word in words[1:depth]):
        return None
    return words[:depth]


def _module_family(words: tuple[str, ...]) -> tuple[str, ...] | None:
    if len(words) < 3 or not _NAME.fullmatch(words[2]) or words[2] in _MODULE_NEVER:
        return None
    if words[2] == "pip":
        return words[:4] if len(words) > 3 and _SUBCOMMAND.fullmatch(words[3]) else None
    return words[:3]


def _started_family(words: tuple[str, ...]) -> tuple[str, ...] | None:
    started = family(Part(words[2:]))
    return None if started is None else (*words[:2], *started)
