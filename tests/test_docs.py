"""The pages against the code: links lead somewhere, commands and options exist, keys and events are all named."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from lathe.cli.main import COMMANDS
from lathe.config import settings
from lathe.config.checks import check
from lathe.gateway.settings import GatewaySettings, GuardTable, ModelTable, UpstreamTable, load_settings
from lathe.protocol import events
from lathe.store.journal import Record

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
SHELLS = ("sh", "console", "")
DEPTH = {"eval": 1, "config": 1, "card": 1, "access": 2, "guard": 2}
"""How many words behind a command are commands below it."""
ACCESS_GROUPS = {
    "appeals",
    "accounts",
    "engagements",
    "rollout",
    "keys",
    "orgs",
    "projects",
    "users",
    "groups",
    "audit",
}
OF_GATEWAY = {"gateway.md", "gateway-operations.md", "console.md", "administration.md", "access.md"}
"""Pages on which a configuration is the gateway's."""
TABLES = {
    "### `[guard]`": settings.GuardTable,
    "### `[egress]`": settings.EgressTable,
    "## Settings": settings.Settings,
    "### `[limits]`": settings.LimitTable,
    "### `[paths]`": settings.PathTable,
    "### `[providers.NAME]`": settings.ProviderTable,
    "### `[models.NAME]`": settings.ModelTable,
    "### `price`, `long_price`": settings.PriceTable,
    "### `[mcp.NAME]`": settings.McpTable,
    "### `[[rules.allow]]`, `[[rules.ask]]`, `[[rules.forbid]]`": settings.RuleSpec,
    '### `[projects."/path/to/repository"]`': settings.Project,
    "## requirements.toml": settings.Requirements,
}


def of_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def prose(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{of_page(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{of_page(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_page_of_the_docs_is_on_the_list(page: Path) -> None:
    if page.parent.name == "docs" and page.name != "index.md":
        assert f"]({page.name})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def command_lines(text: str) -> Iterator[str]:
    """Yield what stands behind `lathe` in each command line: in fences, and in code inside sentences."""
    for language, body in fences(text):
        if language in SHELLS:
            for line in body.splitlines():
                line = re.sub(r"^\$ ", "", line.strip())
                for part in re.split(r"(?:&&|\|\||[|;])(?=(?:[^\"']|\"[^\"]*\"|'[^']*')*$)", line):
                    found = re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?lathe(?: +(.*))?$", part.strip())
                    if found:
                        yield found[1] or ""
    for code in re.findall(r"`([^`\n]+)`", prose(text)):
        found = re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?lathe(?: +(.*))?$", code)
        if found:
            yield found[1] or ""


@functools.cache
def help_of(command: str, *words: str) -> str:
    module = importlib.import_module(f"lathe.cli.{command.replace('-', '_') or 'interactive'}")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as left:
        module.main([*words, "--help"])
    assert left.value.code == 0
    return shown.getvalue()


def wrong_with(line: str) -> str:
    """Return what is wrong with a command line, "" where nothing is."""
    words = shlex.split(re.sub(r"[\[\]]", " ", re.sub(r">+ *\S+", "", line)), comments=True)
    if words and words[0] in ("--version", "--help", "COMMAND"):
        return ""
    command = words.pop(0) if words and words[0] in COMMANDS else ""
    if not command and words and not words[0].startswith("-") and " " not in words[0] and words[0] != "PROMPT":
        return f"there is no command {words[0]!r}"
    below = list(takewhile(lambda word: not word.startswith("-"), words[: DEPTH.get(command, 0)]))
    if command == "access" and below[:1] and below[0] not in ACCESS_GROUPS:
        below = below[:1]
    text = help_of(command, *below) + (help_of("resume") if command == "fork" else "") + " --debug"
    options = [word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    missing = [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)]
    return f"lathe {command} has no {', '.join(missing)}" if missing else ""


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_command_line_names_commands_and_options_that_exist(page: Path) -> None:
    wrong = [
        f"`lathe {line}`: {problem}"
        for line in command_lines(page.read_text(encoding="utf-8"))
        if (problem := wrong_with(line))
    ]
    assert not wrong, f"{of_page(page)}: {wrong}"


def test_a_command_line_that_is_wrong_is_found() -> None:
    assert "no command" in wrong_with("exce 'go'")
    assert "--jsn" in wrong_with("exec --jsn 'go'")
    assert not wrong_with('fork --last --json "go" > events.jsonl  # with --nonsense')
    assert list(command_lines("```sh\ngit diff | .venv/bin/lathe exec -   # x\n```")) == ["exec -   # x"]


def section(heading: str, page: str = "configuration.md") -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no section {heading}"
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of a table's rows by the key in their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]
    return {row[0].strip("| `"): row[1:] for row in cells}


def as_shown(value: Any) -> str:
    match value:
        case None | "":
            return "not set"
        case dict() | settings.RuleTables() | settings.LimitTable() | settings.EgressTable() | settings.PathTable():
            return "empty"
        case settings.GuardTable():
            return "empty"
        case tuple():
            return "`[]`"
        case _:
            return f"`{msgspec.json.encode(value).decode()}`"


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_of_the_configuration_is_on_its_page(heading: str) -> None:
    shape = TABLES[heading]
    assert list(rows(section(heading))) == list(shape.__struct_fields__)


@pytest.mark.parametrize("heading", [name for name in TABLES if "| built-in |" in section(name)])
def test_the_page_says_the_built_in_values(heading: str) -> None:
    shown = {key: cells[0] for key, cells in rows(section(heading)).items()}
    assert shown == {key: as_shown(getattr(TABLES[heading](), key)) for key in shown}


def test_the_page_says_what_a_repository_may_set() -> None:
    text = section("## Trust")
    sentence = text[text.index("can set only") : text.index("; it can make")]
    assert set(re.findall(r"`(\w+)`", sentence)) == settings.PROJECT_KEYS


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_configuration_on_a_page_is_accepted(page: Path, tmp_path: Path) -> None:
    for language, body in fences(page.read_text(encoding="utf-8")):
        if language == "toml" and page.name in OF_GATEWAY:
            (tmp_path / "gateway.toml").write_text(body)
            load_settings(tmp_path / "gateway.toml", required=True)
        elif language == "toml":
            check(tomllib.loads(body), of_page(page), body)


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("### Settings", GatewaySettings),
        ("### `[upstreams.NAME]`", UpstreamTable),
        ("### `[models.NAME]`", ModelTable),
        ("### `[guard]`", GuardTable),
    ],
)
def test_every_key_of_the_gateway_is_on_its_page_with_its_built_in_value(heading: str, shape: Any) -> None:
    table = rows(section(heading, "gateway.md"))
    elsewhere = [key for names in table if "`," in names for key in re.split(r"\W+", names)]
    shown = {key: cells[0] for key, cells in table.items() if "`," not in key}
    assert [*shown, *elsewhere] == list(shape.__struct_fields__)
    defaults = [one.factory() if hasattr(one, "factory") else one for one in shape.__struct_defaults__]
    built_in = dict(zip(reversed(shape.__struct_fields__), reversed(defaults), strict=False))
    assert shown == {key: as_shown(built_in[key]) if key in built_in else "required" for key in shown}


def test_every_code_on_the_gateways_page_is_one_that_it_gives() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "lathe" / "gateway").rglob("*.py"))
    firsts = re.findall(r"^\| (`.*?) \|", section("## Errors", "gateway.md"), re.MULTILINE)
    codes = re.findall(r"`(\w+)`", "".join(firsts))
    assert len(codes) > 20 and [code for code in codes if f'"{code}"' not in source] == []


def tags(union: Any) -> list[str]:
    return [str(one.__struct_config__.tag) for one in get_args(union)]


def test_every_event_and_item_is_on_its_page() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    missing = [tag for tag in (*tags(events.Event), *tags(events.ShownItem)) if f"`{tag}`" not in text]
    assert not missing


def test_every_kind_of_record_is_on_its_page() -> None:
    text = (ROOT / "docs" / "threads.md").read_text(encoding="utf-8")
    assert not [tag for tag in tags(Record) if f"| `{tag}` |" not in text]


@pytest.mark.parametrize(("page", "shape"), [("events.md", events.Event), ("threads.md", Record)])
def test_every_line_that_a_page_shows_is_one_that_lathe_writes(page: str, shape: Any) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = [line for language, body in fences(text) if language == "json" for line in body.splitlines()]
    assert lines
    for line in lines:
        again = msgspec.json.encode(msgspec.json.decode(line, type=shape))
        assert msgspec.json.decode(again) == msgspec.json.decode(line)
