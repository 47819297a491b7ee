"""The tool `apply_patch`: changes to files, as a patch in the format of `lathe.tools.patch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.events import FileChange, FileUpdate
from lathe.protocol.items import CustomToolCall, ToolCall
from lathe.tools.base import MalformedCall, Outcome, ToolContext, WriteFiles

# What applies a patch is imported at the first patch: a thread may well start, and end, without one.
if TYPE_CHECKING:
    from lathe.tools.base import Tool
    from lathe.tools.patch import Patch, Section
    from lathe.tools.patch_apply import Allowed

_DESCRIPTION = """\
Edit files with a patch: add, change, move and delete any number of files in one call. Either everything is \
applied or no file is changed. Form:

*** Begin Patch
*** Add File: docs/new.md
+every line of a new file begins with a plus
*** Update File: src/app.py
*** Move to: src/main.py
@@ class Server:
@@     def start(self):
         context line, after one space
-line to remove
+line to put in its place
*** Delete File: old.txt
*** End Patch

Give about 3 unchanged lines before and after each change, exactly as the file has them. A hunk begins with @@; \
name the enclosing class or function after it (one @@ line each, outermost first) where the context alone could \
be in several places. Hunks of one file go in the file's order. `*** Move to:` is optional. A hunk with only + lines \
goes right below its @@ line, or to the end of the file without one. End a hunk with `*** End of File` where its \
lines are the last. Paths are relative to the working directory."""

# Lark, in the subset that constrained decoding takes; our own wording of the format in patch.py
_GRAMMAR = r"""start: BEGIN section+ END
section: add | delete | update
add: "*** Add File: " name NL added+
delete: "*** Delete File: " name NL
update: "*** Update File: " name NL (move hunk* | hunk+)
move: "*** Move to: " name NL
hunk: anchor+ change+ last? | change+ last?
anchor: "@@" NL | "@@ " text NL
change: added | removed | kept
added: "+" text? NL
removed: "-" text? NL
kept: " " text? NL
last: "*** End of File" NL
name: /[^\n]+/
text: /[^\n]+/
BEGIN: "*** Begin Patch\n"
END: "*** End Patch" /\n?/
NL: "\n"
"""

_SPEC = ToolSpec(
    name="apply_patch",
    description=_DESCRIPTION,
    parameters={
        "type": "object",
        "properties": {
            "input": {
                "type": "string",
                "description": "The whole patch, from '*** Begin Patch' to '*** End Patch'.",
            }
        },
        "required": ["input"],
        "additionalProperties": False,
    },
    freeform=True,
    grammar=_GRAMMAR,
)


class PatchArguments(msgspec.Struct, frozen=True):
    """A parsed patch; `directory` is where its paths resolve, if not in the thread's working directory."""

    patch: Patch
    directory: str | None = None


class ApplyPatchTool:
    """Applies patches to the files that the sandbox policy lets be written.

    `notes` is the folder of what a kill would leave half done (`patch_recovery`); `wrote` is told the files, so that
    nobody takes them for the work of a command.
    """

    spec = _SPEC
    parallel = False

    def __init__(self, notes: Path | None = None, wrote: Callable[[Sequence[str]], None] | None = None) -> None:
        self._notes = notes
        self._wrote = wrote

    def parse(self, call: ToolCall) -> PatchArguments:
        """Return the patch of `call`; raise `MalformedCall` where there is none or its form is wrong."""
        return self.arguments(call.input if isinstance(call, CustomToolCall) else _patch_of(call.arguments))

    def arguments(self, text: str, directory: str | None = None) -> PatchArguments:
        """Return the arguments of a patch that came another way (see `lathe.tools.patch_command`)."""
        from lathe.tools.patch import PatchError, parse_patch

        try:
            return PatchArguments(parse_patch(text), directory)
        except PatchError as error:
            raise MalformedCall(error.message) from None

    def access(self, args: PatchArguments, cwd: Path) -> tuple[WriteFiles, ...]:
        """Return the files that would be written, links resolved."""
        from lathe.tools.patch import PatchError, UpdateFile
        from lathe.tools.patch_apply import section_paths

        sections, base = args.patch.sections, _base(args, cwd)
        whole = tuple(section for section in sections if not isinstance(section, UpdateFile))
        try:
            paths, replaced = section_paths(sections, base), section_paths(whole, base)
            return (WriteFiles(tuple(map(str, paths)), tuple(map(str, replaced))),)
        except PatchError:  # a folder's name: `run` says so, and writes nothing
            return (WriteFiles(()),)

    def begin(self, args: PatchArguments, item_id: str) -> FileChange:
        """Return the files as the patch names them."""
        changes = tuple(map(_announced, args.patch.sections))
        return FileChange(id=item_id, changes=changes, status="in_progress")

    async def run(self, args: PatchArguments, context: ToolContext) -> Outcome:
        """Apply the patch, all of it or nothing."""
        from lathe.tools.patch import PatchError
        from lathe.tools.patch_apply import apply_plan, plan_patch

        base = _base(args, context.cwd)
        try:
            if context.policy.mode == "read-only" and not context.escalated:
                raise PatchError("Refused: files may only be read here (sandbox mode read-only). No file was changed.")
            if not base.is_dir():
                raise PatchError(f"{base} is not a folder. No file was changed.")
            allowed, protected = _limits(context)
            plan = plan_patch(args.patch, base, allowed, protected=protected)
            result = apply_plan(plan, self._notes)
            if self._wrote is not None:
                self._wrote([str(file.path) for file in plan.files])
        except PatchError as error:
            failed = FileChange(
                id=context.item_id,
                changes=self.begin(args, context.item_id).changes,
                status="failed",
                error=error.message,
            )
            return Outcome(error.message, failed)
        done = FileChange(id=context.item_id, changes=result.changes, status="completed", diff=result.diff)
        return Outcome(result.summary, done)


def _limits(context: ToolContext) -> tuple[Allowed, tuple[str, ...]]:
    from lathe.tools.patch_apply import PROTECTED

    if context.escalated or context.policy.mode == "danger-full-access":
        return None, ()
    from lathe.sandbox.sight import Sight

    sight = Sight(context.policy)
    return lambda path: not sight.refusal(str(path)), PROTECTED


def _base(args: PatchArguments, cwd: Path) -> Path:
    return cwd / args.directory if args.directory else cwd


def _patch_of(arguments: str) -> str:
    """Return the patch in the JSON `arguments` of a function call, or `arguments` where they are a bare patch."""
    if arguments.lstrip().startswith("*** "):
        return arguments
    try:
        values: Any = decode_json(arguments)
    except DecodeError as error:
        raise MalformedCall(f"The arguments of apply_patch are not valid JSON: {error}.") from None
    text = values.get("input", values.get("patch")) if isinstance(values, dict) else values
    if not isinstance(text, str):
        raise MalformedCall("apply_patch takes one argument, 'input': the whole patch as a string.")
    return text


def _announced(section: Section) -> FileUpdate:
    from lathe.tools.patch import AddFile, UpdateFile

    if isinstance(section, UpdateFile):
        return FileUpdate(path=section.path, kind="update", move_to=section.move_to)
    return FileUpdate(path=section.path, kind="add" if isinstance(section, AddFile) else "delete")


if TYPE_CHECKING:
    _conforms: Tool = ApplyPatchTool()
