"""Which commands need a shell, and which shell there is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_PLAIN = re.compile(r" *[A-Za-z0-9_@+:,./-][A-Za-z0-9_@%+:,./-]*(?: +[A-Za-z0-9_@%+=:,./-]+)* *", re.ASCII)

# What bash 5.2 does itself: builtins and reserved words, but for true and false, whose programs do the same.
_WORDS = """
    . : alias bg bind break builtin caller case cd command compgen complete compopt continue coproc declare dirs
    disown do done echo elif else enable esac eval exec exit export fc fg fi for function getopts hash help history
    if in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return select set shift
    shopt source suspend test then time times trap type typeset ulimit umask unalias unset until wait while
"""
_SHELL_WORDS = frozenset(_WORDS.split())


def plain_words(command: str) -> list[str] | None:
    """Return the words of `command` if a shell would do nothing but run them as a program, else None."""
    if not _PLAIN.fullmatch(command):
        return None
    words = command.split()
    return None if words[0] in _SHELL_WORDS else words


def shell_is_plain(env: Mapping[str, str]) -> bool:
    """Tell whether a shell started with `env` would take names as they are: no start-up file, no functions."""
    return "BASH_ENV" not in env and not any(name.startswith("BASH_FUNC_") for name in env)


def find_shell(env: Mapping[str, str]) -> str:
    """Return "bash" if it is on the PATH of `env`, or else the `sh` that every POSIX system has."""
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    return "bash" if any(os.access(f"{folder}/bash", os.X_OK) for folder in folders if folder) else "sh"
