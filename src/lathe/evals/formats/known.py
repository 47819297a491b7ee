"""The formats by name: what `lathe eval run DATASET` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import Unreadable, folders_holding
from lathe.evals.task import Dataset
from lathe.protocol.errors import UsageError

OPTIONS: dict[str, tuple[str, ...]] = {
    "harbor": ("dataset", "root"),
    "swebench": ("repos",),
    "cybench": ("variant",),
    "intercode-ctf": (),
    "nyu-ctf": ("split",),
    "quixbugs": (),
    "functions": (),
    "situations": (),
}
"""The formats, and what may stand behind the path as `?NAME=VALUE&...`."""


class Spec(NamedTuple):
    """A dataset as it is asked for: `FORMAT:PATH?NAME=VALUE`; `format` is "" where the content shall tell."""

    format: str
    path: Path
    options: dict[str, str]


def open_dataset(spec: str, *, made: Path | None = None, given: Mapping[str, str] | None = None) -> Dataset:
    """Return the dataset that `spec` means: `FORMAT:PATH`, or a path that is known by what lies there.

    Broken tasks stand in its `unread`. `made` is where folders that the tasks need are made (Lathe's cache folder),
    `given` are variables of this machine that Harbor's `${NAME}` templates may take. Raises `UsageError` with a
    sentence for a format that is not known, and where nothing can be read.
    """
    asked = parsed(spec)
    if not asked.path.exists():
        raise UsageError(f"There is no {asked.path}.", hint="A dataset is FORMAT:PATH, or a path; see docs.")
    kind = asked.format or recognised(asked.path)
    if not kind:
        raise UsageError(
            f"{asked.path} holds no tasks in a format that is known.",
            hint=f"Say which it is: {', '.join(f'{name}:PATH' for name in OPTIONS)}.",
        )
    unknown = sorted(asked.options.keys() - set(OPTIONS[kind]))
    if unknown:
        known = ", ".join(OPTIONS[kind]) or "none"
        raise UsageError(f"The format {kind} has no option {unknown[0]}.", hint=f"It has {known}.")
    try:
        return _read(kind, asked.path, asked.options, Maker(made), given)
    except Unreadable as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{asked.path} can't be read: {error.strerror or error}.") from None


def parsed(spec: str) -> Spec:
    """Return the parts of a dataset's spec; raise `UsageError`."""
    text, _, query = spec.partition("?")
    name, colon, rest = text.partition(":")
    chosen = name if colon and name in OPTIONS else ""
    if colon and not chosen and not Path(text).exists() and "/" not in name:
        raise UsageError(f"There is no format {name!r}.", hint=f"The formats are {', '.join(OPTIONS)}.")
    path = rest if chosen else text
    if not path:
        raise UsageError("The dataset names no path.", hint="It is FORMAT:PATH, or a path.")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise UsageError(f"{query!r} is not NAME=VALUE.", hint="Several are parted by &.") from None
    return Spec(chosen, Path(path).expanduser(), options)


def recognised(path: Path) -> str:
    """Return the format of what lies at a path, "" where none is known by it."""
    from lathe.evals.formats import cybench, functions, harbor, intercode_ctf, nyu_ctf, quixbugs, situations

    if path.is_file():
        by_name = {intercode_ctf.ROWS: "intercode-ctf", "registry.json": "harbor"}
        return by_name.get(path.name, "swebench" if path.suffix in (".json", ".jsonl") else "")
    tells: dict[str, Callable[[], bool]] = {
        "harbor": lambda: harbor.is_task(path) or (path / harbor.MANIFEST).is_file(),
        "quixbugs": lambda: quixbugs.is_quixbugs(path),
        "functions": lambda: (path / functions.ABOUT).is_file(),
        "situations": lambda: (path / situations.ABOUT).is_file(),
        "intercode-ctf": lambda: intercode_ctf.rows_file(path) is not None,
        "nyu-ctf": lambda: any((path / name).is_file() for name in (*nyu_ctf.LISTS, nyu_ctf.CHALLENGE)),
        "cybench": lambda: bool(cybench.challenges_in(path)),
    }
    known = next((name for name, there in tells.items() if there()), "")
    if known:
        return known
    if folders_holding(path, harbor.CONFIG, depth=1):
        return "harbor"
    return "nyu-ctf" if folders_holding(path, nyu_ctf.CHALLENGE) else ""


def _read(kind: str, path: Path, options: Mapping[str, str], made: Maker, given: Mapping[str, str] | None) -> Dataset:
    from lathe.evals.formats import cybench, functions, harbor, intercode_ctf, nyu_ctf, quixbugs, situations, swebench

    match kind:
        case "harbor":
            name, root = options.get("dataset", ""), options.get("root", "")
            return harbor.read_dataset(path, given=given, name=name, root=root)
        case "swebench":
            return swebench.read_dataset(path, repos=options.get("repos", ""), made=made)
        case "cybench":
            return cybench.read_dataset(path, variant=options.get("variant", "hard"), made=made)
        case "intercode-ctf":
            return intercode_ctf.read_dataset(path, made=made)
        case "nyu-ctf":
            return nyu_ctf.read_dataset(path, split=options.get("split", "test"), made=made)
        case "quixbugs":
            return quixbugs.read_dataset(path, made=made)
        case "situations":
            return situations.read_dataset(path, made=made)
        case _:
            return functions.read_dataset(path, made=made)
