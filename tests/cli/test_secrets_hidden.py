"""From end to end: what the model is sent, what is kept, and what commands and patches do with placeholders."""

from __future__ import annotations

import os
import random
import re
import string
from collections.abc import Callable
from pathlib import Path

from running import KEY, environment, lathe, patch, run, says, scripted

from lathe.models.script import Step
from lathe.models.scripted import RecordedRequest, ScriptedServer

PLACEHOLDER = re.compile(r"LATHE_SECRET_[a-z0-9_]+?_[0-9a-f]{8}")


def github_token() -> str:
    return "ghp_" + "".join(random.choices(string.ascii_letters + string.digits, k=36))


def kept() -> bytes:
    """All that Lathe keeps, but the full outputs and the store of undo, which hold files as they are."""
    home = Path(os.environ["LATHE_HOME"])
    files = [path for path in home.rglob("*") if path.is_file() and "undo" not in path.parts]
    return b"\n".join(path.read_bytes() for path in files)


def using(step: Callable[[str], Step]) -> Callable[[RecordedRequest], Step]:
    """A step that is made with the first placeholder of the request."""

    def answer(request: RecordedRequest) -> Step:
        found = PLACEHOLDER.search(request.body.decode())
        assert found is not None
        return step(found[0])

    return answer


def played(*steps: Step | Callable[[RecordedRequest], Step]) -> Callable[[RecordedRequest], Step]:
    def answer(request: RecordedRequest) -> Step:
        step = steps[request.number]
        return step if isinstance(step, Step) else step(request)

    return answer


async def test_a_key_that_a_command_prints_stays_here_and_works_in_commands_and_patches(tmp_path: Path) -> None:
    token = github_token()
    (tmp_path / "keys.txt").write_text(f"NAME=x\nGITHUB_TOKEN={token}\nEND=1\n")
    steps = played(
        run("cat keys.txt"),
        using(lambda name: run(f"grep -c {name} keys.txt; echo 'got {name}' | tr a-z A-Z")),
        using(
            lambda name: patch(
                "*** Begin Patch\n*** Update File: keys.txt\n@@\n NAME=x\n"
                f"-GITHUB_TOKEN={name}\n+GH_TOKEN={name}\n END=1\n"
                f"*** Add File: copy.txt\n+{name}\n*** End Patch"
            )
        ),
        says("Done."),
    )
    ran, server = await scripted(steps, "go", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert (tmp_path / "keys.txt").read_text() == f"NAME=x\nGH_TOKEN={token}\nEND=1\n"
    assert (tmp_path / "copy.txt").read_text() == f"{token}\n"
    commands = ran.items("command_execution")
    assert PLACEHOLDER.search(commands[0]["aggregated_output"])
    assert commands[1]["aggregated_output"].startswith("1\n")
    assert PLACEHOLDER.search(ran.items("file_change")[0]["diff"])
    assert token.encode() not in b"".join(request.body for request in server.requests)
    assert token not in ran.out + ran.err
    assert token.encode() not in kept()
    notes = ran.items("error")
    assert len(notes) == 1
    assert "1 secret in outputs hidden" in notes[0]["message"]
    assert "github pat" in notes[0]["message"]


async def test_after_a_resume_a_placeholder_counts_once_its_file_was_looked_at_again(tmp_path: Path) -> None:
    token = github_token()
    (tmp_path / "conf").write_text(f"{token}\n")
    ran, _ = await scripted(played(run("cat conf"), says("Seen.")), "go", cwd=tmp_path)
    assert ran.code == 0
    name = PLACEHOLDER.search(ran.out)
    assert name is not None
    use = run(f"test $(cat conf) = {name[0]} && echo same")
    async with ScriptedServer([use, run("cat conf"), use, says("Done.")]) as server:
        env = environment(server.base_url)
        again = await lathe("resume", "--last", "--json", "-m", "scripted-1", "go on", cwd=tmp_path, env=env)
    assert again.code == 0, again.err
    rejected = again.of("call.rejected")
    assert len(rejected) == 1
    assert f"the value of {name[0]} is not known" in rejected[0]["message"]
    outputs = [item["aggregated_output"] for item in again.items("command_execution")]
    assert outputs == [f"{name[0]}\n", "same\n"]
    assert token.encode() not in kept()
    assert token.encode() not in b"".join(request.body for request in server.requests)


async def test_keys_of_the_environment_are_hidden_wherever_they_turn_up(tmp_path: Path) -> None:
    word = "correct horse" + ' battery\'s "$taple"'
    (tmp_path / "a.py").write_text(f"x = [{KEY[:8]!r}, {KEY!r}]\n# {word}\n")
    use = using(lambda name: run(f'grep -c "{name}" a.py'))
    ran, server = await scripted(
        played(run("cat a.py; false"), run("head -c 2000 a.py | tail -1"), use, says("ok")),
        "go",
        cwd=tmp_path,
        env={"MY_PASSWORD": word},
    )
    assert ran.code == 0, ran.err
    sent = b"".join(request.body for request in server.requests).decode()
    assert KEY not in sent
    assert "battery" not in sent + ran.out + kept().decode(errors="replace")
    assert ran.items("command_execution")[2]["aggregated_output"] == "1\n"


async def test_a_value_with_quotes_in_it_is_one_word_to_the_shell(tmp_path: Path) -> None:
    word = "p'w\"$HOME`id`;echo \\x & rest"
    (tmp_path / "a.txt").write_text(f"{word}\n")

    def compare(request: RecordedRequest) -> Step:
        found = PLACEHOLDER.search(request.body.decode())
        assert found is not None
        name = found[0]
        lines = [f"grep -cFx {name} a.txt", f"grep -cFx '{name}' a.txt", f'grep -cFx "{name}" a.txt']
        lines += [f"grep -cFx -f - a.txt <<'E'\n{name}\nE", f"grep -cFx -f - a.txt <<E\n{name}\nE"]
        return run("\n".join(lines))

    ran, _ = await scripted(played(run("cat a.txt"), compare, says("ok")), "go", cwd=tmp_path, env={"A_SECRET": word})
    assert ran.code == 0, ran.err
    assert ran.items("command_execution")[1]["aggregated_output"] == "1\n" * 5
    assert "rest" not in ran.out


async def test_hiding_can_be_turned_off_by_the_person_alone(tmp_path: Path) -> None:
    token = github_token()
    (tmp_path / "conf").write_text(f"{token}\n")
    (tmp_path / ".lathe").mkdir()
    (tmp_path / ".lathe" / "config.toml").write_text("hide_secrets = false\nsecret_rules = 'x.toml'\n")
    trust = f'projects."{tmp_path}".trusted=true'
    steps = [run("cat conf"), says("ok")]
    ran, server = await scripted(steps, "-c", trust, "go", cwd=tmp_path)
    assert ran.err.count("a repository may not set it") == 2
    assert token.encode() not in server.requests[1].body
    ran, server = await scripted(steps, "-c", "hide_secrets=false", "go", cwd=tmp_path)
    assert token.encode() in server.requests[1].body


async def test_rules_of_the_person_are_added_and_wrong_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("HOUSE.-abc.123")
    rules = tmp_path / "own.toml"
    rules.write_text("[[rules]]\nid = 'house'\nregex = '''(?i)house-([[:alnum:]]{6})\\z'''\n")
    ran, server = await scripted(
        [run("tr -d . < a.txt"), says("ok")], "-c", f"secret_rules={rules}", "go", cwd=tmp_path
    )
    assert ran.code == 0, ran.err
    assert b"abc123" not in server.requests[1].body
    assert b"HOUSE-LATHE_SECRET_house_" in server.requests[1].body
    rules.write_text("[[rules]]\nid = 'house'\nregex = '''a(?U)b'''\n")
    env = environment("http://127.0.0.1:9")
    ran = await lathe("exec", "-m", "m", "-c", f"secret_rules={rules}", "go", cwd=tmp_path, env=env)
    assert ran.code == 2
    assert "the rule house can't be used" in ran.err
    assert ran.err.count("\n") == 1
