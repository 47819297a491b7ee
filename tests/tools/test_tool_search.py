"""Ranking of tools by words."""

from lathe.tools.mcp import McpTool, ServerTool, tool_name
from lathe.tools.tool_search import Catalogue, Ranking, words_of


async def never(name, arguments, read_only):
    raise AssertionError


def catalogue(*listed):
    taken = set()
    found = Catalogue()
    found.fill(
        [
            McpTool(
                server,
                ServerTool(name, about, {"properties": properties}, False),
                tool_name(server, name, taken),
                never,
            )
            for server, name, about, properties in listed
        ],
        {"hub": "Code hosting.\nMore."},
    )
    return found


TOOLS = catalogue(
    ("hub", "create_issue", "Open a new issue in a repository.", {"title": {}, "body": {}}),
    ("hub", "listPullRequests", "List pull requests.", {"state": {}}),
    ("hub", "merge", "Merge a pull request.", {"sha": {}}),
    ("mail", "send", "Send a message to somebody.", {"recipientAddress": {}}),
    ("mail", "search", "Find messages. Says nothing of issues.", {"query": {}}),
)


def names(query, limit=5):
    return [tool.listed.name for tool in TOOLS.search(query, limit)]


def test_words_of_identifiers_are_split_and_plurals_are_singular():
    assert words_of("listPullRequests HTTPServer2 snake_case-kebab class") == [
        "list", "pull", "request", "http", "server", "2", "snake", "case", "kebab", "class",
    ]  # fmt: skip


def test_names_count_more_than_descriptions():
    assert names("issues")[0] == "create_issue"
    assert set(names("issues")) == {"create_issue", "search"}


def test_parameters_and_servers_are_found_too():
    assert names("recipient address") == ["send"]
    assert set(names("mail")) == {"send", "search"}


def test_an_exact_name_comes_first_and_nothing_is_found_for_strange_words():
    assert names("merge")[0] == "merge"
    assert names("mcp__hub__merge")[0] == "merge"
    assert names("quantum") == []
    assert names("") == []


def test_the_limit_holds():
    assert len(names("pull request message issue", 2)) == 2


def test_rare_words_weigh_more_and_equal_scores_keep_their_order():
    ranking = Ranking([["a", "b"], ["a", "c"], ["a", "b"]])
    assert ranking.best(["a", "c"], 3) == [1, 0, 2]
    assert Ranking([]).best(["a"], 3) == []
    assert Ranking([[], ["a"]]).best(["a"], 3) == [1]


def test_the_description_lists_the_servers_and_stays_the_same():
    first = TOOLS.description
    assert "- hub (3 tools): Code hosting. More." in first
    assert "- mail (2 tools)" in first
    TOOLS.fill(list(TOOLS.tools.values())[:5], {})
    assert TOOLS.description == first
