from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.protocol.events import FileUpdate
from lathe.tools import patch_write
from lathe.tools.patch import PatchError, parse_patch
from lathe.tools.patch_apply import apply_patch, apply_plan, patch_paths, plan_patch


def wrap(*lines: str) -> str:
    return "\n".join(("*** Begin Patch", *lines, "*** End Patch"))


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below `root`: mode and bytes, links as where they lead."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        data = b""
        if stat.S_ISLNK(mode):
            data = os.readlink(path).encode()
        elif stat.S_ISREG(mode):
            data = path.read_bytes()
        found[str(path.relative_to(root))] = (mode, data)
    return found


def refused(root: Path, patch: str, says: str, **options) -> None:
    before = contents(root)
    with pytest.raises(PatchError, match=says) as caught:
        apply_patch(patch, root, **options)
    assert contents(root) == before
    caught.value.message.encode()


EDIT_A = ("*** Update File: a", "@@", "-one", "+ONE")
EDIT_B = ("*** Update File: b", "@@", "-two", "+TWO")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("one\n")
    (root / "b").write_text("two\n")
    return root


def test_files_are_added_updated_deleted_and_moved_and_the_result_says_so(root: Path):
    (root / "c").write_text("three\n")
    result = apply_patch(
        wrap(*EDIT_A, "*** Delete File: b", "*** Add File: new/dir/d", "+x", "*** Update File: c", "*** Move to: e"),
        root,
    )
    assert result.summary == ("Success. Updated the following files:\nM a\nD b\nA new/dir/d\nM e (moved from c)")
    assert result.changes == (
        FileUpdate("a", "update"),
        FileUpdate("b", "delete"),
        FileUpdate("new/dir/d", "add"),
        FileUpdate("c", "update", "e"),
    )
    assert {name: data for name, (mode, data) in contents(root).items() if stat.S_ISREG(mode)} == {
        "a": b"ONE\n",
        "new/dir/d": b"x\n",
        "e": b"three\n",
    }


def test_adding_a_file_that_exists_overwrites_it_and_is_told_as_an_update(root: Path):
    (root / "a").chmod(0o755)
    result = apply_patch(wrap("*** Add File: a", "+new"), root)
    assert result.summary.endswith("\nM a (existed, overwritten)")
    assert result.changes == (FileUpdate("a", "update"),)
    assert (root / "a").read_text() == "new\n"
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755


def test_sections_for_one_file_build_on_each_other(root: Path):
    result = apply_patch(wrap(*EDIT_A, "*** Update File: ./a", "@@", "-ONE", "+1", "+2"), root)
    assert (root / "a").read_text() == "1\n2\n"
    assert result.changes == (FileUpdate("a", "update"),)
    apply_patch(wrap("*** Add File: n", "+x", "*** Update File: n", "@@", "-x", "+y", "*** Delete File: b"), root)
    assert (root / "n").read_text() == "y\n"
    apply_patch(wrap("*** Update File: n", "*** Move to: m", "*** Update File: m", "@@", "-y", "+z"), root)
    assert (root / "m").read_text() == "z\n"
    assert not (root / "n").exists()


def test_a_move_onto_itself_is_no_deletion(root: Path):
    apply_patch(wrap("*** Update File: a", "*** Move to: ./a", "@@", "-one", "+ONE"), root)
    assert (root / "a").read_text() == "ONE\n"


def test_a_move_keeps_the_mode_and_overwrites_what_was_there(root: Path):
    (root / "a").chmod(0o750)
    result = apply_patch(wrap("*** Update File: a", "*** Move to: b", "@@", "-one", "+ONE"), root)
    assert result.summary.endswith("M b (moved from a, existed, overwritten)")
    assert contents(root) == {"b": (stat.S_IFREG | 0o750, b"ONE\n")}


def test_mode_bits_and_extended_attributes_survive(root: Path):
    (root / "a").chmod(0o711)
    try:
        os.setxattr(root / "a", "user.note", b"kept")
    except OSError:
        pytest.skip("no extended attributes here")
    apply_patch(wrap(*EDIT_A), root)
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o711
    assert os.getxattr(root / "a", "user.note") == b"kept"


def test_a_file_with_two_names_stays_one_file(root: Path):
    os.link(root / "a", root / "same")
    apply_patch(wrap(*EDIT_A, *EDIT_B), root)
    assert (root / "same").read_text() == "ONE\n"
    assert (root / "same").samefile(root / "a")


def test_a_link_is_written_through_and_deleted_as_a_link(root: Path):
    (root / "link").symlink_to("a")
    (root / "dangling").symlink_to("made")
    apply_patch(wrap("*** Update File: link", "@@", "-one", "+ONE", "*** Add File: dangling", "+x"), root, [root])
    assert (root / "link").is_symlink()
    assert (root / "a").read_text() == "ONE\n"
    assert (root / "made").read_text() == "x\n"
    apply_patch(wrap("*** Delete File: link", "*** Add File: link", "+own", "*** Delete File: dangling"), root, [root])
    assert not (root / "link").is_symlink()
    assert (root / "link").read_text() == "own\n"
    assert (root / "a").read_text() == "ONE\n"
    assert (root / "made").exists()


def test_what_is_missing_is_said_with_a_name_that_is_alike(root: Path):
    (root / "settings.py").write_text("x\n")
    refused(root, wrap(*EDIT_A, "*** Update File: setting.py", "@@", "-x"), r"no such file \(did you mean settings.py")
    refused(root, wrap(*EDIT_A, "*** Delete File: gone"), "Cannot delete gone")
    refused(root, wrap("*** Delete File: a", *EDIT_A), "no such file")


def test_a_hunk_that_does_not_fit_changes_no_file(root: Path):
    refused(root, wrap(*EDIT_A, "*** Add File: x/y", "+1", *EDIT_B[:-2], "-nope", "+x"), "b: hunk 1 of 1 does not fit")


def test_folders_pipes_and_devices_are_refused(root: Path):
    (root / "dir").mkdir()
    os.mkfifo(root / "pipe")
    for name, says in (
        ("dir", "folder"),
        ("dir/", "folder"),
        (".", "folder"),
        ("pipe", "pipe"),
        ("/dev/null", "device"),
    ):
        refused(root, wrap(*EDIT_A, f"*** Add File: {name}", "+x"), says)
        refused(root, wrap(*EDIT_A, f"*** Update File: {name}", "@@", "+x"), says)
        refused(root, wrap(*EDIT_A, f"*** Delete File: {name}"), says)
    refused(root, wrap("*** Add File: a/b", "+x"), "Not a directory|not a folder")
    refused(root, wrap("*** Add File: p", "+x", "*** Add File: p/q", "+x"), "not a folder")
    (root / "loop").symlink_to("loop")
    refused(root, wrap("*** Update File: loop", "@@", "+x"), "(?i)symbolic links")


# Where a patch may write


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "../outside", "/etc/passwd", "out/file", "out/new/file", "outfile", "sub/../../outside"],
)
def test_what_leads_out_of_the_allowed_folders_is_refused_before_anything_is_read(root: Path, name: str):
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret\n")
    (root / "out").symlink_to(outside)
    (root / "outfile").symlink_to(outside / "file")
    (root / "sub").mkdir()
    for patch in (
        wrap(*EDIT_A, f"*** Add File: {name}", "+x"),
        wrap(*EDIT_A, f"*** Update File: {name}", "@@", "-x", "+y"),
        wrap(*EDIT_A, "*** Update File: b", f"*** Move to: {name}"),
    ):
        refused(root, patch, "Refused.*outside", allowed=[root])
    if name != "outfile":
        refused(root, wrap(f"*** Delete File: {name}"), "Refused", allowed=[root])
    assert (outside / "file").read_text() == "secret\n"
    assert len(list(outside.iterdir())) == 1


@pytest.mark.parametrize("name", [".git/config", "sub/.git/hooks/x", ".GIT/config", ".lathe/config.toml", "git/config"])
def test_the_insides_of_git_and_lathe_are_refused(root: Path, name: str):
    (root / ".git").mkdir()
    (root / "git").symlink_to(".git")
    refused(root, wrap(*EDIT_A, f"*** Add File: {name}", "+x"), r"Refused: .* lies in \.(git|lathe)")
    apply_patch(wrap("*** Add File: .gitignore", "+x"), root)


def test_allowed_may_be_a_test_of_the_real_path(root: Path):
    (root / "link").symlink_to("b")
    asked: list[Path] = []

    def allowed(path: Path) -> bool:
        asked.append(path)
        return path.name != "b"

    refused(root, wrap(*EDIT_A, "*** Add File: link", "+x"), "Refused: link .it leads to", allowed=allowed)
    assert asked == [root / "a", root / "b"]


def test_patch_paths_are_all_that_would_be_written(root: Path):
    (root / "link").symlink_to("b")
    text = wrap("*** Update File: link", "@@", "+x", "*** Update File: a", "*** Move to: ../c", "*** Delete File: /d/e")
    assert patch_paths(text, root) == (root / "b", root / "a", root.parent / "c", Path("/d/e"))


def test_a_folder_swapped_for_a_link_after_the_check_leads_nowhere(root: Path):
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("one\n")
    (root / "d").mkdir()
    (root / "d" / "f").write_text("one\n")
    plan = plan_patch(parse_patch(wrap("*** Update File: d/f", "@@", "-one", "+ONE", "*** Add File: d/n", "+x")), root)
    (root / "d").rename(root / "elsewhere")
    (root / "d").symlink_to(outside)
    with pytest.raises(PatchError, match="No file was changed"):
        apply_plan(plan)
    assert contents(outside) == {"f": (contents(outside)["f"][0], b"one\n")}


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(root: Path):
    plan = plan_patch(parse_patch(wrap(*EDIT_A, *EDIT_B)), root)
    (root / "b").write_text("something else\n")
    before = contents(root)
    with pytest.raises(PatchError, match="b: something else changed it"):
        apply_plan(plan)
    assert contents(root) == before


# All or nothing


@contextmanager
def unprivileged(*owned: Path) -> Iterator[None]:
    """Meet the file system as an ordinary user who owns `owned`, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    for path in owned:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    libc.setfsuid(65534)  # of this thread only: Linux, setfsuid(2)
    try:
        yield
    finally:
        libc.setfsuid(0)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """Like `root`, with parents that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        Path(folder).chmod(0o755)
        for name, text in (("a", "one\n"), ("b", "two\n"), ("shut/c", "three\n"), ("shut/d", "four\n")):
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        yield root


WIDE = wrap(
    *EDIT_A,
    "*** Update File: b",
    "*** Move to: moved/deep/b",
    "*** Add File: new/dir/f",
    "+x",
    "*** Delete File: shut/c",
)


@pytest.mark.skipif(sys.platform != "linux", reason="setfsuid is Linux's")
def test_a_deletion_that_is_denied_takes_back_all_that_was_done(open_root: Path):
    (open_root / "shut").chmod(0o555)
    before = contents(open_root)
    inode = (open_root / "a").stat().st_ino
    with (
        unprivileged(open_root, *open_root.rglob("*")),
        pytest.raises(PatchError, match=r"shut/c: Permission denied\. No file was changed"),
    ):
        apply_patch(WIDE, open_root)
    assert contents(open_root) == before
    assert (open_root / "a").stat().st_ino == inode


@pytest.mark.skipif(sys.platform != "linux", reason="setfsuid is Linux's")
def test_a_file_in_a_folder_that_takes_no_new_files_is_written_in_place(open_root: Path):
    (open_root / "shut").chmod(0o555)
    inode = (open_root / "shut/c").stat().st_ino
    with unprivileged(open_root, *open_root.rglob("*")):
        apply_patch(wrap("*** Update File: shut/c", "@@", "-three", "+3", *EDIT_A), open_root)
        assert (open_root / "shut/c").read_text() == "3\n"
        assert (open_root / "shut/c").stat().st_ino == inode
        before = contents(open_root)
        with pytest.raises(PatchError, match="shut/d: Permission denied"):
            apply_patch(
                wrap("*** Update File: shut/c", "@@", "-3", "+longer than before", "*** Delete File: shut/d"), open_root
            )
        assert contents(open_root) == before


@pytest.mark.skipif(sys.platform != "linux", reason="setfsuid is Linux's")
def test_a_file_that_may_not_be_written_is_left_alone(open_root: Path):
    (open_root / "b").chmod(0o444)
    before = contents(open_root)
    with unprivileged(open_root, *open_root.rglob("*")), pytest.raises(PatchError, match="b: Permission denied"):
        apply_patch(wrap(*EDIT_A, *EDIT_B), open_root)
    assert contents(open_root) == before


LIMITED = """
import resource, sys
from pathlib import Path
from lathe.tools.patch import PatchError
from lathe.tools.patch_apply import apply_patch
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    apply_patch(sys.stdin.read(), Path.cwd())
except PatchError as error:
    print(error)
"""


def test_a_file_that_cannot_be_written_whole_leaves_everything_as_it_was(root: Path):
    os.link(root / "b", root / "b2")  # written in place
    before = contents(root)
    for name in ("n/big", "b"):
        patch = wrap(*EDIT_A, f"*** Add File: {name}", *["+" + "x" * 99] * 100)
        done = subprocess.run(
            [sys.executable, "-c", LIMITED], input=patch, cwd=root, capture_output=True, text=True, check=False
        )
        assert "File too large. No file was changed." in done.stdout, done
        assert contents(root) == before


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    ).returncode
    if mounted != 0:
        pytest.skip("no right to mount a small disk here")
    try:
        (disk / "a").write_text("one\n")
        refused(
            disk, wrap(*EDIT_A, "*** Add File: n/big", *["+" + "x" * 999] * 100), "No space left.*No file was changed"
        )
        assert list(disk.iterdir()) == [disk / "a"]
    finally:
        subprocess.run(["umount", disk], check=True)


GOOD = st.sampled_from(
    [
        EDIT_A,
        EDIT_B,
        ("*** Add File: a", "+over"),
        ("*** Add File: deep/er/c", "+new"),
        ("*** Update File: b", "*** Move to: deep/b"),
        ("*** Delete File: a",),
    ]
)
BAD = st.sampled_from(
    [
        ("*** Update File: a", "@@", "-nowhere", "+x"),
        ("*** Update File: b", "@@ nowhere", "+x"),
        ("*** Delete File: gone",),
        ("*** Add File: .", "+x"),
        ("*** Add File: ../out", "+x"),
        ("*** Update File: b", "*** Move to: .git/b"),
        ("*** Update File: a",),
    ]
)


@settings(max_examples=50)
@given(st.lists(GOOD, max_size=4), BAD, st.lists(GOOD, max_size=4))
def test_a_patch_with_one_part_that_fails_changes_no_byte(
    head: list[tuple[str, ...]], bad: tuple[str, ...], tail: list[tuple[str, ...]]
):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        (root / "a").write_text("one\n")
        (root / "b").write_text("two\n")
        refused(root, wrap(*[line for section in (*head, bad, *tail) for line in section]), ".", allowed=[root])
        assert list(Path(folder).iterdir()) == [root]


CALLS = ("open", "write", "rename", "unlink", "link", "mkdir", "fchmod", "stat", "access")


@pytest.mark.parametrize("alone", [True, False])
def test_a_file_that_is_a_mount_point_is_written_in_place(root: Path, alone: bool):
    source = root.parent / "source"
    source.write_text("one\n")
    if subprocess.run(["mount", "--bind", source, root / "a"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount here")
    try:
        if not alone:
            refused(root, wrap(*EDIT_A, *EDIT_B, "*** Add File: b/c", "+x"), "Not a directory")
        apply_patch(wrap(*EDIT_A) if alone else wrap(*EDIT_A, *EDIT_B), root)
        assert source.read_text() == "ONE\n"
        assert not [name for name in contents(root) if ".lathe-" in name]
    finally:
        subprocess.run(["umount", root / "a"], check=True)


class Faulty:
    """A system call that fails once, at its call number `failing` (from 1)."""

    def __init__(self, call: str, failing: int) -> None:
        self.real: Callable = getattr(os, call)
        self.failing = failing
        self.made = 0

    def __call__(self, *args, **kwargs):
        self.made += 1
        if self.made == self.failing:
            raise OSError(5, "Input/output error")
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_of_any_system_call_leaves_everything_as_it_was(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
):
    """Each call that the writing makes fails once: the first time it is made, the second, ... until none is left."""
    patch = parse_patch(
        wrap(
            "*** Add File: a",
            "+one",
            "*** Update File: b",
            "*** Move to: m/n/b",
            "*** Add File: new/f",
            "+x",
            "*** Add File: c",
            "+3",
            "*** Delete File: d",
            "*** Delete File: e",
        )
    )
    for failing in range(1, 1000):
        root = tmp_path / str(failing)
        root.mkdir()
        for name in "abcde":
            (root / name).write_text(name)
        plan = plan_patch(patch, root)
        before = contents(root)
        faulty = Faulty(call, failing)
        with monkeypatch.context() as patched:
            patched.setattr(patch_write.os, call, faulty)
            try:
                apply_plan(plan)
            except PatchError:
                assert contents(root) == before
                continue
        files = {name: data for name, (mode, data) in contents(root).items() if stat.S_ISREG(mode)}
        if call == "unlink" and faulty.made >= failing:  # a copy of what was replaced could not be taken away
            files = {name: data for name, data in files.items() if not name.startswith(".lathe-")}
        assert files == {"a": b"one\n", "c": b"3\n", "m/n/b": b"b", "new/f": b"x\n"}
        if faulty.made < failing:
            break
    assert failing > 1


def test_an_interrupt_in_the_middle_leaves_everything_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.rename
    made = 0

    def interrupted(*args, **kwargs):
        nonlocal made
        made += 1
        if made == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    plan = plan_patch(parse_patch(wrap(*EDIT_A, *EDIT_B, "*** Add File: n/c", "+x")), root)
    before = contents(root)
    monkeypatch.setattr(patch_write.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply_plan(plan)
    assert contents(root) == before


# The diff


def git_apply(diff: str, folder: Path) -> None:
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        input=diff.encode(),
        cwd=folder,
        check=True,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
    )


NAMES = st.sampled_from(["a", "b c", "d/e", "d/\u00e9", 'q"\\', "t\tab"])
TEXTS = st.lists(st.sampled_from(["x", "y", "", "  z", "\u201c"]), max_size=12)


@settings(max_examples=25)
@given(st.dictionaries(NAMES, st.tuples(TEXTS, st.booleans(), st.booleans()), min_size=1), st.data())
def test_git_applies_the_diff_to_the_same_effect(files: dict[str, tuple[list[str], bool, bool]], data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        for root in (ours, theirs):
            for name, (lines, newline, executable) in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n" * (newline and bool(lines)), newline="")
                path.chmod(0o755 if executable else 0o644)
        sections: list[str] = []
        for name in files:
            match data.draw(st.sampled_from(["append", "move", "delete", "replace", "twice", "add"])):
                case "append":
                    sections += [f"*** Update File: {name}", "@@", "+end"]
                case "move":
                    sections += [f"*** Update File: {name}", f"*** Move to: moved/{name}", "@@", "+end"]
                case "delete":
                    sections += [f"*** Delete File: {name}"]
                case "replace":
                    sections += [f"*** Add File: {name}", "+x", "+new", "+y"]
                case "twice":
                    sections += [f"*** Update File: {name}", "@@", "+1", f"*** Update File: {name}", "@@", "-1", "+2"]
                case "add":
                    sections += [f"*** Add File: new/{name}", "+x"]
        result = apply_patch(wrap(*sections), ours)
        git_apply(result.diff, theirs)
        modes = {name: (mode & 0o100, data) for name, (mode, data) in contents(ours).items() if stat.S_ISREG(mode)}
        assert modes == {
            name: (mode & 0o100, data) for name, (mode, data) in contents(theirs).items() if stat.S_ISREG(mode)
        }


def test_the_diff_of_a_change_shows_three_lines_around_it(root: Path):
    (root / "f").write_text("".join(f"{i}\n" for i in range(1, 31)))
    result = apply_patch(wrap("*** Update File: f", "@@", " 9", "-10", "+ten", " 11", "@@", " 29", " 30", "+31"), root)
    assert result.diff == (
        "diff --git a/f b/f\n--- a/f\n+++ b/f\n"
        "@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n"
        "@@ -28,3 +28,4 @@\n 28\n 29\n 30\n+31\n"
    )


def test_the_diff_of_any_bytes_is_valid_text(root: Path):
    (root / "f").write_bytes(b"caf\xe9\nx\n")
    (root / "g").write_bytes(b"\0\nx\n")
    result = apply_patch(wrap("*** Update File: f", "@@", "+y", "*** Update File: g", "@@", "+y"), root)
    result.diff.encode()
    assert "Binary files a/g and b/g differ" in result.diff
    assert (root / "f").read_bytes() == b"caf\xe9\nx\ny\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_root_adds_in_the_folder_of_another_is_theirs(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    apply_patch("*** Begin Patch\n*** Add File: deep/new.txt\n+x\n*** End Patch", tmp_path)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.rglob("*")}
    assert owners == {(12345, 12346)}
