"""The baseline of `agent_overhead.py`: the least that an agent loop can be, on aiohttp. Not an agent.

usage: bare_loop.py BASE_URL
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp


async def main(base_url: str) -> None:
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]}]
    async with aiohttp.ClientSession() as session:
        while True:
            body = {"model": "scripted-1", "stream": True, "tools": [], "input": items}
            calls = []
            async with session.post(f"{base_url}/responses", json=body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        event = json.loads(line[6:])
                        if event["type"] == "response.output_item.done":
                            items.append(event["item"])
                            if event["item"]["type"] == "function_call":
                                calls.append(event["item"])
            if not calls:
                return
            for call in calls:
                command = json.loads(call["arguments"])["cmd"]
                process = await asyncio.create_subprocess_shell(
                    command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
                )
                output, _ = await process.communicate()
                text = f"exit {process.returncode}\n{output.decode()}"
                items.append({"type": "function_call_output", "call_id": call["call_id"], "output": text})


asyncio.run(main(sys.argv[1]))
