"""`lathe undo` as a person would use it: a scripted agent does things to a real repository; they are taken back."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Ran, environment, lathe, patch, run, says, scripted

from lathe.models.script import Step
from lathe.models.scripted import ScriptedServer

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from trees import build, git, tree


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    top = tmp_path / "ws"
    build(top)
    return top


async def undo(ws: Path, *arguments: str) -> Ran:
    return await lathe("undo", *arguments, cwd=ws)


ACTIONS = {
    "remove a folder": "rm -rf src",
    "remove a file that is not committed": "rm -f untracked.txt secret.env",
    "remove all that a star means": "rm -rf *",
    "delete by find": "find . -name '*.py' -delete",
    "overwrite": "echo gone > src/a.py; : > binary",
    "write in place": "printf X | dd of=large bs=1 seek=100 conv=notrunc status=none",
    "append": "echo more >> src/deep/b.py",
    "make": "mkdir -p new/deep && echo 1 > new/deep/file && ln -s file new/deep/link",
    "move": "mv src moved && mv untracked.txt moved/",
    "swap a file for a folder": "rm src/a.py && mkdir src/a.py && echo 1 > src/a.py/x",
    "swap a folder for a file": "rm -rf src/deep && echo 1 > src/deep",
    "swap a file for a link": "ln -sf /etc/passwd src/a.py",
    "change links": "ln -sfn elsewhere link; rm dangling",
    "modes": "chmod 600 run.sh; chmod -R a-w src; chmod 777 read-only",
    "times": "touch -d 2001-01-01 src/a.py",
    "replace all": "sed -i s/line/LINE/ src/a.py; python3 -c \"open('read-only','w').write('w')\" || rm -f read-only",
    "odd names": "rm -f odd*; rm -f $'\\xff\\xfe'; rmdir empty",
    "reset": "git reset -q --hard HEAD~1",
    "clean": "git clean -qfdx",
    "checkout": "git checkout -q -- . && git checkout -q other",
    "commit": "git add -A && git -c user.name=A -c user.email=a@b commit -qm agent",
    "branches": "git branch -D other; git tag -d v1; git update-ref -d refs/heads/main",
    "stash": "git -c user.name=A -c user.email=a@b stash -qu && git stash drop -q",
    "rebase": "git -c user.name=A -c user.email=a@b commit -q --amend -m other --allow-empty",
    "pack": "git -c user.name=A -c user.email=a@b stash -qu; git reset -q --hard HEAD~1; git pack-refs --all",
    "in the background": "(rm -rf src/deep; rm -f untracked.txt) & wait",
    "by a script": "python3 -c \"import shutil, os; shutil.rmtree('src'); os.remove('binary')\"",
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
async def test_whatever_a_turn_did_is_taken_back_to_the_byte(action: str, ws: Path) -> None:
    before = tree(ws)
    ran, _ = await scripted([run(action), says("done")], "do it", cwd=ws)
    assert ran.code == 0, ran
    assert tree(ws) != before, ran.out
    taken = await undo(ws)
    after = tree(ws)
    assert (taken.code, taken.err) == (0, ""), taken
    changed = {
        path: (before.get(path), after.get(path)) for path in before | after if before.get(path) != after.get(path)
    }
    assert changed == {}, taken.out
    assert git(ws, "fsck", "--connectivity-only", "--no-dangling") == ""


async def test_a_store_of_git_that_is_gone_comes_back(ws: Path) -> None:
    before, log = tree(ws), git(ws, "log", "--all", "--oneline")
    (ws.parent / "loss.py").write_text("import shutil; shutil.rmtree('.git/objects'); shutil.rmtree('src')")
    loss = base64.b64encode((ws.parent / "loss.py").read_bytes()).decode()
    await scripted([run(f"echo {loss} > l; base64 -d l > /tmp/l.py; python3 /tmp/l.py"), says("oh")], "do it", cwd=ws)
    assert not (ws / ".git" / "objects" / "pack").exists()
    assert (await undo(ws)).code == 0
    assert tree(ws) == before
    assert git(ws, "log", "--all", "--oneline") == log


async def test_a_patch_is_taken_back_and_the_conversation_with_it(ws: Path) -> None:
    before = tree(ws)
    change = """*** Begin Patch
*** Update File: src/a.py
@@
-line 3
+LINE 3
*** Delete File: run.sh
*** Add File: n.py
+1
*** End Patch"""
    await scripted([patch(change), says("patched")], "first request", cwd=ws)
    assert (await undo(ws, "--list")).out == "  1  3 files     first request\n"
    taken = await undo(ws)
    assert taken.out.splitlines()[0] == "Took back the turn “first request”."
    assert tree(ws) == before


async def resumed(ws: Path, steps: list[Step], prompt: str) -> tuple[Ran, str]:
    """Go on with the newest thread; return the run, and all that the model was sent."""
    async with ScriptedServer(steps) as server:
        env = environment(server.base_url)
        ran = await lathe("resume", "--json", "-m", "scripted-1", "--last", prompt, cwd=ws, env=env)
    return ran, "".join(request.body.decode() for request in server.requests)


async def test_what_was_said_in_a_turn_that_was_taken_back_is_not_sent_again(ws: Path) -> None:
    await scripted([run("echo one > one"), says("made one")], "make one", cwd=ws)
    await resumed(ws, [run("echo two > two; echo more >> one"), says("made two")], "make two")
    await resumed(ws, [run("echo three > three"), says("made three")], "make three")
    listed = await undo(ws, "--list")
    assert [line.split(None, 3)[-1] for line in listed.out.splitlines()] == ["make three", "make two", "make one"]
    taken = await undo(ws, "--turns", "2")
    assert (taken.code, sorted(path.name for path in ws.glob("t[wh]*"))) == (0, [])
    assert (ws / "one").read_text() == "one\n"
    ran, sent = await resumed(ws, [says("fine")], "and now?")
    assert ran.code == 0
    assert "make one" in sent and "make two" not in sent and "make three" not in sent
    assert (await undo(ws, "--list")).out.splitlines()[0].endswith("and now?")


async def test_files_only_leaves_the_conversation(ws: Path) -> None:
    await scripted([run("rm -rf src"), says("gone")], "remove it", cwd=ws)
    taken = await undo(ws, "--files-only")
    assert taken.out.startswith("The files of the turn “remove it” are as before.")
    assert (ws / "src" / "a.py").exists()
    _, sent = await resumed(ws, [says("fine")], "and now?")
    assert "remove it" in sent


async def test_what_the_person_changed_meanwhile_stays(ws: Path) -> None:
    change = "sed -i 's/line 3$/LINE 3/' src/a.py; echo agent > both; rm run.sh; echo agent > mine-now"
    await scripted([run(change), says("done")], "change", cwd=ws)
    a = ws / "src" / "a.py"
    a.write_text(a.read_text().replace("line 17", "line seventeen"))
    (ws / "own.txt").write_text("mine")
    (ws / "untracked.txt").write_text("mine, newer")
    (ws / "mine-now").write_text("rewritten by me")
    taken = await undo(ws)
    assert taken.code == 1
    assert a.read_text() == "".join(f"line {'seventeen' if n == 17 else n}\n" for n in range(20))
    assert (ws / "own.txt").read_text() == "mine"
    assert (ws / "untracked.txt").read_text() == "mine, newer"
    assert (ws / "mine-now").read_text() == "rewritten by me"
    assert (ws / "run.sh").exists() and not (ws / "both").exists()
    assert "  your edits kept in src/a.py\n" in taken.out
    assert "  left alone: mine-now: you changed it after the agent had made it\n" in taken.out


async def test_the_same_lines_are_a_conflict_and_nothing_is_overwritten(ws: Path) -> None:
    await scripted([run("sed -i 's/line 3$/LINE 3/' src/a.py"), says("done")], "change", cwd=ws)
    a = ws / "src" / "a.py"
    mine = a.read_text().replace("LINE 3", "my line 3")
    a.write_text(mine)
    taken = await undo(ws)
    assert (taken.code, a.read_text()) == (1, mine)
    assert "left alone: src/a.py: you changed the same lines as the agent" in taken.out


async def test_edits_of_the_person_between_two_calls_of_a_turn_stay(ws: Path) -> None:
    def meanwhile(request: Any) -> Step:
        steps = [run("sed -i 's/line 3$/LINE 3/' src/a.py"), run("sed -i 's/line 5$/LINE 5/' src/a.py"), says("done")]
        if meanwhile.count == 1:
            time.sleep(0.5)  # until the agent has looked
            a = ws / "src" / "a.py"
            a.write_text(a.read_text().replace("line 17", "line seventeen"))
        meanwhile.count += 1
        return steps[meanwhile.count - 1]

    meanwhile.count = 0
    await scripted(meanwhile, "change", cwd=ws)
    assert "LINE 5" in (ws / "src" / "a.py").read_text()
    assert (await undo(ws)).code == 0
    assert (ws / "src" / "a.py").read_text() == "".join(f"line {'seventeen' if n == 17 else n}\n" for n in range(20))


async def test_a_commit_of_the_person_keeps_git_as_it_is(ws: Path) -> None:
    await scripted([run("git add -A; git -c user.name=A -c user.email=a@b commit -qm agent"), says("x")], "c", cwd=ws)
    (ws / "own.txt").write_text("mine")
    git(ws, "add", "own.txt")
    git(ws, "commit", "-qm", "mine")
    log = git(ws, "log", "--oneline")
    taken = await undo(ws)
    assert taken.code == 1
    assert git(ws, "log", "--oneline") == log
    assert "left alone: .git: you used git after the agent had" in taken.out


async def test_looking_with_git_meanwhile_does_not_stand_in_the_way(ws: Path) -> None:
    said = git(ws, "status")
    before = tree(ws)
    await scripted([run("git add -A; git -c user.name=A -c user.email=a@b commit -qm agent"), says("x")], "c", cwd=ws)
    (ws / "src" / "c.py").touch()
    assert git(ws, "status") != said  # which writes the index anew
    taken = await undo(ws)
    assert (taken.code, git(ws, "status")) == (0, said), taken.out
    index, was = tree(ws).pop(".git/index"), before.pop(".git/index")
    assert index[0] == was[0]
    assert git(ws, "log", "--oneline").count("\n") == 2


async def test_a_rebase_that_the_agent_gave_up_is_in_progress_again(ws: Path) -> None:
    git(ws, "stash", "-qu")
    git(ws, "checkout", "-qb", "topic")
    (ws / "src" / "a.py").write_text("topic\n")
    git(ws, "commit", "-qam", "topic")
    git(ws, "checkout", "-q", "main")
    (ws / "src" / "a.py").write_text("main\n")
    git(ws, "commit", "-qam", "main")
    git(ws, "checkout", "-q", "topic")
    with pytest.raises(subprocess.CalledProcessError):
        git(ws, "rebase", "main")
    before, said = tree(ws), git(ws, "status")
    await scripted([run("git rebase --abort"), says("gave up")], "go on", cwd=ws)
    assert git(ws, "status") != said
    assert (await undo(ws)).code == 0
    assert git(ws, "status") == said
    assert tree(ws).keys() == before.keys()


async def test_outside_a_repository_it_works_as_well(tmp_path: Path) -> None:
    ws = tmp_path / "plain"
    (ws / "deep").mkdir(parents=True)
    (ws / "deep" / "a").write_text("a")
    before = tree(ws)
    ran, _ = await scripted([run("rm -rf deep; echo b > b"), says("x")], "c", cwd=ws)
    assert tree(ws) != before, ran
    assert (await undo(ws)).code == 0
    assert tree(ws) == before


async def test_bad_requests_get_one_sentence(ws: Path) -> None:
    nothing = await undo(ws)
    assert (nothing.code, nothing.err) == (2, "lathe: There are no threads yet. `lathe exec` starts one.\n")
    await scripted([says("hello")], "hi", cwd=ws)
    assert (await undo(ws, "--turns", "0")).code == 2
    assert (await undo(ws)).out == "Took back the turn “hi”.\n  No file was to be changed.\n"
    again = await undo(ws)
    assert (again.code, again.err) == (2, "lathe: There is no turn to take back.\n")


def editing(ws: Path, edit: Callable[[], object], *steps: Step) -> Callable[[Any], Step]:
    """A model that says `steps`; the person edits after the first."""
    said = iter(enumerate(steps))

    def choose(request: Any) -> Step:
        number, step = next(said)
        if number == 1:
            time.sleep(0.5)  # until the agent has looked
            edit()
        return step

    return choose


@pytest.mark.parametrize(
    "command",
    ["git checkout .", "git reset --hard", "git stash -u", "rm -rf src", "git restore src/a.py", "echo > src/a.py"],
)
async def test_what_the_person_changed_meanwhile_is_not_thrown_away_unasked(command: str, ws: Path) -> None:
    def edit() -> None:
        (ws / "src" / "a.py").write_text("mine\n")

    steps = editing(ws, edit, run("echo 1 > made"), run(command), says("done"))
    ran, _ = await scripted(steps, "change", cwd=ws)
    denied = [event["message"] for event in ran.of("call.rejected")]
    assert len(denied) == 1
    assert f"The person has changed files there meanwhile: {ws}/src/a.py." in denied[0]
    assert (ws / "src" / "a.py").read_text() == "mine\n"


async def test_what_the_person_removed_meanwhile_is_not_brought_back_unasked(ws: Path) -> None:
    steps = editing(ws, (ws / "src" / "c.py").unlink, run("echo 1 > made"), run("git checkout ."), says("done"))
    ran, _ = await scripted(steps, "change", cwd=ws)
    assert f"The person has removed files there meanwhile: {ws}/src/c.py." in ran.of("call.rejected")[0]["message"]
    assert not (ws / "src" / "c.py").exists()


async def test_a_patch_does_not_replace_what_the_person_changed_meanwhile(ws: Path) -> None:
    def edit() -> None:
        (ws / "src" / "a.py").write_text("mine\n")

    gone = "*** Begin Patch\n*** Delete File: src/a.py\n*** Add File: src/b.py\n+b\n*** End Patch"
    ran, _ = await scripted(editing(ws, edit, run("echo 1 > made"), patch(gone), says("done")), "change", cwd=ws)
    assert "The person has changed that meanwhile." in ran.of("call.rejected")[0]["message"]
    assert ((ws / "src" / "a.py").read_text(), (ws / "src" / "b.py").exists()) == ("mine\n", False)


async def test_what_a_program_takes_back_of_the_persons_is_put_back_and_told(ws: Path) -> None:
    old = (ws / "src" / "a.py").read_text()

    def edit() -> None:
        (ws / "src" / "a.py").write_text("mine\n")

    program = f"python3 -c \"open('src/a.py', 'w').write({old!r})\"".replace("\\n", "\\\\n")
    move = "python3 -c \"import os; os.rename('src/a.py', 'src/moved.py')\""
    steps = editing(ws, edit, run("echo 1 > made"), run(program), run("true"), run(move), run("true"), says("done"))
    ran, server = await scripted(steps, "change", cwd=ws)
    assert ran.code == 0, ran.err
    told = "src/a.py: a command threw away what the person had written meanwhile; it was put back"
    assert f"[undo: {told}]" in server.requests[-1].body.decode()
    assert ran.err.count(told) == 1
    assert ((ws / "src" / "moved.py").read_text(), (ws / "src" / "a.py").exists()) == ("mine\n", False)
    assert (await undo(ws)).code == 0
    assert ((ws / "src" / "a.py").read_text(), (ws / "src" / "moved.py").exists()) == ("mine\n", False)


async def test_what_the_background_took_is_brought_back_and_what_the_person_wrote_beside_it_stays(ws: Path) -> None:
    def edit() -> None:
        (ws / "src" / "c.py").write_text("mine\n")

    later = "(sleep 0.8; rm -rf src/deep) >/dev/null 2>&1 &\necho 1 > made"
    steps = editing(ws, edit, run(later), run("sleep 1"), run("sed -i s/mine/agent/ src/c.py"), says("done"))
    await scripted(steps, "change", cwd=ws)
    assert (ws / "src" / "c.py").read_text() == "agent\n"
    taken = await undo(ws)
    assert (ws / "src" / "deep" / "b.py").exists() and not (ws / "made").exists()
    assert (ws / "src" / "c.py").read_text() == "mine\n"
    assert taken.code == 0


async def test_what_is_too_large_to_be_kept_is_not_thrown_away_unasked(ws: Path) -> None:
    (ws / "data").mkdir()
    (ws / "build").mkdir()
    for folder in ("data", "build"):
        with (ws / folder / "huge").open("wb") as file:
            file.truncate((64 << 20) + 1)
    ran, _ = await scripted([run("rm -rf build"), run("rm -rf data"), says("done")], "clean", cwd=ws)
    assert [event["message"] for event in ran.of("call.rejected")] == [
        "Run: rm -rf data was refused: it needs an approval, and here nobody is asked. It deletes, with all below it, "
        f"data. Files there are too large to be kept for undo: {ws}/data/huge. Do not work around this; go on without "
        "it, or say in the end what is missing."
    ]
    assert ((ws / "data").exists(), (ws / "build").exists()) == (True, False)


async def test_where_nothing_can_be_kept_only_what_destroys_is_refused(ws: Path, own_home: Path) -> None:
    (own_home / "lathe").mkdir()
    (own_home / "lathe" / "undo").write_text("a file in the way")
    ran, _ = await scripted([run("echo 1 > made"), run("rm -rf src"), says("done")], "clean", cwd=ws)
    assert (ws / "made").exists() and (ws / "src").exists()
    assert "it would destroy what can't be kept" in ran.of("call.rejected")[0]["message"]


async def test_a_workspace_that_holds_the_home_folder_is_refused(own_home: Path) -> None:
    for folder in (own_home, own_home.parent):
        refused, _ = await scripted([run("echo 1 > made"), says("done")], "do it", cwd=folder)
        assert refused.code == 2
        assert "all of your home folder writable" in refused.err
    ran, _ = await scripted([run("echo 1 > made"), says("done")], "-c", "whole_home=true", "do it", cwd=own_home)
    assert (ran.code, (own_home / "made").exists()) == (0, True)
    assert "Turns can't be taken back" in ran.err
