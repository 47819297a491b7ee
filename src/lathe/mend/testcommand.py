"""What a test command asks for, as arguments for pytest."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from lathe.protocol.errors import UsageError

# options of `python -m unittest` that say how, not what
_QUIET = {"-v", "--verbose", "-q", "--quiet", "-b", "--buffer", "-c", "--catch", "-f", "--failfast", "--locals"}


def pytest_arguments(command: str) -> tuple[str, ...]:
    """Return the arguments that make pytest run the tests that `command` runs.

    Knows `pytest ...`, `python -m pytest ...` and `python -m unittest ...`, also behind `uv run` and the like. Raises
    `UsageError` for any other command: what it runs cannot be seen from its exit status.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"The test command cannot be read: {error}.", hint="Mind the quotes.") from None
    for index, word in enumerate(words):
        name = PurePosixPath(word).name
        if name in ("pytest", "py.test") and (index == 0 or words[index - 1] != "-m"):
            return tuple(words[index + 1 :])
        if word == "-m" and index and words[index + 1 : index + 2] == ["pytest"]:
            return tuple(words[index + 2 :])
        if word == "-m" and index and words[index + 1 : index + 2] == ["unittest"]:
            return _of_unittest(words[index + 2 :])
    raise UsageError(
        f"mend does not see which tests `{command}` runs.",
        hint="Give the pytest or unittest command behind it, as `python -m pytest tests`.",
        code="test_command",
    )


def _of_unittest(words: list[str]) -> tuple[str, ...]:
    words = [word for word in words if word not in _QUIET]
    if not words or words[0] == "discover":
        return _of_discover(words[1:])
    if "-k" in words:
        at = words.index("-k")
        pattern = " ".join(words[at + 1 : at + 2]).strip("*")
        return (*_of_unittest(words[:at] + words[at + 2 :]), "-k", pattern)
    return tuple(_place(word) for word in words)


def _of_discover(words: list[str]) -> tuple[str, ...]:
    start, pattern, place = ".", "test*.py", 0
    names = iter(words)
    for word in names:
        if word in ("-s", "--start-directory"):
            start = next(names, start)
        elif word in ("-p", "--pattern"):
            pattern = next(names, pattern)
        elif word in ("-t", "--top-level-directory"):
            next(names, "")
        elif not word.startswith("-"):
            start, pattern = (word, pattern) if place == 0 else (start, word)
            place += 1
    return ("-o", f"python_files={pattern}", start)


def _place(name: str) -> str:
    """Return `package.module.Case.test_x` as `package/module.py::Case::test_x`; a path as it is."""
    if name.endswith(".py") or "/" in name:
        return name
    parts = name.split(".")
    first = next((at for at, part in enumerate(parts) if part[:1].isupper()), len(parts))
    return "::".join(["/".join(parts[:first]) + ".py", *parts[first:]])
