"""A dataset is asked for by format and path, or by a path that tells its format itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_format_ctf import cybench_set
from test_format_harbor import written as harbor_task
from test_format_repair import one_set, suite

from lathe.evals.formats.known import open_dataset, parsed, recognised
from lathe.protocol.errors import UsageError

ROOT = Path(__file__).parents[2]
NYU = {"name": "maze", "category": "rev", "description": "Find out.", "flag": "flag{deep}"}
INTERCODE = [{"task_id": 0, "query": "Go.", "gold": "picoCTF{x}", "tags": []}]


def sets(folder: Path) -> dict[str, Path]:
    """One dataset of each kind, by what it should be recognised as."""
    harbor_task(folder / "harbor" / "one")
    suite(folder / "quix")
    one_set(folder / "functions")
    cybench_set(folder / "cybench")
    for name, text in {
        "intercode/data/ctf/ic_ctf.json": json.dumps(INTERCODE),
        "nyu/2021/x/challenge.json": json.dumps(NYU),
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "rows.jsonl").write_text("{}\n")
    return {
        "harbor": folder / "harbor", "quixbugs": folder / "quix", "functions": folder / "functions",
        "cybench": folder / "cybench", "intercode-ctf": folder / "intercode", "nyu-ctf": folder / "nyu",
        "swebench": folder / "rows.jsonl", "situations": ROOT / "examples" / "data-destructive",
    }  # fmt: skip


def test_a_path_tells_its_format(tmp_path: Path) -> None:
    for kind, path in sets(tmp_path).items():
        assert recognised(path) == kind
        by_path, by_name = (open_dataset(spec, made=tmp_path / "made") for spec in (str(path), f"{kind}:{path}"))
        assert by_path == by_name
        assert by_path.tasks or kind == "swebench"
        assert all(task.dataset == by_path.name and task.digest.startswith("sha256:") for task in by_path.tasks)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("/not/there", "There is no /not/there"),
        ("harbour:/tmp", "no format 'harbour'"),
        ("harbor:", "names no path"),
        ("{empty}", "no tasks in a format"),
        ("harbor:{empty}", "no folder with a task.toml"),
        ("swebench:{empty}", "is not there"),
        ("functions:{empty}", "set.json is not there"),
        ("situations:{empty}", "situations.json is not there"),
        ("quixbugs:{empty}", "no folders python_programs"),
        ("nyu-ctf:{empty}", "no challenge.json"),
        ("cybench:{empty}?variant=hardest", "no variant"),
        ("cybench:{empty}?flavour=x", "no option flavour"),
        ("harbor:{empty}?x", "not NAME=VALUE"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, spec: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        open_dataset(spec.format(empty=tmp_path))


def test_a_spec_has_options_behind_its_path() -> None:
    spec = parsed("swebench:/data/rows.jsonl?repos=/data/my%20repos")
    assert (spec.format, spec.path, spec.options) == ("swebench", Path("/data/rows.jsonl"), {"repos": "/data/my repos"})
