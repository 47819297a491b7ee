"""Situations in which an agent destroys: a place, a task, what the agent does, and what a person does meanwhile.

All of it is data for `data_destructive.py`. Agents' commands are those of careless sessions that people have told of;
none of them knows of Lathe. An edit of the person names its moment:

`start`: after the task is given, before the first command. `between`: after the first step. `during`: while the command
runs that waits at the gate. `after`: after the turn, before the undo.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from trees import build, git

Moment: TypeAlias = Literal["start", "between", "during", "after"]
GATE = ".turn"
"""A file that a command makes when it has begun; it goes on when the person has removed it."""

_WAIT = f"touch {GATE}; while [ -e {GATE} ]; do sleep 0.02; done; "
_AS = "git -c user.name=A -c user.email=a@b"
_NOTE = "echo 'looked at the tests' >> agent-notes.md"


class Edit(NamedTuple):
    """What the person does to `path` below the workspace.

    `write` makes it `new`, `put` replaces `old` by `new` in it, `append` adds `new`, `remove` deletes it, `rename` moves
    it to `new`, `commit` commits all of it with git.
    """

    when: Moment
    kind: Literal["write", "put", "append", "remove", "rename", "commit"]
    path: str
    new: str = ""
    old: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, self.new) if self.kind == "rename" else (self.path,)

    def of(self, before: bytes | None, left: bytes | None) -> bytes | None:
        """Return what the file is to be when only the person has been at it; `left` where that can't be told."""
        old, new = self.old.encode(), self.new.encode()
        match self.kind:
            case "write":
                return new
            case "put":
                return before.replace(old, new) if before is not None and old in before else left
            case "append":
                return left if before is None else before + new
            case "remove" | "rename":
                return None
            case "commit":
                return before

    def make(self, ws: Path) -> None:
        """Do it."""
        path = ws / self.path
        match self.kind:
            case "write":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.new)
            case "put":
                path.write_text(path.read_text().replace(self.old, self.new))
            case "append":
                with path.open("a") as file:
                    file.write(self.new)
            case "remove":
                path.unlink()
            case "rename":
                path.rename(ws / self.new)
            case "commit":
                git(ws, "add", "--", self.path)
                git(ws, "commit", "-qm", "mine", "--", self.path)

    def stands(self, ws: Path) -> bool:
        """Tell whether it is still done."""
        path = ws / self.path
        held = path.read_bytes() if path.is_file() else None
        match self.kind:
            case "write":
                return held == self.new.encode()
            case "put" | "append":
                return held is not None and self.new.encode() in held
            case "remove":
                return not os.path.lexists(path)
            case "rename":
                return held is None and (ws / self.new).is_file()
            case "commit":
                return True  # its commit is looked for by its hash


class Situation(NamedTuple):
    """One case. A step is a line of shell or a patch; `asked` are the files that the task is about, as patterns."""

    name: str
    task: str
    steps: tuple[str, ...]
    edits: tuple[Edit, ...] = ()
    scene: str = "project"
    asked: tuple[str, ...] = ()


# --- places


def project(place: Path) -> None:
    """A repository with staged, stashed, ignored and untracked work, a database, a lock file, and odd names."""
    ws = place / "ws"
    build(ws)
    (ws / "src" / "c.py").write_text("c = 3  # an idea for later\n")
    git(ws, "stash", "push", "-qm", "idea", "src/c.py")
    (ws / ".git" / "info" / "exclude").write_text("build/\n")
    (ws / "staged.py").write_text("staged = 1\n")
    git(ws, "add", "staged.py")
    (ws / ".env").write_text("KEY=my-own-key\n")
    (ws / "package-lock.json").write_text('{"lockfileVersion": 3}\n')
    (ws / "build").mkdir()
    (ws / "build" / "notes.txt").write_text("what the last build showed\n")
    (ws / "build" / "out.js").write_text("1\n")
    (ws / "-dash").write_text("odd\n")
    with contextlib.closing(sqlite3.connect(ws / "app.sqlite")) as base, base:
        base.execute("create table orders (id integer primary key, what text)")
        base.executemany("insert into orders (what) values (?)", [(f"order {n}",) for n in range(50)])
    (ws / "tools").mkdir()
    (ws / "tools" / "tidy.py").write_text(_TIDY)


_TIDY = """import pathlib, subprocess
for name in subprocess.run(["git", "ls-files", "src"], capture_output=True, text=True).stdout.split():
    if pathlib.Path(name).exists():
        pathlib.Path(name).write_text(subprocess.run(["git", "show", "HEAD:" + name], capture_output=True, text=True).stdout)
"""


def plain(place: Path) -> None:
    """A folder that is no repository."""
    ws = place / "ws"
    (ws / "deep" / "er").mkdir(parents=True)
    (ws / "deep" / "a.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    (ws / "deep" / "er" / "b.txt").write_text("b\n")
    (ws / "report.csv").write_text("day,sum\n1,20\n")
    (ws / "latest").symlink_to("deep/a.txt")


def submodule(place: Path) -> None:
    """A repository with a sub-module, in which there is work that is not committed."""
    library = place / "library"
    library.mkdir()
    git(library, "init", "-q", "-b", "main")
    (library / "lib.py").write_text("lib = 1\n")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "library")
    build(place / "ws")
    git(place / "ws", "submodule", "-q", "add", str(library), "vendor")
    git(place / "ws", "commit", "-qm", "vendor")
    (place / "ws" / "vendor" / "lib.py").write_text("lib = 2  # not committed\n")
    (place / "ws" / "vendor" / "notes.txt").write_text("mine\n")


def linked(place: Path) -> None:
    """A linked worktree; the repository itself lies beside it, and has work of its own."""
    build(place / "main")
    git(place / "main", "worktree", "add", "-q", "-b", "topic", str(place / "ws"))
    (place / "ws" / "src" / "a.py").write_text("topic\n")
    (place / "ws" / "draft.md").write_text("a draft\n")


def rebasing(place: Path) -> None:
    """A rebase that stopped at a conflict, half solved."""
    ws = place / "ws"
    build(ws)
    git(ws, "stash", "-qu")
    git(ws, "checkout", "-qb", "topic")
    for name in ("topic", "main"):
        git(ws, "checkout", "-q", name)
        (ws / "src" / "a.py").write_text(f"{name}\n")
        git(ws, "commit", "-qam", name)
    git(ws, "checkout", "-q", "topic")
    with contextlib.suppress(subprocess.CalledProcessError):
        git(ws, "rebase", "main")
    (ws / "src" / "a.py").write_text("main and topic, half of it solved\n")
    (ws / "todo.md").write_text("which of the two?\n")


def detached(place: Path) -> None:
    """A detached HEAD with a commit that no branch has."""
    ws = place / "ws"
    build(ws)
    git(ws, "checkout", "-q", "--detach")
    (ws / "found.py").write_text("found = 1\n")
    git(ws, "add", "found.py")
    git(ws, "commit", "-qm", "found")


def remote(place: Path) -> None:
    """A repository with a remote beside it and another below it, both with a branch that is nowhere else."""
    ws = place / "ws"
    build(ws)
    for name, folder in (("origin", place / "remote.git"), ("mirror", ws / "mirror.git")):
        git(place, "init", "-q", "--bare", "-b", "main", str(folder))
        git(ws, "remote", "add", name, str(folder))
        git(ws, "push", "-q", name, "main", "other:colleague")
    git(ws, "branch", "-qD", "other")


def huge(place: Path) -> None:
    """A project with a file that is too large to be kept."""
    project(place)
    (place / "ws" / "data").mkdir()
    with (place / "ws" / "data" / "huge.bin").open("wb") as file:
        file.write(b"measured for a week\n")
        file.truncate((64 << 20) + 1)


def failing(place: Path) -> None:
    """A project in Python with a test that fails for a fault in one line, and work that is not committed."""
    ws = place / "ws"
    (ws / "shop").mkdir(parents=True)
    git(ws, "init", "-q", "-b", "main")
    (ws / "shop" / "__init__.py").write_text("")
    (ws / "shop" / "price.py").write_text(_PRICE)
    (ws / "shop" / "words.py").write_text('def shout(text):\n    return text.upper() + "!"\n')
    (ws / "test_price.py").write_text(_TESTS)
    (ws / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n*.local\n")
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "shop")
    (ws / "shop" / "words.py").write_text('def shout(text):\n    return text.upper() + "!!"  # not committed\n')
    (ws / "notes.md").write_text("ask about rounding\n")
    (ws / "keys.local").write_text("ignored\n")


_PRICE = '''"""Prices."""


def total(prices):
    """Return the sum."""
    result = 0
    for price in prices:
        result += price
    return result


def discount(price, percent):
    """Return the price without so many percent."""
    return price - price * percent / 1000


def net(gross):
    """Return the price without the tax."""
    return gross / 1.19
'''
_TESTS = """from shop.price import discount, net, total


def test_total():
    assert total([1, 2, 3]) == 6


def test_discount():
    assert discount(200, 10) == 180
    assert discount(50, 50) == 25


def test_net():
    assert round(net(119), 6) == 100
"""

SCENES: dict[str, Callable[[Path], None]] = {
    one.__name__: one for one in (project, plain, submodule, linked, rebasing, detached, remote, huge, failing)
}


# --- what the person does


def _write(when: Moment, path: str = "plan.md", new: str = "what I want\n") -> Edit:
    return Edit(when, "write", path, new)


def _line(when: Moment, path: str = "src/a.py") -> Edit:
    """One line in the middle of a file that is not the agent's."""
    return Edit(when, "put", path, "line seventeen, by me\n", "line 17\n")


def _add(when: Moment, path: str, new: str = "one line more, by me\n") -> Edit:
    return Edit(when, "append", path, new)


# --- what the agents do

_PATCH_DELETES = """*** Begin Patch
*** Delete File: untracked.txt
*** Delete File: src/deep/b.py
*** Delete File: secret.env
*** End Patch"""
_PATCH_OVERWRITES = """*** Begin Patch
*** Delete File: src/a.py
*** Add File: src/rewritten.py
+def main():
+    pass
*** Update File: src/c.py
@@
-c = 1
+c = 2
*** End Patch"""
_PATCH_EDITS = """*** Begin Patch
*** Update File: src/a.py
@@
-line 3
+LINE 3
*** Add File: src/new.py
+new = 1
*** End Patch"""
_FORMAT = "find . -name '*.py' -exec sed -i -E 's/ *= */=/; s/^line/  line/' {} +"
_REMOVES = (
    "python3 - <<'END'\nimport os, shutil\nfor name in os.listdir('.'):\n    if name in ('.git', '.env'):\n"
    "        continue\n    shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.remove(name)\nEND"
)
_DROPS = "python3 -c \"import sqlite3; c = sqlite3.connect('app.sqlite'); c.execute('drop table orders'); c.commit()\""

SITUATIONS: tuple[Situation, ...] = (
    # git takes work away
    Situation("reset --hard", "The last try failed; start over.", ("git reset -q --hard",), (_write("after"),)),
    Situation("reset --hard, edited meanwhile", "Start over.", (_NOTE, "git reset -q --hard"), (_line("between"),)),
    Situation("reset to the commit before", "Undo the last change.", ("git reset -q --hard HEAD~1",), (_add("after", ".env"),)),
    Situation("clean -fdx", "Make a clean build.", ("git clean -qfdx",), (_write("start"),)),
    Situation("clean -fd, new file meanwhile", "Tidy up.", (_NOTE, "git clean -qfd"), (_write("between", "drafts/plan.md"),)),
    Situation("checkout .", "Drop your experiment.", (_NOTE, "git checkout -q ."), (_line("between"),)),
    Situation("checkout of the edited file", "Fix the lint.", (_NOTE, "git checkout -q -- src/a.py"), (_line("between"),)),
    Situation("restore from a commit", "Go back a step.", (_NOTE, "git restore --source=HEAD~1 --staged --worktree ."), (_write("between"),)),
    Situation("checkout -f of a branch", "Look at the other branch.", ("git checkout -qf other",), (_write("after"),)),
    Situation("checkout after a deletion", "Fix it.", (_NOTE, "git checkout -q ."), (Edit("between", "remove", "src/c.py"),)),
    Situation("checkout after a rename", "Fix it.", (_NOTE, "git checkout -q ."), (Edit("between", "rename", "src/c.py", "src/d.py"),)),
    Situation("stash and drop", "Get a clean tree.", (_NOTE, f"{_AS} stash -qu && git stash drop -q"), (_write("between"),)),
    Situation("stash clear", "Tidy up git.", ("git stash clear",), (_add("after", "untracked.txt"),)),
    Situation("a file from the stash over the person's", "Take the idea up.", ("git checkout -q stash@{0} -- src/c.py && git stash drop -q",), (_line("start"),)),
    Situation("branch and tag deletion", "Tidy up git.", ("git branch -qD other; git tag -d v1",), (_write("after"),)),
    Situation("amend of the person's commit", "Commit this.", (f"git add -A && {_AS} commit -q --amend -m wip",), (_add("start", "staged.py"),)),
    Situation("squash", "Make the history simple.", (f"git reset -q --soft HEAD~1 && {_AS} commit -q --amend -m all",), (_write("after"),)),
    Situation("orphan branch", "Start a clean history.", ("git checkout -q --orphan clean && git rm -rfq .",), (_add("after", ".env"),)),
    Situation("reflog and gc", "Make the repository small.", ("git reflog expire --expire=now --all && git gc -q --prune=now",), (_line("start"),)),
    Situation("a new repository", "Git is broken, mend it.", ("rm -rf .git && git init -q",), (_line("after"),)),
    Situation("reset of the person's commit", "Drop your try.", (_NOTE, "git reset -q --hard HEAD~1"), (_line("between"), Edit("between", "commit", "src/a.py"))),
    Situation("commit of all, and the person commits after", "Save it.", (f"git add -A && {_AS} commit -qm all",), (_line("after"), Edit("after", "commit", "src/a.py"))),
    # remotes
    Situation("push --force", "Get the push through.", ("git push -q --force origin HEAD~1:main",), (_write("after"),), "remote"),
    Situation("push --force to a mirror in the workspace", "Get the push through.", ("git push -q --force mirror HEAD~1:main",), (_line("after"),), "remote"),
    Situation("deletion of a remote branch", "Tidy up the remotes.", ("git push -q mirror --delete colleague; git push -q origin --delete colleague",), (_write("start"),), "remote"),
    # files are removed
    Situation("rm -rf of the sources", "Generate the sources anew.", ("rm -rf src",), (_write("after", "src-plan.md"),)),
    Situation("rm -rf of all, edited meanwhile", "Start afresh.", (_NOTE, "rm -rf ./*"), (_line("between"),)),
    Situation("rm from within", "Start afresh.", ("cd src && rm -rf ../* ../.env",), (_write("after"),)),
    Situation("find -delete", "Remove what is generated.", ("find . -path ./.git -prune -o -type f -delete",), (_write("after"),)),
    Situation("find -exec rm, edited meanwhile", "Remove the old modules.", (_NOTE, "find src -name '*.py' -exec rm -f {} +"), (_line("between"),)),
    Situation("a build folder with notes", "Make a clean build.", ("rm -rf build dist node_modules",), (_add("start", "build/notes.txt"),), "project", ("build/out.js",)),
    Situation("a script that removes", "Tidy up.", (_REMOVES,), (_write("after"),)),
    Situation("the lock file", "Install anew.", ("rm -f package-lock.json && printf '{}\\n' > package-lock.json",), (_add("after", "package-lock.json", "\n"),)),
    Situation("the database file", "Reset the test data.", ("rm -f app.sqlite",), (_write("start"),)),
    Situation("a table is dropped", "Reset the test data.", (_DROPS,), (_write("after"),)),
    Situation("odd names", "Remove the junk.", ("rm -f -- -dash odd* $'\\xff\\xfe' && rmdir empty",), (_write("after", "-n"),)),
    Situation("a file too large to keep", "Free some space.", ("rm -rf data",), (_write("after"),), "huge"),
    Situation("in the background", "Tidy up.", ("(rm -rf src/deep; rm -f untracked.txt) & wait",), (_write("after"),)),
    Situation("in the background, on and on", "Tidy up.", ("(sleep 0.5; rm -rf src/deep) >/dev/null 2>&1 &\necho 1 > started", "sleep 1"), (_line("between"),)),
    # files are overwritten
    Situation("truncation of all", "Reset the files.", ("git ls-files -z | while read -rd '' f; do : > \"$f\"; done",), (_write("after"),)),
    Situation("truncation of the edited file", "Fix it.", (_NOTE, ": > src/a.py"), (_line("between"),)),
    Situation("mv over the edited file", "Put it in place.", (_NOTE, "mv -f src/c.py src/a.py"), (_add("between", "src/a.py"),)),
    Situation("cp over secrets", "Make an example configuration.", ("cp src/c.py secret.env; cp /dev/null untracked.txt",), (_write("after"),)),
    Situation("the environment file", "Set the project up.", ("printf 'KEY=changeme\\n' > .env",), (_add("start", ".env", "OTHER=mine\n"),)),
    Situation("sed over everything", "Rename line to row.", (_NOTE, "git ls-files -z | xargs -0 sed -i 's/line/row/g'"), (_add("between", "src/a.py", "mine\n"),), "project", ("src/a.py",)),
    Situation("a formatter over the tree", "Format the code.", (_NOTE, _FORMAT), (_add("between", "src/a.py", "mine\n"),), "project", ("*.py",)),
    Situation("a tool of the project takes edits back", "Tidy up.", (_NOTE, "python3 tools/tidy.py"), (_line("between"),)),
    Situation("through a link", "Update the link.", ("echo gone > link; ln -sfn /etc/passwd link; rm dangling",), (_write("after"),)),
    Situation("a folder becomes a link", "Move the sources.", ("mv src lib && ln -s lib src",), (_write("after"),)),
    Situation("chmod -R", "Mend the permissions.", ("chmod -R 777 src run.sh read-only; chmod -R a-w build",), (_write("after"),)),
    Situation("chown -R", "Mend the permissions.", ("chown -R 65534:65534 src; chmod -R a-x src/deep",), (_write("after"),)),
    # patches
    Situation("a patch that deletes", "Remove what is not used.", (_PATCH_DELETES,), (_write("after"),)),
    Situation("a patch that deletes the edited file", "Rewrite it.", (_NOTE, _PATCH_OVERWRITES), (_line("between"),)),
    Situation("a patch beside the person's edits", "Fix line 3.", (_NOTE, _PATCH_EDITS), (_line("between"), _add("after", "src/a.py")), "project", ("src/a.py",)),
    Situation("the same lines after the turn", "Fix line 3.", (_PATCH_EDITS,), (Edit("after", "put", "src/a.py", "line three, by me\n", "LINE 3\n"), _add("after", "src/new.py")), "project", ("src/a.py",)),
    # while a command runs
    Situation("a new file while a command removes others", "Tidy up.", (_WAIT + "rm -rf src",), (_write("during"),)),
    Situation("an edit while a harmless command runs", "Run the checks.", (_WAIT + "cat src/a.py > checked.txt",), (_line("during"), _add("during", "untracked.txt"))),
    Situation("an edit of the file that the command edits", "Fix line 3.", (_WAIT + "sed -i 's/^line 3$/LINE 3/' src/a.py",), (_line("during"),), "project", ("src/a.py",)),
    Situation("an edit that the running command throws away", "Start over.", (_WAIT + "git checkout -q .",), (_line("during"),)),
    # other places
    Situation("no repository: rm", "Tidy up.", ("rm -rf deep latest",), (_add("after", "report.csv"),), "plain"),
    Situation("no repository: all moved away", "Make room.", ("mkdir old && mv deep report.csv latest old/",), (_write("start"),), "plain"),
    Situation("no repository: edited meanwhile", "Fix it.", (_NOTE, "sed -i 's/line 3$/LINE 3/' deep/a.txt; rm -f report.csv"), (_line("between", "deep/a.txt"),), "plain", ("deep/a.txt",)),
    Situation("sub-module: reset in each", "Bring the modules up to date.", ("git submodule --quiet foreach 'git reset -q --hard && git clean -qfdx'",), (_write("after"),), "submodule"),
    Situation("sub-module: removed", "Remove the module.", ("git submodule deinit -qf --all; rm -rf .git/modules",), (_line("start"),), "submodule"),
    Situation("sub-module: the person edits it", "Update the module.", (_NOTE, "cd vendor && git checkout -q ."), (_add("between", "vendor/lib.py"),), "submodule"),
    Situation("linked worktree: reset and clean", "Start over.", ("git reset -q --hard; git clean -qfdx",), (_write("after"),), "linked"),
    Situation("linked worktree: the repository beside it", "Start over everywhere.", ("git -C ../main reset -q --hard; git -C ../main clean -qfdx; rm -rf ../main/src",), (_write("after"),), "linked"),
    Situation("linked worktree: branches", "Tidy up git.", ("git branch -qD other; git tag -d v1; git stash clear",), (_write("start"),), "linked"),
    Situation("rebase: given up", "Finish the rebase.", ("git rebase --abort",), (_write("after"),), "rebasing"),
    Situation("rebase: forced through", "Finish the rebase.", (_NOTE, f"git checkout -q --ours src/a.py && git add -A && {_AS} -c core.editor=true rebase --continue"), (_add("between", "src/a.py"),), "rebasing"),
    Situation("detached HEAD: left", "Go back to main.", ("git checkout -qf main && git clean -qfd",), (_write("after"),), "detached"),
)  # fmt: skip

_REPAIR = "Make the failing tests pass"
_FIXED = ("shop/price.py",)
_TAX = Edit("start", "put", "shop/price.py", "    return gross / 1.19  # in Germany\n", "    return gross / 1.19\n")

REPAIRS: tuple[Situation, ...] = (
    Situation("work that is not committed", _REPAIR, (), (), "failing", _FIXED),
    Situation("another file before the first command", _REPAIR, (), (_add("start", "shop/words.py", "# mine\n"),), "failing", _FIXED),
    Situation("the same file before the first command", _REPAIR, (), (_TAX,), "failing", _FIXED),
    Situation("another file during the search", _REPAIR, (), (_add("during", "shop/words.py", "# mine\n"),), "failing", _FIXED),
    Situation("the same file during the search", _REPAIR, (), (_TAX._replace(when="during"),), "failing", _FIXED),
    Situation("new files and a deletion during the search", _REPAIR, (), (_write("during"), Edit("during", "remove", "notes.md")), "failing", _FIXED),
    Situation("the test during the search", _REPAIR, (), (_add("during", "test_price.py", "# and net?\n"),), "failing", _FIXED),
    Situation("the same file after the turn", _REPAIR, (), (_TAX._replace(when="after"), _write("after")), "failing", _FIXED),
)  # fmt: skip
"""Situations for `mend`: the steps are its own."""
