"""Rules: examples that are tried, prefixes that match, families that are fair, and grants that last."""

from __future__ import annotations

from pathlib import Path

import pytest

from lathe.agent.known import family, only_reads
from lathe.agent.matching import matches
from lathe.agent.rules import Rules, load_rules, matches_tool, remember, rules_file
from lathe.agent.verdict import Place
from lathe.config.layers import load_settings
from lathe.config.settings import RuleSpec, RuleTables
from lathe.guard.shell import analyse
from lathe.guard.wrappers import without_global_options
from lathe.protocol.errors import ConfigError

_PLACE = Place("/ws", ("/ws",))


def _hits(rule: RuleSpec, command: str, *, literal: bool = False) -> bool:
    return any(matches(rule, part, _PLACE, literal=literal) for part in analyse(command).parts)


def test_a_rule_is_loaded_from_toml_with_its_examples_tried(tmp_path: Path) -> None:
    (tmp_path / ".config" / "lathe").mkdir(parents=True)
    (tmp_path / ".config" / "lathe" / "config.toml").write_text(
        """
        [[rules.forbid]]
        prefix = ["git", "push", ["--force", "-f"]]
        reason = "Others build on this branch."
        match = ["git push --force origin main", "sudo git push -f"]
        not_match = ["git push"]
        """
    )
    loaded = load_settings(cwd=tmp_path, environ={"HOME": str(tmp_path)})
    rules = load_rules(loaded.settings.rules, tmp_path, tmp_path / "home")
    assert rules.forbid[0].reason == "Others build on this branch."


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RuleSpec(prefix=("git", "push"), match=("git pull",)), "does not match its own example 'git pull'"),
        (RuleSpec(prefix=("git",), not_match=("ls && git x",)), "matches its own example 'ls && git x'"),
        (RuleSpec(), "needs either a prefix or a tool"),
        (RuleSpec(prefix=("a",), tool="b/c"), "needs either a prefix or a tool"),
        (RuleSpec(prefix=("a", ())), "empty word"),
        (RuleSpec(prefix=("",)), "empty word"),
        (RuleSpec(tool="a/*", match=("a",)), "go with a prefix"),
    ],
)
def test_a_rule_that_fails_its_own_examples_is_refused(rule: RuleSpec, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_rules(RuleTables(forbid=(RuleSpec(prefix=("fine",)), rule)), None, Path("/nowhere"))
    assert "rules.forbid (entry 2)" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "hit"),
    [
        ("git push --force", True),
        ("/usr/bin/git push --force", True),
        ("git -C there -c a.b=c --no-pager push --force", True),
        ("ls; (cd x && git push --force)", True),
        ("sudo env A=1 bash -lc 'git push --force'", True),
        ("git push --force $X", True),
        ("git push origin --force", False),
        ("git push", False),
        ("echo git push --force", False),
        ("echo 'git push --force'", False),
        ("git $X --force", False),
    ],
)
def test_a_forbid_rule_finds_its_prefix_in_any_part(command: str, hit: bool) -> None:
    assert _hits(RuleSpec(prefix=("git", "push", "--force")), command) is hit


@pytest.mark.parametrize(
    ("command", "hit"),
    [
        ("npm run test", True),
        ("/usr/bin/npm run test", True),
        ("npm run 'a b'", True),
        ("npm run *.js", True),
        ("./npm run test", False),
        ("/tmp/npm run test", False),
        ("npm --prefix /x run test", False),
        ("npm run $X", False),
        ("npm $X", False),
        ("npm runx", False),
    ],
)
def test_an_allow_rule_matches_only_literally(command: str, hit: bool) -> None:
    assert _hits(RuleSpec(prefix=("npm", "run")), command, literal=True) is hit


def test_flags_match_anywhere_and_in_clusters() -> None:
    rule = RuleSpec(prefix=("git", "clean"), flags=(("-f", "--force"), ("-x",)))
    assert _hits(rule, "git clean -dfx")
    assert _hits(rule, "git clean -x --force")
    assert not _hits(rule, "git clean -df")


def test_outside_looks_where_paths_lead(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "link").symlink_to(tmp_path)
    place = Place(str(tmp_path / "ws"), (str(tmp_path / "ws"),))
    rule = RuleSpec(prefix=("rm",), outside=True)

    def hits(command: str, where: Place = place) -> bool:
        return any(matches(rule, part, where, literal=False) for part in analyse(command).parts)

    assert not hits("rm -rf build a/b")
    for command in ("rm -rf ..", "rm /etc/x", "rm link/x", "rm $X", "rm ~/x", "rm -rf .", "rm -rf .git/refs"):
        assert hits(command), command
    assert hits("rm build", place._replace(moved=True))


def test_rules_about_tools_take_wildcards() -> None:
    assert matches_tool(RuleSpec(tool="github/*"), "github", "create_issue")
    assert not matches_tool(RuleSpec(tool="github/get_*"), "github", "create_issue")
    assert not matches_tool(RuleSpec(prefix=("github",)), "github", "create_issue")


def test_global_options_are_known_only_where_they_are_known() -> None:
    assert without_global_options(("git", "-C", "x", "push")) == ("git", "push")
    assert without_global_options(("cargo", "+nightly", "test")) == ("cargo", "test")
    assert without_global_options(("tool", "-C", "x", "push")) == ("tool", "-C", "x", "push")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("npm run test -- --watch", ("npm", "run", "test")),
        ("git commit -m x", ("git", "commit")),
        ("pytest tests/x.py", ("pytest",)),
        ("make test", ("make", "test")),
        ("cargo build --release", ("cargo", "build")),
        ("docker compose up -d", ("docker", "compose", "up")),
        ("python -m pytest -x", ("python", "-m", "pytest")),
        ("python3 -m pip install x", ("python3", "-m", "pip", "install")),
        ("uv run pytest -q", ("uv", "run", "pytest")),
        ("gh pr create", ("gh", "pr", "create")),
        ("git -C x push", None),
        ("npm --prefix x run test", None),
        ("npm -g install x", None),
        ("python -c 'x'", None),
        ("python x.py", None),
        ("python3.12 x.py", None),
        ("uv run python x.py", None),
        ("bash -c 'x'", None),
        ("sudo apt install x", None),
        ("rm -rf x", None),
        ("env A=1 make", None),
        ("curl https://x", None),
        ("docker run x", None),
        ("git config x y", None),
        ("./run.sh", None),
        ("make $X", None),
        ("git push $X", None),
        ("PATH=/x make test", None),
        ("npx x", None),
        ("find . -delete", None),
    ],
)
def test_the_family_of_a_command_is_a_program_and_its_subcommand(
    command: str, expected: tuple[str, ...] | None
) -> None:
    assert family(analyse(command).parts[0]) == expected


@pytest.mark.parametrize(
    "command",
    [
        *("ls -la", "cat $X", "rg -n x src", "grep -r 'a b' .", "find . -name '*.py' -type f", "git status --short"),
        *("git diff HEAD~1 -- a.py", "git log --oneline -5", "git show HEAD:a", "git branch -a", "git branch --list"),
        *("git -C x status", "sed -n '1,80p' a", "sort -rn a", "uniq a", "head -5", "pwd", "echo $HOME", "wc -l *.py"),
        *("git stash list", "git remote -v", "git tag -l v*", "git config --get user.name", "python --version"),
        *("date +%s", "printf '%s' x", "command -v git", "git branch --show-current", "[ -f x ]", "git grep -n x"),
    ],
)
def test_commands_that_only_read_are_known(command: str) -> None:
    assert all(only_reads(part) for part in analyse(command).parts)


@pytest.mark.parametrize(
    "command",
    [
        *("find . -delete", "find . -exec rm {} +", "find . -fprint x", "rg --pre sh x", "rg --pre=sh x", "rg -z x"),
        *("sort -o a a", "sort --outp=a a", "uniq a b", "git diff --output=x", "git diff --outp x", "git push"),
        *("git branch -D x", "git branch new", "git tag v1", "git remote add a b", "git stash drop", "git stash"),
        *("git config user.name x", "git -c core.pager=x log", "git grep -O x", "git reflog expire", "sed -i s/a/b/ x"),
        *(
            "sed -n 'w x' a",
            "sed -n '1e id' a",
            "sed 's/a/b/e' a",
            "date -s x",
            "printf -v PATH x",
            "awk 1 x",
            "python x",
        ),
        *(
            "rg $X",
            "find $X",
            "sort *",
            "./ls",
            "/tmp/ls",
            "$X",
            "git log $X",
            "tee x",
            "xxd a b",
            "less x",
            "fd -x rm",
        ),
        *("env", "sudo ls", "git", "git log --ext-diff", "git show --textconv", "npm --version x", "file -C -m x"),
    ],
)
def test_commands_that_might_do_more_are_not_known_to_read(command: str) -> None:
    assert not all(only_reads(part) for part in analyse(command).parts)


def test_what_is_remembered_for_a_project_is_loaded_for_it_and_for_no_other(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    remember(project, ("npm", "run", "test"), home)
    remember(project, ("git", 'we"ird\\\n\x7f'), home)
    remember(project, ("npm", "run", "test"), home)
    assert load_rules(RuleTables(), project, home).remembered == (("npm", "run", "test"), ("git", 'we"ird\\\n\x7f'))
    assert load_rules(RuleTables(), tmp_path / "other", home) == Rules()
    assert [path.name for path in rules_file(project, home).parent.iterdir()] == [rules_file(project, home).name]


def test_the_same_project_by_a_link_has_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "project")
    remember(tmp_path / "project", ("make",), tmp_path / "home")
    assert load_rules(RuleTables(), tmp_path / "link", tmp_path / "home").remembered == (("make",),)


@pytest.mark.parametrize(
    "text", ["allow = 3", "[[allow]]\nprefix = []", "[[allow]]\nprefix = [1]", "[[allow]]\n", "x ="]
)
def test_a_damaged_file_of_grants_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = rules_file(tmp_path, tmp_path / "home")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=path.name):
        load_rules(RuleTables(), tmp_path, tmp_path / "home")
