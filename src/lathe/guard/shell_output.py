"""What commands print, as far as that can be told without running them: it becomes the words of other commands."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple

from lathe.guard.shell_tree import ansi_c
from lathe.guard.shell_words import GLOB, SOME, UNKNOWN
from lathe.guard.wrappers import program_name


class Output(NamedTuple):
    """What flows out of a command: its exact `text`, or else the `names` that it can print (`a/*`: any below `a`)."""

    text: str | None = None
    names: tuple[str, ...] | None = None

    def words(self) -> tuple[str, ...]:
        """Return the words that the text or the names make; one unknown word where neither is to be told."""
        if self.text is not None:
            return tuple(self.text.split())
        return self.names if self.names is not None else (UNKNOWN,)


NOTHING = Output("", ())
ANYTHING = Output()
_SOMETHING = frozenset({"which", "date", "id", "whoami", "hostname", "uname", "nproc", "basename", "wc", "seq"})
_FILTERS = frozenset({"sort", "uniq", "head", "tail", "grep", "egrep", "fgrep", "tee", "tac", "shuf"})
_KNOWN = (
    _SOMETHING
    | _FILTERS
    | frozenset(
        {
            *("tr", "cat", "echo", "printf", "pwd", "mktemp", "dirname", "find", "fd", "fdfind", "rg", "ls", "git"),
            *("base64", "base32", "xxd", "rev"),
        }
    )
)
_SEPARATES = (["\\n", "\\0"], ["\\0", "\\n"], ["\n", "\0"], ["n", "0"], ["\\n", " "])


def printed(words: Sequence[str], given: Output, cwd: str, top: str) -> Output:
    """Return what a simple command prints. `given` flows into it, `top` is the root of the repository."""
    if not words:
        return NOTHING
    name = program_name(words[0])
    if name not in _KNOWN:
        return ANYTHING
    rest = list(words[1:])
    operands = [word for word in rest if not word.startswith("-")]
    if name in _SOMETHING:
        return Output(names=(SOME,))
    if (name in _FILTERS and len(operands) <= 1) or (name == "tr" and rest in _SEPARATES):
        return Output(names=given.names if given.text is None else tuple(given.text.split()))
    if name == "cat" and not operands:
        return given
    text = _exact(name, rest, operands, cwd)
    if text is not None:
        return Output(text)
    names = _listed(name, words, operands)
    if names is not None:
        return Output(names=names)
    return _git(rest, top) if name == "git" else _decoded(name, rest, given.text)


def _exact(name: str, rest: list[str], operands: list[str], cwd: str) -> str | None:
    match name:
        case "echo":
            return " ".join(rest[1:] if rest[:1] in (["-n"], ["-e"], ["-ne"]) else rest) + "\n"
        case "printf" if rest:
            return _formatted(rest)
        case "pwd":
            return cwd
        case "mktemp":
            return f"/tmp/{SOME}"
        case "dirname" if operands and not {UNKNOWN, SOME} & set(operands[0]):
            return operands[0].rstrip("/").rpartition("/")[0] or ("/" if operands[0].startswith("/") else ".")
        case _:
            return None


def _listed(name: str, words: Sequence[str], operands: list[str]) -> tuple[str, ...] | None:
    """Return patterns for the files that a command lists."""
    match name:
        case "find":
            return found_by_find(words)
        case "fd" | "fdfind":
            return found_by_fd(words)
        case "rg" | "grep" | "egrep" if _lists_files(name, list(words[1:])):
            return tuple(f"{folder}/*" for folder in operands[1:]) or ("./*",)
        case "ls" if "-d" in words:
            return tuple(operands)
        case "ls":
            return tuple(f"{folder}/{SOME}" if not GLOB.search(folder) else folder for folder in operands) or ("*",)
        case _:
            return None


def _formatted(words: list[str]) -> str:
    text = ansi_c(words[0])
    values = iter(words[1:])
    return re.sub(r"%[-0-9.]*[sbdq]", lambda _: next(values, ""), text)


def found_by_find(words: Sequence[str]) -> tuple[str, ...]:
    """Return patterns for what a `find` finds: below its folders, with the name that it asks for."""
    names = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-name", "-iname")]
    name = names[0] if len(names) == 1 and not {"!", "-not", "-o", "-or"} & set(words) else "*"
    return tuple(f"{start.rstrip('/')}/{name}" for start in find_starts(words))


def found_by_fd(words: Sequence[str]) -> tuple[str, ...]:
    """Return patterns for what an `fd` finds: below the folders that follow its pattern."""
    ends = [at for at, word in enumerate(words) if word in ("-x", "-X", "--exec", "--exec-batch")]
    operands = [word for word in words[1 : ends[0] if ends else None] if not word.startswith("-")]
    return tuple(f"{folder.rstrip('/')}/*" for folder in operands[1:]) or ("./*",)


def find_starts(words: Sequence[str]) -> tuple[str, ...]:
    """Return the folders that a `find` starts from."""
    starts: list[str] = []
    for word in words[1:]:
        if word in ("-H", "-L", "-P"):
            continue
        if word.startswith(("-", "(", "!", ")")):
            break
        starts.append(word)
    return tuple(starts) or (".",)


def _lists_files(name: str, words: list[str]) -> bool:
    return any(
        word in ("--files", "--files-with-matches", "--files-without-match")
        or (word[:1] == "-" and word[1:2] != "-" and ("l" in word or (name != "rg" and "L" in word)))
        for word in words
    )


def _git(words: list[str], top: str) -> Output:
    if words[:2] == ["rev-parse", "--show-toplevel"]:
        return Output(top)
    if words[:1] in (["ls-files"], ["diff"], ["grep"]):
        return Output(names=("./*",))
    return Output(names=(SOME,))


def _decoded(name: str, words: list[str], text: str | None) -> Output:
    """Return what the usual ways to hide a text make of it."""
    if text is None:
        return ANYTHING
    try:
        match name:
            case "base64" if set(words) & {"-d", "-D", "--decode", "-di"}:
                return Output(base64.b64decode("".join(text.split()), validate=True).decode())
            case "base32" if set(words) & {"-d", "--decode"}:
                return Output(base64.b32decode("".join(text.split())).decode())
            case "xxd" if "-r" in words or "-r" in "".join(word for word in words if word[:1] == "-"):
                return Output(binascii.unhexlify("".join(text.split())).decode())
            case "rev":
                return Output("\n".join(line[::-1] for line in text.split("\n")))
            case "tr" if [word.lower() for word in words] in (["a-za-z", "n-za-mn-za-m"], ["a-z", "n-za-m"]):
                return Output(codecs.decode(text, "rot13"))
            case _:
                return ANYTHING
    except ValueError:  # a wrong encoding, which the program would refuse as well
        return ANYTHING
