from __future__ import annotations

import json
from pathlib import Path

import pytest

from lathe.protocol.codec import encode
from lathe.protocol.events import FileChange, FileUpdate
from lathe.protocol.items import CustomToolCall, FunctionCall
from lathe.sandbox.policy import PathRules, SandboxPolicy
from lathe.tools.apply_patch import ApplyPatchTool
from lathe.tools.base import MalformedCall, Outcome, ToolContext, WriteFiles

PATCH = "*** Begin Patch\n*** Update File: a\n@@\n-one\n+ONE\n*** Add File: d/b\n+x\n*** End Patch"


def context(cwd: Path, policy: SandboxPolicy, *, escalated: bool = False) -> ToolContext:
    return ToolContext(
        cwd=cwd,
        policy=policy,
        spill=cwd,
        item_id="item_1",
        show=lambda _: None,
        delta=lambda _: None,
        escalated=escalated,
    )


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    cwd = tmp_path / "work"
    cwd.mkdir()
    (cwd / "a").write_text("one\n")
    return cwd


async def apply(text: str, cwd: Path, policy: SandboxPolicy | None = None, *, escalated: bool = False) -> Outcome:
    tool = ApplyPatchTool()
    args = tool.parse(CustomToolCall(call_id="c", name="apply_patch", input=text))
    policy = policy or SandboxPolicy(writable_roots=(str(cwd),))
    return await tool.run(args, context(cwd, policy, escalated=escalated))


async def test_a_call_changes_the_files_and_shows_the_diff(cwd: Path):
    output, item = await apply(PATCH, cwd)
    assert output == "Success. Updated the following files:\nM a\nA d/b"
    assert isinstance(item, FileChange)
    assert (item.id, item.status) == ("item_1", "completed")
    assert item.changes == (FileUpdate("a", "update"), FileUpdate("d/b", "add"))
    assert item.diff.startswith("diff --git a/a b/a\n")
    encode(item)
    assert (cwd / "a").read_text() == "ONE\n"


@pytest.mark.parametrize(
    "call",
    [
        CustomToolCall(call_id="c", name="apply_patch", input=PATCH),
        FunctionCall(call_id="c", name="apply_patch", arguments=json.dumps({"input": PATCH})),
        FunctionCall(call_id="c", name="apply_patch", arguments=json.dumps({"patch": PATCH})),
        FunctionCall(call_id="c", name="apply_patch", arguments=PATCH),
    ],
)
def test_a_call_is_read_from_either_wire(call: CustomToolCall | FunctionCall, cwd: Path):
    tool = ApplyPatchTool()
    args = tool.parse(call)
    assert tool.access(args, cwd) == (WriteFiles((str(cwd / "a"), str(cwd / "d/b")), (str(cwd / "d/b"),)),)
    assert tool.begin(args, "i") == FileChange(
        id="i", changes=(FileUpdate("a", "update"), FileUpdate("d/b", "add")), status="in_progress"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{", "not valid JSON"),
        ("{}", "'input'"),
        ('{"input": 3}', "'input'"),
        ('["x"]', "'input'"),
        ('{"input": "x"}', "first line"),
        ('"\\ud800"', "JSON|first line"),
    ],
)
def test_a_call_without_a_patch_is_malformed(arguments: str, says: str):
    with pytest.raises(MalformedCall, match=says):
        ApplyPatchTool().parse(FunctionCall(call_id="c", name="apply_patch", arguments=arguments))


async def test_a_patch_that_does_not_fit_is_an_outcome_with_the_reason(cwd: Path):
    output, item = await apply(PATCH.replace("-one", "-two"), cwd)
    assert isinstance(item, FileChange)
    assert item.status == "failed"
    assert item.error == output
    assert "hunk 1 of 1 does not fit" in item.error
    assert item.changes == (FileUpdate("a", "update"), FileUpdate("d/b", "add"))


async def test_the_sandbox_mode_decides_where_files_may_be_written(cwd: Path):
    patch = "*** Begin Patch\n*** Add File: {}\n+x\n*** End Patch"
    rooted = SandboxPolicy(writable_roots=(str(cwd),))
    for policy, escalated, name, status in (
        (SandboxPolicy(mode="read-only", writable_roots=(str(cwd),)), False, "in", "failed"),
        (SandboxPolicy(mode="read-only"), True, "in", "completed"),
        (rooted, False, "in2", "completed"),
        (rooted, False, "../out", "failed"),
        (rooted, False, ".git/x", "failed"),
        (rooted, False, ".lathe/x", "failed"),
        (SandboxPolicy(), False, "in3", "failed"),
        (rooted, True, "../out", "completed"),
        (SandboxPolicy(mode="danger-full-access"), False, "../out2", "completed"),
    ):
        output, item = await apply(patch.format(name), cwd, policy, escalated=escalated)
        assert isinstance(item, FileChange)
        assert item.status == status, output
        assert (cwd / name).exists() == (status == "completed")


async def test_an_intercepted_patch_resolves_in_the_directory_of_its_command(cwd: Path):
    tool = ApplyPatchTool()
    args = tool.arguments("*** Begin Patch\n*** Add File: f\n+x\n*** End Patch", "sub")
    assert tool.access(args, cwd) == (WriteFiles((str(cwd / "sub/f"),), (str(cwd / "sub/f"),)),)
    where = context(cwd, SandboxPolicy(writable_roots=(str(cwd),)))
    output, _ = await tool.run(args, where)
    assert output == f"{cwd}/sub is not a folder. No file was changed."
    (cwd / "sub").mkdir()
    await tool.run(args, where)
    assert (cwd / "sub/f").read_text() == "x\n"


def test_the_tool_is_freeform_with_a_function_of_one_string_elsewhere():
    spec = ApplyPatchTool().spec
    assert spec.freeform
    assert spec.grammar
    assert spec.parameters["required"] == ["input"]


async def test_instructions_and_hidden_files_are_patched_only_where_that_was_allowed(cwd: Path):
    (cwd / ".env").write_text("one\n")
    rules = PathRules(veiled=(".env",), guarded=("AGENTS.md",))
    policy = SandboxPolicy(writable_roots=(str(cwd),), paths=rules)
    for section in ("*** Add File: AGENTS.md\n+x", "*** Update File: .env\n@@\n-one\n+ONE"):
        patch = f"*** Begin Patch\n{section}\n*** End Patch"
        _, item = await apply(patch, cwd, policy)
        assert item.status == "failed"
        _, item = await apply(patch, cwd, policy, escalated=True)
        assert item.status == "completed"
    assert (cwd / ".env").read_text() == "ONE\n"
