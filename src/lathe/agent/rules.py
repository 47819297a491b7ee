"""Rules about commands and tools: data with examples in it, from the configuration and from what a person allowed.

A rule speaks of one simple command; a compound one is judged part by part (`shell.analyse`, `matching.matches`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lathe.config.settings import RuleSpec, RuleTables
from lathe.protocol.errors import ConfigError


class Rules(NamedTuple):
    """The rules in force; `remembered` are families that the person allowed for this project."""

    allow: tuple[RuleSpec, ...] = ()
    ask: tuple[RuleSpec, ...] = ()
    forbid: tuple[RuleSpec, ...] = ()
    remembered: tuple[tuple[str, ...], ...] = ()


def load_rules(tables: RuleTables, project_root: Path | None, home: Path) -> Rules:
    """Return the configured rules and what was remembered for the project; every rule's examples are tried.

    Raises `ConfigError` for a rule that says nothing or that fails an example of its own, and for a damaged file.
    """
    for kind, rules in (("allow", tables.allow), ("ask", tables.ask), ("forbid", tables.forbid)):
        for index, rule in enumerate(rules, 1):
            check_rule(rule, f"rules.{kind} (entry {index})", allow=kind == "allow")
    remembered = _remembered(project_root, home) if project_root is not None else ()
    return Rules(tables.allow, tables.ask, tables.forbid, remembered)


def check_rule(rule: RuleSpec, name: str, *, allow: bool) -> None:
    """Try the rule's examples; raise `ConfigError` that names the rule and the example."""
    if bool(rule.prefix) == bool(rule.tool):
        raise ConfigError(f"{name} needs either a prefix or a tool.", hint='Write prefix = ["git", "push"].')
    if any(not position for position in (*rule.prefix, *rule.flags)):
        raise ConfigError(f"{name} has an empty word.", hint="Give at least one word in every position.")
    if rule.tool and (rule.match or rule.not_match or rule.flags or rule.outside):
        raise ConfigError(f"{name}: examples, flags and outside go with a prefix, not with a tool.")
    if not (rule.match or rule.not_match):
        return
    from lathe.agent.matching import matches
    from lathe.agent.verdict import Place
    from lathe.guard.shell import analyse

    for example in (*rule.match, *rule.not_match):
        found = analyse(example)
        place = Place("/nowhere/workspace", ("/nowhere/workspace",))
        hit = any(matches(rule, part, place, literal=allow) for part in found.parts)
        if hit != (example in rule.match):
            verb = "does not match" if not hit else "matches"
            raise ConfigError(f"{name} {verb} its own example {example!r}.", hint="Mend the prefix or the example.")


def matches_tool(rule: RuleSpec, server: str, tool: str) -> bool:
    """Tell whether `rule` is about the tool of the MCP server."""
    import fnmatch

    return bool(rule.tool) and fnmatch.fnmatchcase(f"{server}/{tool}", rule.tool)


def rules_file(project_root: Path, home: Path) -> Path:
    """Return the file of what was allowed for the project for good, below `home` ($LATHE_HOME)."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(project_root))).hexdigest()
    return home / "rules" / f"{digest[:16]}.toml"


def remember(project_root: Path, family: Sequence[str], home: Path) -> None:
    """Allow commands that begin with `family` in this project from now on; raise `OSError`."""
    path = rules_file(project_root, home)
    families = _remembered(project_root, home)
    if tuple(family) in families:
        return
    lines = [
        "# Commands that were allowed for this project when Lathe asked. Take out what should ask again.",
        f"project = {_quoted(os.path.realpath(project_root))}",
    ]
    for words in (*families, tuple(family)):
        lines += ["", "[[allow]]", f"prefix = [{', '.join(_quoted(word) for word in words)}]"]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)


def _quoted(text: str) -> str:
    escaped = re.sub(r'["\\\x00-\x1f\x7f]', lambda found: f"\\u{ord(found[0]):04x}", text)
    return f'"{escaped}"'


def _remembered(project_root: Path, home: Path) -> tuple[tuple[str, ...], ...]:
    path = rules_file(project_root, home)
    if not path.exists():
        return ()
    from lathe.config.layers import read_toml

    read = read_toml(path)
    entries = read[0].get("allow", []) if read is not None else []
    families: list[tuple[str, ...]] = []
    for entry in entries if isinstance(entries, list) else [None]:
        prefix = entry.get("prefix") if isinstance(entry, dict) else None
        if not isinstance(prefix, list) or not prefix or not all(isinstance(word, str) for word in prefix):
            raise ConfigError(f"{path}: an entry has no prefix of words.", hint="Mend the entry or delete the file.")
        families.append(tuple(prefix))
    return tuple(families)
