"""The vendors' own Python libraries, unmodified, each driving a small agent through the gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import repair
from serving import Models, Served

from lathe.models.script import WIRES, Call

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
EDIT = f"sed -i 's|{repair.WRONG.strip()}|{repair.RIGHT.strip()}|' mean.py"


def act(arguments: str | dict[str, Any], folder: Path) -> str:
    """Do what the model asks for."""
    command = (json.loads(arguments) if isinstance(arguments, str) else arguments)["command"]
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


CHAT_TOOLS: list[Any] = [{"type": "function", "function": {"name": "run", "parameters": SCHEMA}}]


def answered(message: Any, folder: Path) -> list[Any]:
    """The messages that a Chat answer adds: itself, and what its calls come to."""
    said = [
        {"role": "tool", "tool_call_id": call.id, "content": act(call.function.arguments, folder)}
        for call in message.tool_calls or ()
    ]
    return [message.to_dict(), *said]


def chat(client: openai.OpenAI, model: str, folder: Path) -> str:
    messages: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        with client.chat.completions.stream(model=model, messages=messages, tools=CHAT_TOOLS) as stream:
            message = stream.get_final_completion().choices[0].message
        messages += answered(message, folder)
        if not message.tool_calls:
            return message.content or ""


async def chat_async(client: openai.AsyncOpenAI, model: str, folder: Path) -> str:
    messages: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        done = await client.chat.completions.create(model=model, messages=messages, tools=CHAT_TOOLS)
        message = done.choices[0].message
        messages += answered(message, folder)
        if not message.tool_calls:
            return message.content or ""


RESPONSES_TOOLS: list[Any] = [{"type": "function", "name": "run", "parameters": SCHEMA, "strict": False}]


def outputs(answer: Any, folder: Path) -> Iterable[Any]:
    for item in answer.output:
        if item.type == "function_call":
            said = act(item.arguments, folder)
            yield {"type": "function_call_output", "call_id": item.call_id, "output": said}


def responses(client: openai.OpenAI, model: str, folder: Path) -> str:
    items: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        with client.responses.stream(model=model, input=items, tools=RESPONSES_TOOLS, store=False) as stream:
            answer = stream.get_final_response()
        items += [item.to_dict() for item in answer.output]
        more = list(outputs(answer, folder))
        if not more:
            return answer.output_text
        items += more


async def responses_async(client: openai.AsyncOpenAI, model: str, folder: Path) -> str:
    items: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        answer = await client.responses.create(model=model, input=items, tools=RESPONSES_TOOLS, store=False)
        items += [item.to_dict() for item in answer.output]
        more = list(outputs(answer, folder))
        if not more:
            return answer.output_text
        items += more


MESSAGES_TOOLS: list[Any] = [{"name": "run", "input_schema": SCHEMA}]


def results(answer: Any, folder: Path) -> list[Any]:
    return [
        {"type": "tool_result", "tool_use_id": block.id, "content": act(block.input, folder)}
        for block in answer.content
        if block.type == "tool_use"
    ]


def messages(client: anthropic.Anthropic, model: str, folder: Path) -> str:
    said: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        with client.messages.stream(model=model, max_tokens=2000, messages=said, tools=MESSAGES_TOOLS) as stream:
            answer = stream.get_final_message()
        said.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        more = results(answer, folder)
        if not more:
            return "".join(block.text for block in answer.content if block.type == "text")
        said.append({"role": "user", "content": more})


async def messages_async(client: anthropic.AsyncAnthropic, model: str, folder: Path) -> str:
    said: list[Any] = [{"role": "user", "content": repair.TASK}]
    while True:
        answer = await client.messages.create(model=model, max_tokens=2000, messages=said, tools=MESSAGES_TOOLS)
        said.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        more = results(answer, folder)
        if not more:
            return "".join(block.text for block in answer.content if block.type == "text")
        said.append({"role": "user", "content": more})


AGENTS: dict[str, tuple[Any, Any]] = {
    "chat": (openai.OpenAI, chat),
    "chat async": (openai.AsyncOpenAI, chat_async),
    "responses": (openai.OpenAI, responses),
    "responses async": (openai.AsyncOpenAI, responses_async),
    "messages": (anthropic.Anthropic, messages),
    "messages async": (anthropic.AsyncAnthropic, messages_async),
}


@pytest.mark.parametrize("upstream", WIRES)
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_on_a_vendors_library_completes_its_task(
    agent: str, upstream: str, gateway: Served, models: Models, tmp_path: Path
) -> None:
    made, work = AGENTS[agent]
    wire = agent.split()[0]
    folder = repair.repository(tmp_path / "ws")
    models.play(repair.script(*(Call("run", json.dumps({"command": each})) for each in (repair.COMMAND, EDIT))))
    mark = gateway.mark()
    base = gateway.url if wire == "messages" else f"{gateway.url}/v1"
    client = made(api_key=gateway.key, base_url=base, max_retries=0)
    model = f"scripted-{upstream}"
    if agent.endswith("async"):

        async def whole() -> str:
            async with client:
                said: str = await work(client, model, folder)
                return said

        said = asyncio.run(whole())
    else:
        with client:
            said = work(client, model, folder)
    assert said == "The test passes now."
    repair.check(folder, models, gateway, mark, model)
