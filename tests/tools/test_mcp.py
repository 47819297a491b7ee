"""MCP servers, real ones: each test starts what it needs, and none leaves a process behind."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import pytest_asyncio

from lathe.protocol.errors import ConfigError
from lathe.protocol.items import CustomToolCall, FunctionCall, InputImage
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import CallExternal, MalformedCall, ToolContext
from lathe.tools.mcp import McpServer, servers_from, tool_name
from lathe.tools.mcp_pool import McpPool

SERVERS = str(Path(__file__).with_name("mcp_servers.py"))
PATIENCE_S = 30


def little(*mode, **fields):
    mode = mode or ("plain",)
    return McpServer(name=fields.pop("name", "little"), command=sys.executable, args=(SERVERS, *mode), **fields)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    return True


async def until(reached):
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.01)


def children():
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if "ps -o" not in line]


@pytest.fixture
def no_child_left():
    before = set(children())
    yield
    assert set(children()) <= before


@contextlib.asynccontextmanager
async def pool_of(*servers, **options):
    pool = McpPool(servers, **options)
    await pool.start()
    try:
        yield pool
    finally:
        pids = pool.pids()
        await pool.aclose()
        assert not [pid for pid in pids if is_running(pid)]


@pytest.fixture
def context(tmp_path):
    return ToolContext(
        cwd=tmp_path,
        policy=SandboxPolicy(),
        spill=tmp_path / "spill",
        item_id="item_1",
        show=lambda item: None,
        delta=lambda text: None,
        output_tokens=1_000,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    """One pool with one server for the tests that leave it as it was: a server takes a second to start."""
    async with pool_of(little()) as pool:
        await pool.tools()
        yield pool


in_one_loop = pytest.mark.asyncio(loop_scope="module")


async def run(tool, context, /, **arguments):
    call = FunctionCall(call_id="c", name=tool.spec.name, arguments=json.dumps(arguments))
    return await tool.run(tool.parse(call), context)


pytestmark = pytest.mark.usefixtures("no_child_left")


@in_one_loop
async def test_the_tools_of_a_stdio_server_are_offered_and_answer(shared, context):
    tools = {tool.spec.name: tool for tool in await shared.tools()}
    assert shared.problems() == ()
    add = tools["mcp__little__add"]
    assert add.spec.description == "Add two numbers."
    assert add.spec.parameters["properties"].keys() == {"a", "b"}
    outcome = await run(add, context, a=20, b=22)
    assert outcome.output == "42"
    assert outcome.item.status == "completed"
    assert (outcome.item.server, outcome.item.tool, outcome.item.arguments) == ("little", "add", {"a": 20, "b": 22})


async def test_a_tool_says_what_it_wishes_and_whether_it_only_reads(tmp_path):
    async with pool_of(little(tools=("add", "echo", "subtract"))) as pool:
        add, echo = await pool.tools()
        assert pool.problems() == ("MCP server little has no tool subtract.",)
        assert (add.parallel, echo.parallel) == (True, False)
        assert add.access(None, tmp_path) == (CallExternal(server="little", tool="add", read_only=True),)
        assert echo.access(None, tmp_path) == (CallExternal(server="little", tool="echo", read_only=False),)
        begun = echo.begin(echo.parse(FunctionCall(call_id="c", name="x", arguments='{"text": "a"}')), "item_9")
        assert (begun.id, begun.status, begun.arguments) == ("item_9", "in_progress", {"text": "a"})


@in_one_loop
async def test_every_kind_of_content_reaches_the_model(shared, context):
    text, image = (await run(shared.find("mcp__little__picture"), context)).output
    assert text.text == "a red dot"
    assert isinstance(image, InputImage)
    assert image.image_url.startswith("data:image/png;base64,iVBOR")
    assert (await run(shared.find("mcp__little__document"), context)).output == "the notes"
    facts = await run(shared.find("mcp__little__facts"), context)
    assert facts.output == '{"pi":3}'
    assert facts.item.result["structured_content"] == {"pi": 3}


@in_one_loop
async def test_an_error_of_a_tool_is_a_failed_item_with_its_message(shared, context):
    outcome = await run(shared.find("mcp__little__fail"), context, reason="the moon is full")
    assert outcome.item.status == "failed"
    assert "the moon is full" in outcome.item.error["message"]
    assert "the moon is full" in outcome.output


@in_one_loop
async def test_a_huge_answer_is_cut_for_the_model_and_kept_on_disk(shared, context):
    text = "\n".join(f"line {number}" for number in range(20_000))
    outcome = await run(shared.find("mcp__little__echo"), context, text=text)
    assert len(outcome.output) < 6_000
    assert (context.spill / "item_1.txt").read_text() == text
    assert str(context.spill / "item_1.txt") in outcome.output


@in_one_loop
async def test_arguments_that_are_no_object_are_malformed(shared):
    echo = shared.find("mcp__little__echo")
    for arguments in ("[1]", "{", '"x"', "3"):
        with pytest.raises(MalformedCall):
            echo.parse(FunctionCall(call_id="c", name="x", arguments=arguments))
    with pytest.raises(MalformedCall):
        echo.parse(CustomToolCall(call_id="c", name="x", input="text"))


async def test_a_server_gets_its_own_variables_and_folder_but_no_other_secret(context, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    monkeypatch.setenv("WEATHER_TOKEN", "sunny")
    (tmp_path / "sub").mkdir()
    server = little(env={"COLOUR": "blue", "TOKEN_FOR_IT": "env:WEATHER_TOKEN"}, cwd="sub")
    async with pool_of(server, cwd=tmp_path) as pool:
        await pool.tools()

        async def told(name):
            return (await run(pool.find("mcp__little__variable"), context, name=name)).output

        assert await told("COLOUR") == "blue"
        assert await told("TOKEN_FOR_IT") == "sunny"
        assert await told("OPENAI_API_KEY") == "(not set)"
        assert await told("WEATHER_TOKEN") == "(not set)"
        where = (await run(pool.find("mcp__little__where"), context)).output
        assert where.split()[0] == str(tmp_path / "sub")


@in_one_loop
async def test_calls_run_beside_each_other(shared, context, tmp_path):
    started = tmp_path / "started"
    waiting = asyncio.create_task(run(shared.find("mcp__little__wait"), context, started=str(started)))
    await until(started.exists)
    assert (await run(shared.find("mcp__little__add"), context, a=1, b=1)).output == "2"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await run(shared.find("mcp__little__add"), context, a=1, b=2)).output == "3"


async def test_a_call_that_lasts_too_long_fails_and_the_server_stays(context, tmp_path):
    async with pool_of(little(timeout_s=0.5)) as pool:
        await pool.tools()
        outcome = await run(pool.find("mcp__little__wait"), context, started=str(tmp_path / "started"))
        assert outcome.item.status == "failed"
        assert "no answer in 0.5 s" in outcome.output
        assert (await run(pool.find("mcp__little__add"), context, a=1, b=1)).output == "2"


async def test_a_server_that_died_is_started_again_once_and_then_reported(context):
    async with pool_of(little()) as pool:
        await pool.tools()
        die, add = pool.find("mcp__little__die"), pool.find("mcp__little__add")
        (first,) = pool.pids()
        outcome = await run(die, context, code=3)
        assert outcome.item.status == "failed"
        assert "ended while die ran" in outcome.output
        assert "the last words" in outcome.output
        assert "may or may not" in outcome.output
        assert not is_running(first)
        outcome = await run(die, context, code=3)
        assert "ended while die ran" in outcome.output
        outcome = await run(add, context, a=1, b=1)
        assert outcome.item.status == "failed"
        assert "is not started any more" in outcome.output
        assert pool.pids() == ()


async def test_a_server_killed_between_calls_answers_the_next_one(context):
    async with pool_of(little()) as pool:
        await pool.tools()
        (first,) = pool.pids()
        os.kill(first, signal.SIGKILL)
        assert (await run(pool.find("mcp__little__add"), context, a=1, b=1)).output == "2"
        assert pool.pids() not in ((first,), ())


async def test_a_reading_call_that_lost_its_server_is_asked_again(context, tmp_path):
    async with pool_of(little()) as pool:
        await pool.tools()
        outcome = await run(pool.find("mcp__little__die_once"), context, marker=str(tmp_path / "marker"))
        assert outcome.output == "still here"


async def test_a_server_that_hangs_at_the_start_is_given_up_and_ended(tmp_path):
    pid_file = tmp_path / "pid"
    async with pool_of(little("mute", str(pid_file), startup_timeout_s=1.0), little(name="good")) as pool:
        tools = await pool.tools()
        assert {tool.server for tool in tools} == {"good"}
        (problem,) = pool.problems()
        assert "was not ready in 1 s" in problem
        assert not pid_file.exists() or not is_running(int(pid_file.read_text()))


async def test_a_server_that_crashes_at_the_start_is_reported_with_its_words():
    async with pool_of(little("crash")) as pool:
        assert await pool.tools() == []
        (problem,) = pool.problems()
        assert "did not start" in problem
        assert "no licence found" in problem


async def test_a_command_that_does_not_exist_is_one_sentence():
    async with pool_of(McpServer(name="lost", command="no-such-program-here")) as pool:
        assert await pool.tools() == []
        (problem,) = pool.problems()
        assert problem.startswith("MCP server lost did not start: ")
        assert "no-such-program-here" in problem


async def test_a_missing_secret_is_one_sentence():
    async with pool_of(little(env={"TOKEN": "env:NOT_SET_ANYWHERE"})) as pool:
        assert await pool.tools() == []
        assert "NOT_SET_ANYWHERE, which is not set" in pool.problems()[0]


async def test_closing_in_the_middle_of_the_start_leaves_no_process(tmp_path):
    pid_file = tmp_path / "pids"
    pool = McpPool([little("stubborn", str(pid_file))])
    await pool.start()
    waiting = asyncio.create_task(pool.tools())
    await until(pid_file.exists)
    await until(pid_file.read_text)
    server, child = map(int, pid_file.read_text().split())
    waiting.cancel()
    await pool.aclose()
    await until(lambda: not is_running(server) and not is_running(child))


async def test_closing_before_the_start_began_leaves_nothing():
    pool = McpPool([little()])
    await pool.start()
    await pool.aclose()
    assert pool.pids() == ()


async def test_closing_at_any_moment_of_the_start_leaves_nothing(tmp_path):
    for moments in range(0, 24, 2):
        pool = McpPool([little("mute", str(tmp_path / "pid"))])
        await pool.start()
        for _ in range(moments):
            await asyncio.sleep(0)
        await pool.aclose()
        assert pool.pids() == ()
        gc.collect()  # a process let go of alive would be warned of here


async def test_a_cancelled_close_kills_at_once(tmp_path):
    pid_file = tmp_path / "pids"
    pool = McpPool([little("stubborn", str(pid_file))])
    await pool.start()
    await until(pid_file.exists)
    await until(pid_file.read_text)
    server, child = map(int, pid_file.read_text().split())
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until(lambda: not is_running(server) and not is_running(child))
    await pool.aclose()


LATHE = """
    import asyncio, sys
    from lathe.tools.mcp import McpServer
    from lathe.tools.mcp_pool import McpPool

    async def main():
        pool = McpPool([McpServer(name="s", command=sys.executable, args=tuple(sys.argv[1:]))])
        await pool.start()
        await pool.tools()

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
async def test_servers_end_with_a_lathe_that_could_not_close_them(tmp_path, number):
    pid_file = tmp_path / "pids"
    command = [sys.executable, "-c", textwrap.dedent(LATHE), SERVERS, "stubborn", str(pid_file)]
    lathe = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    await until(pid_file.exists)
    await until(pid_file.read_text)
    server, child = map(int, pid_file.read_text().split())
    lathe.send_signal(number)
    await asyncio.to_thread(lathe.wait)
    await until(lambda: not is_running(server) and not is_running(child))


async def test_a_streamable_http_server_is_used_with_its_headers(context, tmp_path, monkeypatch):
    monkeypatch.setenv("DOOR", "Bearer open-sesame")
    port_file = tmp_path / "port"
    web = subprocess.Popen([sys.executable, SERVERS, "http", str(port_file)])
    try:
        await until(port_file.exists)
        url = f"http://127.0.0.1:{port_file.read_text()}/mcp"
        async with pool_of(
            McpServer(name="web", url=url, headers={"Authorization": "env:DOOR"}),
            McpServer(name="shut", url=url, headers={"Authorization": "wrong"}),
        ) as pool:
            await pool.tools()
            (problem,) = pool.problems()
            assert problem.startswith("MCP server shut did not start")
            assert "HTTP status 401" in problem
            assert (await run(pool.find("mcp__web__add"), context, a=40, b=2)).output == "42"
            await run(pool.find("mcp__web__grow"), context)
            await until(lambda: pool.is_stale)
            assert "new: mcp__web__newcomer" in (await pool.refresh())[0]
    finally:
        web.terminate()
        web.wait()


async def test_an_http_server_that_went_away_is_reported_and_found_again(context, tmp_path, monkeypatch):
    monkeypatch.setenv("DOOR", "Bearer open-sesame")
    port_file = tmp_path / "port"
    web = subprocess.Popen([sys.executable, SERVERS, "http", str(port_file)])
    try:
        await until(port_file.exists)
        url = f"http://127.0.0.1:{port_file.read_text()}/mcp"
        async with pool_of(McpServer(name="web", url=url, headers={"Authorization": "env:DOOR"})) as pool:
            await pool.tools()
            web.kill()
            web.wait()
            for _ in range(3):
                outcome = await run(pool.find("mcp__web__echo"), context, text="hello")
                assert outcome.item.status == "failed"
                assert outcome.output.startswith("MCP server web ")
            web = subprocess.Popen([sys.executable, SERVERS, "http", str(port_file) + "2", port_file.read_text()])
            await until(Path(str(port_file) + "2").exists)
            assert (await run(pool.find("mcp__web__echo"), context, text="hello")).output == "hello"
    finally:
        web.kill()
        web.wait()


async def test_calls_that_lose_their_server_together_all_get_an_answer(context, tmp_path):
    async with pool_of(little()) as pool:
        await pool.tools()
        wait, add = pool.find("mcp__little__wait"), pool.find("mcp__little__add")
        markers = [tmp_path / f"started{number}" for number in range(3)]
        waiting = [asyncio.create_task(run(wait, context, started=str(marker))) for marker in markers]
        for marker in markers:
            await until(marker.exists)
        os.kill(pool.pids()[0], signal.SIGKILL)
        assert all("ended while wait ran" in outcome.output for outcome in await asyncio.gather(*waiting))
        adding = [run(add, context, a=number, b=1) for number in range(5)]
        assert [outcome.output for outcome in await asyncio.gather(*adding)] == ["1", "2", "3", "4", "5"]
        assert len(pool.pids()) == 1


async def test_sixty_tools_are_found_by_search_and_called_through_one(context):
    async with pool_of(little("many", name="many")) as pool:
        search, call = await pool.tools()
        assert (search.spec.name, call.spec.name) == ("tool_search", "call_tool")
        assert "many (60 tools): A warehouse." in search.spec.description
        found = await run(search, context, query="send a parcel to the customer", limit=3)
        assert found.output.startswith("mcp__many__createShipment\nSends a parcel to a customer.")
        assert '"destination"' in found.output
        outcome = await run(call, context, name="mcp__many__createShipment", arguments={"destination": "Rome"})
        assert outcome.output == "shipped to Rome"
        assert (outcome.item.server, outcome.item.tool) == ("many", "createShipment")
        exact = await run(search, context, query="mcp__many__shelf_7", limit=1)
        assert exact.output.startswith("mcp__many__shelf_7\n")
        nothing = await run(search, context, query="zebra")
        assert nothing.output.startswith("No tool matches")


async def test_a_deferred_tool_has_the_access_and_item_of_the_tool_itself(context, tmp_path):
    async with pool_of(little("many", name="many")) as pool:
        _, call = await pool.tools()
        written = json.dumps({"name": "mcp__many__shelf_3", "arguments": json.dumps({"item_id": "x"})})
        args = call.parse(FunctionCall(call_id="c", name="call_tool", arguments=written))
        assert call.access(args, tmp_path) == (CallExternal(server="many", tool="shelf_3"),)
        assert call.begin(args, "item_2").arguments == {"item_id": "x"}
        with pytest.raises(MalformedCall, match="mcp__many__shelf_3"):
            call.parse(FunctionCall(call_id="c", name="call_tool", arguments='{"name": "shelf 3", "arguments": {}}'))


async def test_the_head_of_the_request_stays_the_same_when_deferred_tools_change(context):
    async with pool_of(little(), direct_tools=3) as pool:
        before = [tool.spec for tool in await pool.tools()]
        assert [spec.name for spec in before] == ["tool_search", "call_tool"]
        call = (await pool.tools())[1]
        await run(call, context, name="mcp__little__grow", arguments={})
        await until(lambda: pool.is_stale)
        (said,) = await pool.refresh()
        assert said == "The tools of MCP server little have changed; new: mcp__little__newcomer."
        assert [tool.spec for tool in await pool.tools()] == before
        assert (await run(call, context, name="mcp__little__newcomer", arguments={})).output == "hello"
        assert await pool.refresh() == ()


async def test_without_servers_the_sdk_is_not_imported():
    code = """
        import asyncio, sys
        from lathe.tools.mcp_pool import McpPool

        async def main():
            pool = McpPool([])
            await pool.start()
            assert await pool.tools() == []
            await pool.aclose()

        asyncio.run(main())
        assert not {"mcp", "anyio", "pydantic", "lathe.tools.mcp_connection"} & set(sys.modules)
    """
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_names_fit_every_wire_and_stay_different():
    taken = set()
    names = [
        tool_name("s", tool, taken) for tool in ("a b", "a.b", "a_b", "x" * 90, "x" * 91, "größe", "größe", "\udcff")
    ]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 and name.isascii() and name.replace("_", "").isalnum() for name in names)
    assert names[0] == "mcp__s__a_b"


def test_configuration_is_read_into_servers():
    tables = {
        "files": {"command": "npx", "args": ["-y", "files"], "tools": ["read"], "startup_timeout_s": 60},
        "web": {"url": "https://example.org/mcp", "headers": {"Authorization": "env:TOKEN"}},
        "off": {"command": "x", "enabled": False},
    }
    files, web = servers_from(tables, "config.toml")
    assert files == McpServer(
        name="files", command="npx", args=("-y", "files"), tools=("read",), startup_timeout_s=60.0
    )
    assert web.headers == {"Authorization": "env:TOKEN"}


def test_the_example_of_the_documentation_is_valid():
    text = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()
    tables = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])["mcp"]
    files, tickets = servers_from(tables, "docs/mcp.md")
    assert files.tools == ("read_file", "list_directory")
    assert tickets.timeout_s == 60


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"command": "a", "url": "b"},
        {"command": ["a"]},
        {"comand": "a"},
        {"command": "a", "timeout_s": "soon"},
        "a string",
    ],
)
def test_wrong_configuration_names_the_file_and_the_key(table):
    with pytest.raises(ConfigError, match=r"mcp\.it in config\.toml"):
        servers_from({"it": table}, "config.toml")
