"""An MCP server on the official SDK, for the tests: `mcp_servers.py MODE [ARGUMENT]`.

Modes: `plain`, `many`, `mute` (never answers), `stubborn` (also ignores SIGTERM and has a child), `crash`
(ends at once, with words on stderr), `http PORT_FILE [PORT]`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def build():
    import asyncio
    import base64

    from mcp.server.mcpserver import Context, Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import CallToolResult, EmbeddedResource, TextResourceContents, ToolAnnotations

    server = MCPServer("little", instructions="Arithmetic and mishaps.")
    reads = ToolAnnotations(read_only_hint=True)

    @server.tool(annotations=reads)
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool(structured_output=False)
    def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool(structured_output=False)
    def picture() -> list:
        """A word and a picture."""
        return ["a red dot", Image(data=base64.b64decode(PIXEL), format="png")]

    @server.tool()
    def fail(reason: str) -> str:
        """Fail."""
        raise ToolError(reason)

    @server.tool(structured_output=False)
    def variable(name: str) -> str:
        """Tell a variable of the environment."""
        return os.environ.get(name, "(not set)")

    @server.tool(structured_output=False)
    def where() -> str:
        """Tell the working directory and the process."""
        return f"{Path.cwd()} {os.getpid()}"

    @server.tool()
    def document() -> CallToolResult:
        """Give an embedded resource."""
        resource = TextResourceContents(uri="file:///notes.txt", text="the notes", mime_type="text/plain")
        return CallToolResult(content=[EmbeddedResource(resource=resource)])

    @server.tool()
    def facts() -> CallToolResult:
        """Give structured content and no text."""
        return CallToolResult(content=[], structured_content={"pi": 3})

    @server.tool(structured_output=False)
    def die(code: int) -> str:
        """End the process at once."""
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os._exit(code)

    @server.tool(annotations=reads, structured_output=False)
    def die_once(marker: str) -> str:
        """End the process unless the marker file is there, and make it."""
        if not Path(marker).exists():
            Path(marker).touch()
            os._exit(1)
        return "still here"

    @server.tool(structured_output=False)
    async def wait(started: str) -> str:
        """Wait for ever."""
        Path(started).touch()
        await asyncio.Event().wait()
        return ""

    @server.tool(structured_output=False)
    async def grow(ctx: Context) -> str:
        """Offer one tool more."""

        def newcomer() -> str:
            """Came later."""
            return "hello"

        server.add_tool(newcomer, structured_output=False)
        await ctx.session.send_tool_list_changed()
        await ctx.notify_tools_changed()
        return "grown"

    return server


def build_many():
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("many", instructions="A warehouse.")

    def make(number: int):
        def tool(item_id: str) -> str:
            return f"tool {number} got {item_id}"

        return tool

    for number in range(59):
        server.add_tool(make(number), name=f"shelf_{number}", description=f"Looks at shelf number {number}.")

    def ship(destination: str) -> str:
        return f"shipped to {destination}"

    server.add_tool(ship, name="createShipment", description="Sends a parcel to a customer.")
    return server


def serve_http(port_file: str, wanted: str = "0") -> None:
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", int(wanted)))
    port = listener.getsockname()[1]
    app = build().streamable_http_app()

    async def guarded(scope, receive, send):
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != b"Bearer open-sesame":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    Path(port_file + ".new").write_text(str(port))
    Path(port_file + ".new").rename(port_file)
    uvicorn.Server(uvicorn.Config(guarded, log_level="critical", timeout_graceful_shutdown=1)).run(sockets=[listener])


def main() -> None:
    match sys.argv[1:]:
        case ["plain"]:
            print("Welcome! This line is no message of the protocol.", flush=True)
            build().run()
        case ["many"]:
            build_many().run()
        case ["mute", pid_file]:
            Path(pid_file).write_text(str(os.getpid()))
            for _ in sys.stdin:
                pass
        case ["stubborn", pid_file]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(pid_file).write_text(f"{os.getpid()} {child.pid}")
            while True:
                time.sleep(600)
        case ["crash"]:
            sys.exit("no licence found")
        case ["http", *port]:
            serve_http(*port)


if __name__ == "__main__":
    main()
