"""Harbor's tasks are read as Harbor reads them, and a broken one never stops the others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.evals.formats.harbor import read_dataset, read_task
from lathe.evals.formats.reading import Unreadable
from lathe.evals.task import Healthcheck, Network, Resources, Task

FULL = """\
schema_version = "1.2"

[task]
name = "acme/tidy-logs"
keywords = ["logs"]

[metadata]
difficulty = "hard"
category = "shell"
author_name = "A"

[verifier]
timeout_sec = 120
user = 1000
env = { MODE = "strict", WHO = "${WHO:-nobody}" }

[agent]
timeout_sec = 300.5
user = "agent"
network_mode = "no-network"

[solution]
env = { TOKEN = "${TOKEN}" }

[environment]
docker_image = "acme/tidy:1"
build_timeout_sec = 60
cpus = 2
memory_mb = 512
storage_mb = 1024
gpus = 1
workdir = "/app"
network_mode = "allowlist"
allowed_hosts = ["PyPI.org.", "*.example.com", "10.0.0.0/8", "2001:DB8::1"]
env = { LEVEL = "3" }

[environment.healthcheck]
command = "test -f /ready"
interval_sec = 1
retries = 9
"""
FIRST = """\
version = "1.0"

[metadata]
difficulty = "easy"
category = "games"
tags = ["chess"]

[verifier]
timeout_sec = 900.0

[agent]
timeout_sec = 900.0

[environment]
build_timeout_sec = 600.0
docker_image = "acme/chess:1"
cpus = 1
memory = "2G"
storage = "10G"
allow_internet = false
"""


def written(folder: Path, config: str = FIRST, **files: str | None) -> Path:
    """Write a task that Harbor takes; a file that is None is left out."""
    wanted = {
        "instruction.md": "<!-- canary GUID 1 -->\n\nPlay well.\n",
        "environment/Dockerfile": "FROM debian:12\n",
        "tests/test.sh": "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n",
        "solution/solve.sh": "#!/bin/bash\ntrue\n",
        **files,
        "task.toml": config,
    }
    for name, text in wanted.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


def test_every_setting_of_a_task_is_read(tmp_path: Path) -> None:
    task = read_task(written(tmp_path / "any", FULL), given={"TOKEN": "t", "OTHER": "x"})
    assert task.name == "tidy-logs"
    assert task.instruction == "Play well.\n"
    assert task.environment.resources == Resources(cpus=2, memory_mb=512, disk_mb=1024, gpus=1)
    hosts = ("pypi.org", "*.example.com", "10.0.0.0/8", "2001:db8::1")
    assert task.network("build") == task.network("verifier") == Network("allowlist", hosts)
    assert task.network("agent") == Network("none")
    environment, verifier = task.environment, task.verifier
    assert (environment.image, environment.workdir, environment.user) == ("acme/tidy:1", "/app", "agent")
    assert (environment.env, environment.build_timeout_s) == ({"LEVEL": "3"}, 60.0)
    assert environment.healthcheck == Healthcheck("test -f /ready", interval_s=1.0, retries=9)
    assert (verifier.timeout_s, verifier.user) == (120.0, "1000")
    assert verifier.env == {"MODE": "strict", "WHO": "nobody"}
    assert (task.agent_timeout_s, task.solution_env) == (300.5, {"TOKEN": "t"})
    assert (task.category, task.difficulty, task.tags) == ("shell", "hard", ("logs",))


def test_the_first_version_of_the_format_is_read(tmp_path: Path) -> None:
    task = read_task(written(tmp_path / "chess"))
    assert (task.name, task.category, task.tags) == ("chess", "games", ("chess",))
    assert task.environment.resources == Resources(cpus=1, memory_mb=2048, disk_mb=10240)
    assert task.environment.network == Network("none")
    assert task.environment.context == tmp_path / "chess" / "environment"


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/bash", ("/bin/bash", "/tests/test.sh")),
        ("#!/usr/bin/env python3", ("/usr/bin/env", "python3", "/tests/test.sh")),
        ("#! /bin/sh -e  -u", ("/bin/sh", "-e  -u", "/tests/test.sh")),
        ("echo", ("bash", "/tests/test.sh")),
    ],
)
def test_the_verifier_is_run_as_the_kernel_would(tmp_path: Path, first: str, command: tuple[str, ...]) -> None:
    folder = written(tmp_path / "any", **{"tests/test.sh": f"{first}\n"})
    assert read_task(folder).verifier.command == command


REFUSED: list[tuple[str, str, str]] = [
    ("[environment]", "[[steps]]\nname = 'one'\n[environment]", "several steps"),
    ("[environment]", "[environment]\nos = 'Windows'", "Windows"),
    ("[environment]", "[verifier.environment]\ncpus = 1\n[environment]", "environment of its own"),
    ("[environment]", "[environment]\nskills_dir = '/skills'", "skills"),
    ("[environment]", "[environment]\nmcp_servers = [{ name = 'a', url = 'http://a' }]", "MCP"),
    ('version = "1.0"', 'version = "2.0"', "Version"),
    ("timeout_sec = 900.0", "timeout_sec = 1000000000", "604800"),
    ("timeout_sec = 900.0", "timeout_sec = -1", "between"),
    ("timeout_sec = 900.0", "timeout_sec = nan", "not a number"),
    ("timeout_sec = 900.0", "timeout_sec = true", "not a number"),
    ('memory = "2G"', "memory_mb = -5", "MiB"),
    ('memory = "2G"', 'memory = "2X"', "no size"),
    ('memory = "2G"', 'memory = "2G"\nmemory_mb = 512', "disagree"),
    ("cpus = 1", "cpus = 0", "cpus"),
    ("allow_internet = false", "allowed_hosts = ['a.org']", "network_mode"),
    ("allow_internet = false", "network_mode = 'maybe'", "maybe"),
    ("allow_internet = false", "network_mode = 'allowlist'\nallowed_hosts = ['http://a.org']", "no host"),
    ("allow_internet = false", "network_mode = 'allowlist'\nallowed_hosts = ['a.*.org']", "no host"),
    ("allow_internet = false", "env = { A = '${SECRET}' }", "needs SECRET"),
    ("allow_internet = false", "env = { A = 1 }", "texts"),
    ("[verifier]", "[task]\nname = 'nameless'\n[verifier]", "organisation/name"),
    ("[verifier]", "[verifier", "no TOML"),
]


@pytest.mark.parametrize(("old", "new", "word"), REFUSED)
def test_what_cannot_be_run_here_is_said_in_a_sentence(tmp_path: Path, old: str, new: str, word: str) -> None:
    assert old in FIRST
    with pytest.raises(Unreadable, match=word) as refused:
        read_task(written(tmp_path / "any", FIRST.replace(old, new, 1)))
    assert str(refused.value).endswith(".")


def test_a_task_gets_no_variable_of_this_machine_that_it_was_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    folder = written(tmp_path / "any", FIRST + "env = { A = '${SECRET:-none}' }\n")
    assert read_task(folder).environment.env == {"A": "none"}
    assert read_task(folder, given={"SECRET": "yes"}).environment.env == {"A": "yes"}


def test_a_broken_task_never_stops_the_others(tmp_path: Path) -> None:
    written(tmp_path / "good")
    written(tmp_path / "no-instruction", **{"instruction.md": None})
    written(tmp_path / "no-tests", **{"tests/test.sh": None})
    written(
        tmp_path / "no-image", FIRST.replace('docker_image = "acme/chess:1"\n', ""), **{"environment/Dockerfile": None}
    )
    written(tmp_path / "latin")
    (tmp_path / "latin" / "instruction.md").write_bytes(b"caf\xe9")
    written(tmp_path / "escape")
    (tmp_path / "escape" / "tests" / "data").symlink_to("/etc/passwd")
    written(tmp_path / "linked-config")
    (tmp_path / "linked-config" / "task.toml").unlink()
    (tmp_path / "linked-config" / "task.toml").symlink_to(tmp_path / "good" / "task.toml")
    written(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe" / "environment" / "pipe")
    written(tmp_path / "loop")
    (tmp_path / "loop" / "solution" / "again").symlink_to("again")
    elsewhere = written(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "outside").symlink_to(elsewhere)
    written(tmp_path / "bad\udcff\nname")
    (tmp_path / "no-task").mkdir()
    dataset = read_dataset(tmp_path)
    assert [task.name for task in dataset.tasks] == ["bad-name", "good"]
    unread = dict(dataset.unread)
    assert unread.keys() == {
        "no-instruction", "no-tests", "no-image", "latin", "escape", "linked-config", "pipe", "loop", "outside",
    }  # fmt: skip
    assert all(why.endswith(".") and "\n" not in why for why in unread.values())


def test_the_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    one = written(tmp_path / "a" / "task")
    two = tmp_path / "b" / "task"
    shutil.copytree(one, two)
    os.utime(two / "instruction.md", (1, 1))
    (two / "instruction.md").chmod(0o600)
    (two / "README.md").write_text("not part of it")
    digest = read_task(one).digest
    assert read_task(two).digest == digest
    seen = {digest}
    for name in ("task.toml", "instruction.md", "environment/Dockerfile", "tests/test.sh", "solution/solve.sh"):
        with (two / name).open("a") as file:
            file.write("\n")
        seen.add(read_task(two).digest)
    (two / "tests" / "test.sh").chmod(0o755)
    seen.add(read_task(two).digest)
    assert len(seen) == 7


def test_a_manifest_names_the_dataset_and_what_is_missing(tmp_path: Path) -> None:
    for name in ("one", "two", "more"):
        written(tmp_path / name)
    entries = "".join(f'[[tasks]]\nname = "acme/{name}"\ndigest = "sha256:{"0" * 64}"\n' for name in ("one", "gone"))
    (tmp_path / "dataset.toml").write_text(f'[dataset]\nname = "acme/set"\nversion = "3"\n{entries}')
    dataset = read_dataset(tmp_path)
    assert (dataset.name, dataset.version) == ("acme/set", "3")
    assert [task.name for task in dataset.tasks] == ["one"]
    assert [name for name, _ in dataset.unread] == ["gone"]


def test_a_registry_is_read_from_what_lies_here(tmp_path: Path) -> None:
    written(tmp_path / "clone" / "tasks" / "one")
    origin = {"git_url": "https://example.org/set.git", "git_commit_id": "abc"}
    tasks = [
        {"name": "one", "path": "tasks/one", **origin},
        {"name": "gone", "path": "tasks/gone", **origin},
        {"name": "evil", "path": "../../etc", **origin},
    ]
    row = {"name": "set", "version": "1", "description": "", "tasks": tasks}
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps([row]))
    dataset = read_dataset(registry, name="set@1", root=str(tmp_path / "clone"))
    assert ([task.name for task in dataset.tasks], dataset.version) == (["one"], "1")
    assert [name for name, _ in dataset.unread] == ["evil", "gone"]
    cloneless = read_dataset(registry, name="set")
    assert "clone that" in dict(cloneless.unread)["one"]
    with pytest.raises(Unreadable, match="set@1"):
        read_dataset(registry, name="other")


_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)  # fmt: skip
_KEYS = [
    "timeout_sec", "user", "env", "network_mode", "allowed_hosts", "memory", "memory_mb", "storage", "cpus", "gpus",
    "workdir", "docker_image", "healthcheck", "allow_internet", "os", "name", "tags", "category", "build_timeout_sec",
]  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf") if value is not None else '""'


@given(
    tables=st.dictionaries(
        st.sampled_from(["environment", "agent", "verifier", "task", "metadata", "solution"]),
        st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4),
        max_size=4,
    ),
    noise=st.binary(max_size=12),
)
@settings(max_examples=120)
def test_any_config_gives_a_sane_task_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, Any]], noise: bytes
) -> None:
    folder = written(tmp_path_factory.mktemp("set") / "task")
    lines = [
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    ]
    (folder / "task.toml").write_bytes(
        "".join(lines).encode("utf-8", "surrogatepass") + (b"# " + noise if noise[:1] > b"\x60" else b"")
    )
    dataset = read_dataset(folder.parent)
    assert len(dataset.tasks) + len(dataset.unread) == 1
    for task in dataset.tasks:
        _sane(task)
    assert all(why and why.isprintable() for _, why in dataset.unread)


def _sane(task: Task) -> None:
    resources = task.environment.resources
    assert resources.cpus > 0 and resources.memory_mb > 0 and resources.disk_mb > 0 and resources.gpus >= 0
    for seconds in (task.agent_timeout_s, task.verifier.timeout_s, task.environment.build_timeout_s):
        assert 0 < seconds <= 7 * 86_400
