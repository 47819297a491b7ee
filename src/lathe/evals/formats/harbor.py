"""Harbor's task format, as it is: a folder with `task.toml`, `instruction.md`, `environment/`, `solution/`, `tests/`.

Source: https://harborframework.com/docs/task-format and Harbor 0.26. A dataset is a folder of task folders, with or
without a `dataset.toml`, or one dataset of a `registry.json`. Harbor reads the same tasks the same way, except that a
link which leaves the task's folder, and limits that make no sense, are refused here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lathe.evals.formats.harbor_toml import Settings, settings_of
from lathe.evals.formats.reading import (
    Unreadable,
    checked,
    digest_of,
    gathered,
    licence_of,
    named,
    parsed_json,
    text_of,
)
from lathe.evals.task import Dataset, EnvironmentSpec, Task, VerifierSpec

CONFIG = "task.toml"
MANIFEST = "dataset.toml"
COMPOSE = "docker-compose.yaml"
PARTS = ("environment", "solution", "tests")

_CANARY = re.compile(r"(?:<!--.*canary.*-->|#.*canary.*)", re.IGNORECASE)


def read_task(folder: Path, *, dataset: str = "", given: Mapping[str, str] | None = None) -> Task:
    """Return the task of a folder; raise `Unreadable`.

    `given` are the variables that its `${NAME}` templates may take; they don't count for the digest.
    """
    folder = folder.resolve()
    config = text_of(folder / CONFIG, within=folder)
    settings = settings_of(config, given or {})
    for name in ("trajectory.json", "steps"):
        if (folder / name).exists():
            raise Unreadable(f"A task with {name} is not supported here.")
    instruction = _without_canary(text_of(folder / "instruction.md", within=folder))
    tests, solution = folder / "tests", folder / "solution"
    command = _command(tests, folder)
    parts = [(name, folder / name) for name in ("instruction.md", *PARTS) if (folder / name).exists()]
    return Task(
        name=named(settings.name or folder.name),
        dataset=dataset or folder.parent.name,
        digest=digest_of({"format": "harbor", CONFIG: config}, parts, within=folder),
        instruction=instruction,
        environment=_environment(folder, settings),
        verifier=VerifierSpec(
            tests=tests,
            command=command,
            env=settings.verifier_env,
            user=settings.verifier_user,
            network=settings.verifier_network,
            timeout_s=settings.verifier_timeout_s,
        ),
        solution=solution if (solution / "solve.sh").is_file() else None,
        solution_env=settings.solution_env,
        agent_timeout_s=settings.agent_timeout_s,
        agent_network=settings.agent_network,
        category=settings.category,
        difficulty=settings.difficulty,
        tags=settings.tags,
        source=folder,
    )


def _environment(folder: Path, settings: Settings) -> EnvironmentSpec:
    context = folder / "environment"
    compose = (context / COMPOSE).is_file()
    buildable = compose or (context / "Dockerfile").is_file()
    if not buildable and not settings.image:
        raise Unreadable("It has neither environment/Dockerfile nor a docker_image.")
    return EnvironmentSpec(
        context=context if buildable else None,
        compose=compose,
        image=settings.image,
        workdir=settings.workdir,
        env=settings.env,
        user=settings.agent_user,
        resources=settings.resources,
        network=settings.network,
        build_timeout_s=settings.build_timeout_s,
        healthcheck=settings.healthcheck,
    )


def _without_canary(text: str) -> str:
    """Return the instruction without the canary lines before it, which mark training data and are not for the agent."""
    lines = text.split("\n")
    at = 0
    while at < len(lines) and _CANARY.fullmatch(lines[at].strip()):
        at += 1
    while at < len(lines) and not lines[at].strip():
        at += 1
    return "\n".join(lines[at:])


def _command(tests: Path, folder: Path) -> tuple[str, ...]:
    """Return how `tests/test.sh` is run: by what its first line names, as the kernel would, else by bash."""
    script = tests / "test.sh"
    first = text_of(script, within=folder).partition("\n")[0]
    if not first.startswith("#!") or not (words := first[2:].strip().split(maxsplit=1)):
        return ("bash", "/tests/test.sh")
    return (*words, "/tests/test.sh")


# --- datasets


def is_task(path: Path) -> bool:
    """Return whether a folder looks like a task."""
    return (path / CONFIG).is_file() or (path / CONFIG).is_symlink()


def read_dataset(path: Path, *, given: Mapping[str, str] | None = None, name: str = "", root: str = "") -> Dataset:
    """Return the dataset of a folder of tasks (or of one task), or of a registry file; raise `Unreadable`.

    Of a registry, `name` chooses the dataset (`NAME` or `NAME@VERSION`), and `root` is where the repository lies that
    its tasks come from: nothing is downloaded.
    """
    if path.is_file():
        return _of_registry(path, name, root, given)
    if is_task(path):
        return gathered(path.name, [(path.name, path)], lambda each: read_task(each, dataset=path.name, given=given))
    try:
        folders = [each for each in sorted(path.iterdir()) if is_task(each)]
    except OSError as error:
        raise Unreadable(f"{path} can't be read: {error.strerror or error}.") from None
    title, version, listed = _manifest(path)
    if not folders and not listed:
        raise Unreadable(f"{path} holds no folder with a {CONFIG}.")
    called = title or path.name
    found = gathered(
        called,
        [(each.name, each) for each in folders],
        lambda each: read_task(checked(each, within=path), dataset=called, given=given),
        version=version,
        licence=licence_of(path),
    )
    if listed is None:
        return found
    return _listed(found, listed)


def _manifest(folder: Path) -> tuple[str, str, list[str] | None]:
    """Return name, version and task names of a `dataset.toml`; the last is None without one."""
    if not (folder / MANIFEST).is_file():
        return "", "", None
    try:
        data: dict[str, Any] = tomllib.loads(text_of(folder / MANIFEST, within=folder))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{MANIFEST} is no TOML: {str(error)[:120]}.") from None
    about, tasks = data.get("dataset"), data.get("tasks", [])
    if not isinstance(about, dict) or not isinstance(about.get("name"), str) or not isinstance(tasks, list):
        raise Unreadable(f"{MANIFEST} names no dataset.")
    names = [each["name"] for each in tasks if isinstance(each, dict) and isinstance(each.get("name"), str)]
    version = about.get("version")
    return about["name"], version if isinstance(version, str) else "", names


def _listed(found: Dataset, listed: list[str]) -> Dataset:
    """Return the tasks that a manifest lists; those that are not here are unread."""
    short = [name.rpartition("/")[2] for name in listed]
    tasks = {task.name: task for task in found.tasks}
    failed = {name for name, _ in found.unread}
    missing = [
        (name, f"{MANIFEST} lists it, and it is not here; `harbor download` fetches it.")
        for name in dict.fromkeys(short)
        if name not in tasks and name not in failed
    ]
    return Dataset(
        name=found.name,
        version=found.version,
        tasks=tuple(tasks[name] for name in sorted(set(short) & set(tasks))),
        licence=found.licence,
        unread=tuple(sorted([*found.unread, *missing])),
    )


def _of_registry(path: Path, name: str, root: str, given: Mapping[str, str] | None) -> Dataset:
    rows = parsed_json(text_of(path, within=path.parent), path.name)
    sets = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    wanted, _, version = name.partition("@")
    matching = [
        row for row in sets if row.get("name") == wanted and (not version or str(row.get("version")) == version)
    ]
    if not matching:
        known = sorted({f"{row.get('name')}@{row.get('version')}" for row in sets})
        raise Unreadable(f"{path.name} has no dataset {name!r}; it has {', '.join(known)[:300] or 'none'}.")
    row = matching[-1]
    base = Path(root).expanduser() if root else path.parent
    return gathered(
        wanted,
        _of_row(row),
        lambda task: _registered(task, base, local=not root, dataset=wanted, given=given),
        version=str(row.get("version", "")),
    )


def _of_row(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    tasks = row.get("tasks")
    for number, task in enumerate(tasks if isinstance(tasks, list) else []):
        if isinstance(task, dict):
            yield str(task.get("name", number)), task


def _registered(row: dict[str, Any], base: Path, *, local: bool, dataset: str, given: Mapping[str, str] | None) -> Task:
    where, origin = row.get("path"), row.get("git_url")
    if not isinstance(where, str):
        raise Unreadable("The registry names no path for it.")
    if origin is not None and local:
        raise Unreadable(f"It lies in {origin!s:.120}; clone that and give its folder as root=.")
    folder = base / where
    if not local:
        checked(folder, within=base)
    return read_task(folder, dataset=dataset, given=given)
