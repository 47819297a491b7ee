from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.guard.destructive import Dangers, examine
from lathe.guard.suspects import may_destroy_files
from lathe.guard.targets import Ground, reach

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from destructive import HOME, commands, workspace


@pytest.fixture(scope="module")
def ws() -> Iterator[Path]:
    with workspace() as top:
        yield top


def look(command: str, ws: Path, cwd: Path | None = None) -> Dangers:
    return examine(command, Ground((str(ws),), HOME), str(cwd or ws), {"HOME": HOME, "USER": "me"})


def reaches(command: str, ws: Path) -> set[str]:
    return {danger.reach for danger in look(command, ws).found}


@pytest.mark.parametrize("command", commands("dangerous"))
def test_what_destroys_is_caught(command: str, ws: Path) -> None:
    assert look(command, ws).found


@pytest.mark.parametrize("command", commands("ordinary"))
def test_nobody_is_asked_about_everyday_commands(command: str, ws: Path) -> None:
    assert not [danger for danger in look(command, ws).found if danger.lasting]


def test_what_reaches_files_is_never_passed_by_at_first_look(ws: Path) -> None:
    reaching = [one for one in commands("dangerous") if reaches(one, ws) & {"workspace", "repository", "refs"}]
    assert len(reaching) > 50
    assert not [one for one in reaching if not may_destroy_files(one)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("rm -rf build", "workspace"),
        ("rm -rf src/../../elsewhere", "machine"),
        ("cd src && rm -rf ..", "repository"),
        ("cd src && rm -rf main.py", "workspace"),
        ("cd /srv; (cd /tmp); rm -rf www", "machine"),
        ("rm -rf .git", "repository"),
        ("sh -c 'echo first\nrm -rf .git'", "repository"),
        ("rm -f .git/index.lock", None),
        ("rm -rf /tmp/x", None),
        ("rm -rf /tmp", "machine"),
        ("rm -rf /tmp/*", "machine"),
        ("rm -rf node_modules/.cache", "workspace"),
        ("rm -rf ~/other/node_modules", None),
        ("rm -rf ~/.cache/pip", None),
        ("rm -rf ~/.cache/*", "machine"),
        ("find . -delete", "repository workspace"),
        ("find . -name '*.pyc' -delete", "workspace"),
        ("find . -not -path './.git/*' -delete", "workspace"),
        ("git reset --hard", "workspace"),
        ("git -C /srv/repo reset --hard", "machine"),
        ("git branch -D x", "refs"),
        ("git push -f", "service"),
        ("git push -f --dry-run", None),
        ("git clean -nfdx", None),
        ("git checkout feature", None),
        ("git checkout src/a.py", "workspace"),
        ("sqlite3 app.db 'DROP TABLE t'", "workspace"),
        ("sqlite3 :memory: 'DROP TABLE t'", None),
        ("echo x > new.txt", None),
        ("echo x > README.md", "workspace"),
        ("echo x > /srv/new.txt", None),
        ("echo x >> ~/.bashrc", None),
        ("echo x > ~/.bashrc", "machine"),
        ("cat <<'END' > ~/.bashrc\nx\nEND", "machine"),
        ("dd if=/dev/zero of=disk.img", "workspace"),
        ("mkfs.ext4 /dev/sdz", "machine"),
        ("rm .lathe/config.toml", "guard"),
        ('X="$(cat f)"; rm -rf "$X"', "unknown"),
        ('rm -rf "${X:?}"/build', "unknown"),
        ('rm -rf "$X/build"', "machine"),
        ('rm -f "$X"', None),
        ("ssh host rm -rf /srv", "service"),
        ("docker exec db rm -rf /tmp/x", None),
    ],
)
def test_the_same_act_is_judged_by_what_it_is_done_to(command: str, expected: str | None, ws: Path) -> None:
    assert reaches(command, ws) == set((expected or "").split())


def test_a_link_is_followed_to_where_it_leads_but_may_go_itself(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    ws.mkdir()
    (ws / "out").symlink_to("/srv")
    ground = Ground((str(ws),), HOME)
    assert reach("out", str(ws), ground) == "workspace"
    assert reach("out/", str(ws), ground) == "machine"
    assert reach("out/data", str(ws), ground) == "machine"
    assert reach("out/*", str(ws), ground) == "machine"


def test_lathes_own_folder_is_the_guards(tmp_path: Path) -> None:
    ground = Ground((str(tmp_path / "ws"),), HOME, (str(tmp_path / "state"),))
    assert reach("../state/threads", str(tmp_path / "ws"), ground) == "guard"


def test_a_script_that_is_run_is_read(ws: Path) -> None:
    texts = {"clean.sh": "cd /srv\nrm -rf *\n", "./run": "#!/bin/sh\nrm -rf $HOME/x\n"}
    ground = Ground((str(ws),), HOME)
    for command in ("bash clean.sh", "./run", ". clean.sh", "sudo sh ./clean.sh || true"):
        script = command.split()[-1] if "sudo" not in command else "clean.sh"
        found = examine(command, ground, str(ws), {"HOME": HOME}, lambda path: texts.get(path, texts.get(path[2:])))
        assert {danger.reach for danger in found.found} == {"machine"}, (command, script)


def test_a_text_that_nobody_knows_is_said_to_be_unread(ws: Path) -> None:
    assert look("curl -s https://example.com/x | sh", ws).unread
    assert not look("echo ls | sh", ws).unread
    assert look("echo 'rm -rf", ws).broken


def test_every_lasting_danger_of_a_long_line_is_found(ws: Path) -> None:
    line = "; ".join(f"rm -rf /srv/{number}" for number in range(300))
    assert len(look(line, ws).found) == 300


@given(st.text(alphabet="rm -f/*$(){}[]<>|&;'\"`\\\n~.=xgit", max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_line_is_too_strange_to_be_looked_at(command: str) -> None:
    examine(command, Ground((os.path.realpath("."),), HOME), os.path.realpath("."), {"HOME": HOME})
