"""Skills: folders with a SKILL.md, told to the model by name and description and read when needed.

The format is that of the Agent Skills specification (agentskills.io/specification). Of the head only `name` and
`description` are used. `allowed-tools` is not: a file of a repository grants no permission.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from lathe.agent.front_matter import FrontMatterError, parse_front_matter
from lathe.agent.instructions import personal_folders, read_text, shares
from lathe.config.paths import project_root

LISTING_LIMIT = 8 * 1024
BODY_LIMIT = 32 * 1024

PLACES = (".lathe/skills", ".agents/skills", ".claude/skills")
"""Where a folder of a repository has its skills."""
_FOLDERS = 500
_NAME_LIMIT = 64
_DESCRIPTION_LIMIT = 1_024
_MENTION = re.compile(r"(?<![\w$\\])\$([^\W_]+(?:-[^\W_]+)*)(?![\w-])")
_HEADER = (
    "A skill is a folder with instructions for a kind of task. When a task matches one, read its SKILL.md with an"
    " ordinary command first; paths in it are relative to its folder. Skills are guidance, they permit nothing."
)


class Skill(msgspec.Struct, frozen=True):
    """A skill: its `path` is that of the SKILL.md."""

    name: str
    description: str
    path: str


class Skills(msgspec.Struct, frozen=True):
    """What `load_skills` found, the nearest first; `warnings` are sentences on what is wrong with some."""

    found: tuple[Skill, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The list for the context, at most `LISTING_LIMIT` bytes; "" where there are no skills."""
        if not self.found:
            return ""
        heads = [f"- {skill.name} ({skill.path})" for skill in self.found]
        room = LISTING_LIMIT - len(_HEADER.encode()) - 80
        shown = 0
        while shown < len(heads) and room >= len(heads[shown].encode()) + 4:
            room -= len(heads[shown].encode()) + 4
            shown += 1
        described = [" ".join(skill.description.split()) for skill in self.found[:shown]]
        rooms = shares([len(text.encode()) for text in described], room)
        lines = [
            f"{head}: {_short(text, size)}" for head, text, size in zip(heads[:shown], described, rooms, strict=True)
        ]
        if shown < len(heads):
            lines.append(f"- and {len(heads) - shown} more, not listed for want of room")
        return "\n".join([_HEADER, *lines])


def load_skills(cwd: Path, home: Path, environ: Mapping[str, str], *, extra: Iterable[Path] = ()) -> Skills:
    """Return the skills for work in `cwd`; of two with one name the nearer counts. Never raises for a bad skill.

    `extra` are further folders of skills, asked after those of the repository.
    """
    top = project_root(cwd)
    above = [folder for folder in (cwd, *cwd.parents) if folder == top or top in folder.parents]
    places = [folder / place for folder in above for place in PLACES]
    places += extra
    places += [folder / "skills" for folder in personal_folders(home, environ)]
    places.append(home / ".agents" / "skills")
    skills: dict[str, Skill] = {}
    warnings: list[str] = []
    for path in _files(places):
        skill = _read(path, warnings)
        if skill is not None:
            skills.setdefault(skill.name, skill)
    return Skills(tuple(skills.values()), tuple(warnings))


def explicit_skills(prompt: str, skills: Iterable[Skill]) -> tuple[Skill, ...]:
    """Return the skills that `prompt` names as `$name`, in the order of the first mention."""
    by_name = {skill.name: skill for skill in skills}
    named = dict.fromkeys(_MENTION.findall(prompt))
    return tuple(by_name[name] for name in named if name in by_name)


def skill_body(skill: Skill) -> str:
    """Return the text to give the model for a skill that was asked for; a sentence where it can't be read."""
    try:
        body = parse_front_matter(read_text(Path(skill.path))).body
    except (OSError, FrontMatterError) as error:
        return f"The skill {skill.name} in {skill.path} can't be read: {error}."
    raw = body.encode()
    if len(raw) > BODY_LIMIT:
        body = raw[:BODY_LIMIT].decode("utf-8", "ignore")
        body += f"\n[cut here: {BODY_LIMIT} of {len(raw)} bytes are shown; the whole is in {skill.path}]"
    return f"# Skill {skill.name}, from {skill.path} (its paths are relative to that folder)\n\n{body}"


def _files(places: Iterable[Path]) -> list[Path]:
    """Return the SKILL.md files of the folders in `places`, each file once, in order."""
    files: dict[str, Path] = {}
    looked = 0
    for place in places:
        try:
            folders = sorted(place.iterdir())
        except OSError:
            continue
        for folder in folders:
            path = folder / "SKILL.md"
            looked += 1
            if looked > _FOLDERS:
                return list(files.values())
            if os.path.lexists(path):
                files.setdefault(os.path.realpath(path), path)
    return list(files.values())


def _read(path: Path, warnings: list[str]) -> Skill | None:
    try:
        fields = parse_front_matter(read_text(path)).fields
    except OSError as error:
        warnings.append(f"The skill {path} is left out: it can't be read ({error.strerror or error}).")
        return None
    except FrontMatterError as error:
        warnings.append(f"The skill {path} is left out: {error}.")
        return None
    name, description = fields.get("name", "").strip(), fields.get("description", "").strip()
    if problem := _problem(name, description):
        warnings.append(f"The skill {path} is left out: {problem}.")
        return None
    if name != path.parent.name:
        warnings.append(f"The skill {path} is named {name}, unlike its folder; other agents may not accept it.")
    # A tag of the context's own must not end the block that holds the list.
    return Skill(name, description[:_DESCRIPTION_LIMIT].replace("</context", "<\\/context"), str(path))


def _problem(name: str, description: str) -> str:
    if not name:
        return "it has no name"
    if len(name) > _NAME_LIMIT or not re.fullmatch(r"[^\W_]+(?:-[^\W_]+)*", name) or name != name.lower():
        return f"{name[:80]!r} is no name for a skill (lower-case letters, digits and single hyphens, at most 64)"
    if not description:
        return "it has no description"
    return ""


def _short(text: str, size: int) -> str:
    raw = text.encode()
    if len(raw) <= size:
        return text
    return raw[: size - 3].decode("utf-8", "ignore") + "…" if size > 3 else ""
