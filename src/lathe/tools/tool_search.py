"""Tools found by search: for when there are too many to show a model all of them.

The model sees two tools whatever the number behind them, so the head of its requests never changes:
`tool_search` tells it about tools, `call_tool` calls one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.codec import encode
from lathe.protocol.events import OtherToolCall, ShownItem
from lathe.protocol.items import FunctionCall, ToolCall
from lathe.tools.arguments import decode_arguments
from lathe.tools.base import Access, MalformedCall, Outcome, ToolContext
from lathe.tools.mcp import McpTool

_K1 = 1.2
_B = 0.75
_NAME_WEIGHT = 3
_LIMIT = 20
_LIST_LIMIT = 4_000
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


class Ranking:
    """Documents ranked against a query by Okapi BM25 (Robertson and Zaragoza, 2009, section 3.2; k1 1.2, b 0.75)."""

    def __init__(self, documents: Iterable[Iterable[str]]) -> None:
        self._counts = [Counter(words) for words in documents]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / len(self._lengths) if self._lengths else 0.0
        self._found_in = Counter(word for counts in self._counts for word in counts)

    def best(self, query: Iterable[str], limit: int) -> list[int]:
        """Return the positions of the `limit` best documents that share a word with the query, best first."""
        words = set(query)
        scored = [(self._score(words, at), at) for at in range(len(self._counts))]
        return [at for score, at in sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:limit] if score > 0]

    def _score(self, words: set[str], at: int) -> float:
        counts, length = self._counts[at], self._lengths[at]
        total = 0.0
        for word in words & counts.keys():
            found = self._found_in[word]
            rarity = math.log(1 + (len(self._counts) - found + 0.5) / (found + 0.5))
            often = counts[word]
            total += rarity * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * length / self._mean))
        return total


def words_of(text: str) -> list[str]:
    """Return the words of a text or an identifier, lower case and without a plural's s: "listOpenIssues" has three."""
    found = (word.lower() for word in _WORD.findall(text))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in found]


class Catalogue:
    """The deferred tools, and what their servers say of themselves."""

    def __init__(self) -> None:
        self.tools: dict[str, McpTool] = {}
        self._order: list[McpTool] = []
        self._ranking = Ranking(())
        self._description = ""

    def fill(self, tools: Iterable[McpTool], abouts: Mapping[str, str]) -> None:
        """Hold `tools`, in place of those held before; the description of `tool_search` stays what it was first."""
        self._order = sorted(tools, key=lambda tool: tool.spec.name)
        self.tools = {tool.spec.name: tool for tool in self._order}
        self._ranking = Ranking(_document(tool) for tool in self._order)
        if not self._description:
            self._description = _describe(self._order, abouts)

    @property
    def description(self) -> str:
        return self._description

    def search(self, query: str, limit: int) -> list[McpTool]:
        """Return the best tools for `query`, best first; a tool's exact name or its server's name comes first."""
        named = [tool for tool in self._order if query.strip() in (tool.spec.name, tool.listed.name)]
        ranked = [self._order[at] for at in self._ranking.best(words_of(query), limit)]
        return list(dict.fromkeys([*named, *ranked]))[:limit]


class SearchArguments(msgspec.Struct, frozen=True):
    query: str
    limit: int = 5


class ToolSearch:
    """`tool_search`: tells the model about deferred tools."""

    parallel = True

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._spec = ToolSpec(
            name="tool_search",
            description=catalogue.description,
            parameters={
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What the tool should do, in a few words, or its name."},
                    "limit": {
                        "type": "integer",
                        "description": f"How many tools to list, at most {_LIMIT}; 5 if not given.",
                    },
                },
                "required": ["query"],
            },
        )

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    def parse(self, call: ToolCall) -> SearchArguments:
        args = decode_arguments(call, SearchArguments)
        if not args.query.strip():
            raise MalformedCall("tool_search: `query` is empty.")
        return SearchArguments(args.query, min(max(args.limit, 1), _LIMIT))

    def access(self, args: SearchArguments, cwd: Path) -> tuple[Access, ...]:
        return ()

    def begin(self, args: SearchArguments, item_id: str) -> OtherToolCall:
        shown = {"query": args.query, "limit": args.limit}
        return OtherToolCall(id=item_id, tool="tool_search", arguments=shown, status="in_progress")

    async def run(self, args: SearchArguments, context: ToolContext) -> Outcome:
        found = self._catalogue.search(args.query, args.limit)
        entries = [
            f"{tool.spec.name}\n{tool.spec.description}\nparameters: {encode(tool.spec.parameters).decode()}"
            for tool in found
        ]
        text = "\n\n".join(entries) or f"No tool matches; there are {len(self._catalogue.tools)}. Try other words."
        names = ", ".join(tool.spec.name for tool in found)
        item = msgspec.structs.replace(self.begin(args, context.item_id), status="completed", result=names)
        return Outcome(text, item)


class WrittenCall(msgspec.Struct, frozen=True):
    name: str
    arguments: dict[str, Any] | str = {}


class DeferredCall(msgspec.Struct, frozen=True):
    """A parsed call of `call_tool`: the tool meant, and its own arguments."""

    tool: McpTool
    args: Any


class CallTool:
    """`call_tool`: calls a tool that `tool_search` found; access, item and outcome are that tool's own."""

    # What it calls is not known before the call, so it counts as one that may write.
    parallel = False

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._spec = ToolSpec(
            name="call_tool",
            description="Calls a tool that tool_search listed.",
            parameters={
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "The tool's name as tool_search gave it."},
                    "arguments": {
                        "type": "object",
                        "properties": {},
                        "additionalProperties": True,
                        "description": "The tool's arguments, as its parameters say.",
                    },
                },
                "required": ["name", "arguments"],
            },
        )

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    def parse(self, call: ToolCall) -> DeferredCall:
        written = decode_arguments(call, WrittenCall)
        tool = self._catalogue.tools.get(written.name)
        if tool is None:
            near = ", ".join(tool.spec.name for tool in self._catalogue.search(written.name, 3))
            hint = f"Near it: {near}." if near else "Find one with tool_search."
            raise MalformedCall(f"There is no tool {written.name}. {hint}")
        inner = written.arguments if isinstance(written.arguments, str) else encode(written.arguments).decode()
        return DeferredCall(tool, tool.parse(FunctionCall(call_id=call.call_id, name=written.name, arguments=inner)))

    def access(self, args: DeferredCall, cwd: Path) -> tuple[Access, ...]:
        return args.tool.access(args.args, cwd)

    def begin(self, args: DeferredCall, item_id: str) -> ShownItem:
        return args.tool.begin(args.args, item_id)

    async def run(self, args: DeferredCall, context: ToolContext) -> Outcome:
        return await args.tool.run(args.args, context)


def _document(tool: McpTool) -> list[str]:
    properties = tool.spec.parameters.get("properties", {})
    parameters = [word for name in properties for word in words_of(name)]
    names = words_of(tool.listed.name) * _NAME_WEIGHT + words_of(tool.server)
    return [*names, *words_of(tool.spec.description), *parameters]


def _describe(tools: list[McpTool], abouts: Mapping[str, str]) -> str:
    counts = Counter(tool.server for tool in tools)
    lines = ["Finds tools of the connected MCP servers by what they do; call_tool calls them. Servers:"]
    for server, count in sorted(counts.items()):
        about = " ".join(abouts.get(server, "").split())[:160]
        lines.append(f"- {server} ({count} tools){': ' + about if about else ''}")
    text = "\n".join(lines)
    return text if len(text) <= _LIST_LIMIT else text[:_LIST_LIMIT] + "…"
