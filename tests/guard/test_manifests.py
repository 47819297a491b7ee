"""Packages that stand in files: an install command is held against them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intel_records import RECORD

from lathe.guard.acts.installs import Package
from lathe.guard.acts.manifests import _READERS, read_manifest
from lathe.guard.acts.monitor import ActMonitor
from lathe.guard.indicators import read_record
from lathe.guard.targets import Ground

PACKAGE_LOCK = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "mine", "dependencies": {"@scope/thing": "^1.0.0"}},
            "node_modules/@scope/thing": {"version": "1.2.3"},
            "node_modules/a/node_modules/b": {"version": "2.0.0"},
            "node_modules/alias": {"name": "real", "version": "3.0.0"},
            "node_modules/linked": {"link": True},
        },
    }
)
FILES = {
    "requirements.txt": (
        "# a comment\nSome_Thing[x]==1.0 ; python_version > '3'  # why\nb>=2\n-r other.txt\n./local\n"
        "c==1.2 \\\n --hash=sha256:0\nd @ https://x.example/d.whl\n",
        [("PyPI", "Some_Thing", "1.0"), ("PyPI", "b", ""), ("PyPI", "c", "1.2")],
    ),
    "pyproject.toml": (
        '[build-system]\nrequires = ["a==1"]\n[project]\ndependencies = ["b[x]>=2"]\n[dependency-groups]\ndev = ["c", '
        '{include-group = "x"}]\n[tool.poetry.dependencies]\npython = "^3.11"\nd = "1.0"\ne = {version = "^2"}\n',
        [("PyPI", "a", "1"), ("PyPI", "b", ""), ("PyPI", "c", ""), ("PyPI", "d", "1.0"), ("PyPI", "e", "")],
    ),
    "uv.lock": (
        'version = 1\n[[package]]\nname = "a"\nversion = "1.0"\nsource = { registry = "https://pypi.org/simple" }\n\n'
        '[[package]]\nname = "mine"\nversion = "0"\nsource = { editable = "." }\n',
        [("PyPI", "a", "1.0")],
    ),
    "Pipfile.lock": ('{"default": {"a": {"version": "==1.0"}}, "develop": {}}', [("PyPI", "a", "1.0")]),
    "package.json": (
        '{"dependencies": {"a": "1.0.0", "b": "^2", "c": "file:../c", "d": "npm:real@3.0.0"},'
        ' "devDependencies": {"e": "*"}}',
        [("npm", "a", "1.0.0"), ("npm", "b", ""), ("npm", "real", "3.0.0"), ("npm", "e", "")],
    ),
    "package-lock.json": (
        PACKAGE_LOCK,
        [("npm", "@scope/thing", "1.2.3"), ("npm", "b", "2.0.0"), ("npm", "real", "3.0.0")],
    ),
    "npm-shrinkwrap.json": (
        '{"dependencies": {"a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}}}}',
        [("npm", "a", "1.0.0"), ("npm", "b", "2.0.0")],
    ),
    "pnpm-lock.yaml": (
        "lockfileVersion: '9.0'\n\npackages:\n\n  '@scope/thing@1.2.3':\n    resolution: {}\n\n"
        "  /old/1.0.0:\n    dev: true\n\n  b@2.0.0(react@18.0.0):\n    resolution: {}\n",
        [("npm", "@scope/thing", "1.2.3"), ("npm", "old", "1.0.0"), ("npm", "b", "2.0.0")],
    ),
    "yarn.lock": (
        '"@scope/thing@^1.0.0", "@scope/thing@^1.1":\n  version "1.2.3"\n  resolved "x"\n\n'
        '"b@npm:^2.0.0":\n  version: 2.0.0\n  resolution: "b@npm:2.0.0"\n',
        [("npm", "@scope/thing", "1.2.3"), ("npm", "b", "2.0.0")],
    ),
    "bun.lock": (
        '{\n  "packages": {\n    "@scope/thing": ["@scope/thing@1.2.3", "", {}, "sha512-x"],\n  }\n}\n',
        [("npm", "@scope/thing", "1.2.3")],
    ),
    "Cargo.lock": (
        '[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "registry+https://x"\n\n'
        '[[package]]\nname = "mine"\nversion = "0.1.0"\n',
        [("crates.io", "a", "1.0.0")],
    ),
    "Cargo.toml": (
        '[dependencies]\na = "=1.0.0"\nb = "1.0"\nc = {path = "../c"}\nd = {package = "real", version = "2"}\n',
        [("crates.io", "a", "1.0.0"), ("crates.io", "b", ""), ("crates.io", "real", "")],
    ),
    "Gemfile.lock": ("GEM\n  specs:\n    rack (2.0.1)\n      dep (>= 1)\n", [("RubyGems", "rack", "2.0.1")]),
    "go.mod": (
        "module example.org/mine\n\ngo 1.24\n\nrequire example.org/a v1.0.0\n\n"
        "require (\n\texample.org/b/v2 v2.1.0 // indirect\n)\n",
        [("Go", "example.org/a", "1.0.0"), ("Go", "example.org/b/v2", "2.1.0")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_names_and_versions_are_read_of(name: str) -> None:
    text, packages = FILES[name]
    assert sorted(read_manifest(name, text)) == sorted(Package(*one) for one in packages)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*_READERS, "requirements.txt"]),
    st.text(max_size=200)
    | st.recursive(st.none() | st.text(max_size=5), lambda one: st.dictionaries(st.text(max_size=8), one)).map(
        json.dumps
    ),
)
def test_any_text_is_read_without_harm(name: str, text: str) -> None:
    assert isinstance(read_manifest(name, text), list)


@pytest.mark.parametrize(
    ("command", "hits"),
    [
        ("pip install -r requirements.txt", 1),
        ("cd sub && python -m pip install --requirement=../requirements.txt", 1),
        ("uv pip sync deep/more.txt", 1),
        ("pip install -c requirements.txt b", 0),
        ("pip list -r requirements.txt", 0),
        ("npm install", 1),
        ("npm ci --prefix web", 0),
        ("cd sub && npm i left", 1),
        ("npm run build", 0),
        ("ssh host 'pip install -r requirements.txt'", 0),
        ("pip install -r /etc/outside.txt", 0),
        ("pip install -r link.txt", 0),
        ("pip install -r $'a\\0b'", 0),
        ("yarn", 1),
        ("yarn build", 0),
    ],
)
def test_an_install_is_held_against_what_its_files_name(command: str, hits: int, tmp_path: Path) -> None:
    top = tmp_path / "ws"
    for name, text in {
        "requirements.txt": "-r deep/more.txt\n",
        "deep/more.txt": "-r ../requirements.txt\nsome.thing==1.1\n",
        "package-lock.json": PACKAGE_LOCK,
        "package.json": '{"dependencies": {"@scope/thing": "^1.0.0"}}',
        "web/package.json": '{"dependencies": {"left": "1.0.0"}}',
        "sub/empty": "",
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (tmp_path / "outside.txt").write_text("some.thing==1.1\n")
    (top / "link.txt").symlink_to(tmp_path / "outside.txt")
    monitor = ActMonitor([], read_record(RECORD, "osv").indicators)
    found = monitor.look(command, Ground((str(top),), "/home/me"), str(top))
    assert len(found) == hits
    for one in found:
        assert one.score == 0.95 and one.evidence["file"].startswith(str(top)) and "names " in one.why
