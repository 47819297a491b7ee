"""Scripted turns that every wire must give the same way: data only."""

from __future__ import annotations

from typing import Any

import msgspec

from lathe.models.base import ToolSpec
from lathe.models.script import Call, Foreign, FreeformCall, Refuse, Step, Thought, Tokens, Words
from lathe.protocol.errors import ContextOverflow, LatheError, ModelRejected, ModelUnreachable
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    Reasoning,
    ReasoningText,
    assistant_message,
    developer_message,
    user_message,
)

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
LINK = "https://example.com/chart.png"

PATCH = (
    "*** Begin Patch\n*** Update File: naïve.py\n@@ def f():\n-    return \"\\n\"\n+    return '🦀\\t'\n*** End Patch"
)

TOOLS = (
    ToolSpec(
        name="exec_command",
        description="Runs a command.",
        parameters={"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
    ),
    ToolSpec(name="apply_patch", description="Changes files.", parameters={}, freeform=True),
    ToolSpec(name="list_plan", description="Shows the plan.", parameters={"type": "object", "properties": {}}),
)

ASK = user_message("Do it.")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


class Turn(msgspec.Struct, frozen=True):
    """`steps` is what the server does; each answer's calls are answered, and `then` has what is added after it.

    `answers` are outputs by call id, "ok" elsewhere. `fails` is the error that the last request ends with.
    `loose` turns say text after calls or thoughts after text, which Chat Completions has no place for: their
    words are compared without their place. `same_ids` turns have a call id more than once.
    """

    name: str
    steps: tuple[Step, ...]
    begin: tuple[Item, ...] = (ASK,)
    answers: dict[str, str | tuple[ContentPart, ...]] = {}
    then: tuple[tuple[Item, ...], ...] = ()
    fails: tuple[type[LatheError], str] | None = None
    retries: int = 0
    loose: bool = False
    same_ids: bool = False
    schema: dict[str, Any] | None = None


def run(cmd: str, call_id: str = "") -> Call:
    return Call("exec_command", f'{{"cmd": "{cmd}"}}', call_id)


def says(*said: Any, **rest: Any) -> Step:
    return Step(say=said, **rest)


END = says(Words("Done."))

HISTORY: tuple[Item, ...] = (
    user_message("First question."),
    Reasoning(content=(ReasoningText("Thought elsewhere."),), encrypted_content="not-yours", source="elsewhere"),
    assistant_message("I will look."),
    FunctionCall(call_id="old_1", name="exec_command", arguments='{"cmd": "ls"}'),
    CustomToolCall(call_id="old_2", name="apply_patch", input=PATCH),
    FunctionCallOutput(call_id="old_1", output="a\nb"),
    CustomToolCallOutput(call_id="old_2", output="patched"),
    assistant_message("There it is."),
    user_message("Second question."),
)

FINE: tuple[Turn, ...] = (
    Turn("a plain answer", (says(Words("All is well.")),)),
    Turn("one call and its output", (says(run("ls", "c1")), END), answers={"c1": "a.py\nb.py"}),
    Turn(
        "parallel calls",
        (says(run("a", "p1"), run("b", "p2"), run("c", "p3")), END),
        answers={"p1": "first", "p2": "second", "p3": "third"},
    ),
    Turn("twelve calls in sequence", (*(says(Words(f"{n}"), run(f"echo {n}")) for n in range(12)), END)),
    Turn("several texts", (says(Words("First. "), Words("Second. "), run("ls")), END)),
    Turn("several parts of one message", (says(Words("One, "), Words("two.", same_message=True)), END), then=((ASK,),)),
    Turn("text after a call", (says(Words("Before. "), run("ls"), Words("After.")), END), loose=True),
    Turn("text and thoughts in turns", (says(Thought("t1"), Words("w1 "), Thought("t2"), Words("w2")),), loose=True),
    Turn("a thought and a call", (says(Thought("I should look first."), run("ls")), END)),
    Turn("raw reasoning", (says(Thought("As it went.", raw=True), run("ls")), END)),
    Turn("an encrypted thought", (says(Thought("In short.", "ENC+/=" * 40), Words("Well. "), run("ls")), END)),
    Turn("a thought that shows nothing", (says(Thought("", "REDACTED=="), run("ls")), END)),
    Turn("a thought with a signature alone", (says(Thought("", "SIGNED==", raw=True), run("ls")), END)),
    Turn("a freeform call", (says(FreeformCall("apply_patch", PATCH, "f1")), END), answers={"f1": "Success."}),
    Turn(
        "a freeform call beside a function call",
        (says(run("ls", "a1"), FreeformCall("apply_patch", PATCH, "a2")), END),
    ),
    Turn("malformed arguments", (says(Call("exec_command", '{"cmd": "ls', "m1")), END), answers={"m1": "not JSON"}),
    Turn("arguments that are no object", (says(Call("exec_command", '["ls"]', "m2")), END)),
    Turn("an unknown tool", (says(Call("no_such_tool", '{"x": 1}', "u1")), END), answers={"u1": "no such tool"}),
    Turn("a call without arguments", (says(Call("list_plan", "{}", "z1")), END)),
    Turn(
        "arguments kept to the letter",
        (says(Call("exec_command", '{ "cmd" : "l\\u0073 \\"é\\" 🦀",  "n": 1.10, "big": 12345678901234567890 }')), END),
    ),
    Turn("a call id that comes again", (says(run("a", "same")), says(run("b", "same")), END), same_ids=True),
    Turn("a call id twice in one answer", (says(run("a", "same"), run("b", "same")), END), same_ids=True),
    Turn("empty text beside a call", (says(Words(""), run("ls")), END)),
    Turn("an answer that says nothing", (says(), END), then=((user_message("Go on."),),)),
    Turn("a refusal", (says(Refuse("I can't help with that.")), END), then=((user_message("Something else."),),)),
    Turn("a length stop", (says(Words("This goes on and"), stop="length"), END), then=((user_message("Go on."),),)),
    Turn("huge output text", (says(Words("0123456789abcdef" * 25_000), delta_chars=4096),)),
    Turn("a huge argument", (says(Call("exec_command", '{"cmd": "' + "x" * 300_000 + '"}'), delta_chars=4096), END)),
    Turn(
        "unicode split anywhere", (says(Words("naïve 🦀 日本語 e\u0301 \u2028 end"), run("ls"), fragment_bytes=1), END)
    ),
    Turn("lines that end in CR and LF", (says(Words("a\r\nb"), run("ls"), crlf=True, fragment_bytes=1), END)),
    Turn("one character a delta", (says(Words('ab🦀\n\tc\\d"e'), run("l\\\\s"), delta_chars=1), END)),
    Turn("usage with cached tokens", (says(run("ls"), usage=Tokens(5000, 4096, 300, 256, 512)), END)),
    Turn("no usage at all", (says(Words("Free."), usage=None),)),
    Turn("an image in the input", (END,), begin=(user_message("See:", (InputImage(PIXEL), InputImage(LINK))),)),
    Turn(
        "an image in a tool's output",
        (says(Call("view_image", '{"path":"a.png"}', "i1")), END),
        answers={"i1": (InputText("a.png"), InputImage(PIXEL))},
    ),
    Turn(
        "images in the outputs of parallel calls",
        (
            says(Call("view_image", '{"path":"a"}', "i1"), Call("view_image", '{"path":"b"}', "i2"), run("ls", "i3")),
            END,
        ),
        answers={"i1": (InputImage(PIXEL),), "i2": (InputText("b"), InputImage(DOT))},
    ),
    Turn("long tool output", (says(run("cat", "l1")), END), answers={"l1": "línea\n" * 40_000}),
    Turn(
        "tool output of strange characters",
        (says(run("cat", "s1")), END),
        answers={"s1": '\x00\x07\x1b[31m"quoted" \\ \r\n\u2028\ufffd\U0001f980 </script> {"a": [1]}'},
    ),
    Turn("empty tool output", (says(run("true", "e1")), END), answers={"e1": ""}),
    Turn("an output schema", (says(Words('{"answer": "42"}')),), schema=SCHEMA),
    Turn(
        "developer messages",
        (says(run("ls")), says(Words("Yes.")), END),
        begin=(developer_message("The working directory is /w."), ASK),
        then=((developer_message("The sandbox is read-only now."),), (user_message("And?"),)),
    ),
    Turn("steering beside tool output", (says(run("ls")), END), then=((user_message("Wait, also do this."),),)),
    Turn(
        "an item of the provider's own",
        (
            says(
                Foreign(
                    "responses", {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"q": "é"}}
                ),
                Foreign(
                    "messages", {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "é"}}
                ),
                Words("Found it. "),
                run("ls"),
            ),
            END,
        ),
    ),
    Turn(
        "two turns in one thread",
        (
            says(Thought("hm", "E1"), run("ls")),
            says(Words("First done.")),
            says(run("pwd")),
            says(Words("Second done.")),
        ),
        then=((), (user_message("And the second?"),)),
    ),
    Turn("a thread from elsewhere", (says(run("ls")), END), begin=HISTORY),
    Turn("two messages of the person in a row", (END,), begin=(user_message("One."), user_message("Two."))),
    Turn(
        "a message of many parts",
        (END,),
        begin=(Message("user", (InputText("a"), InputImage(DOT), InputText("b"), InputImage(PIXEL), InputText("c"))),),
    ),
)

MENDED: tuple[Turn, ...] = (
    Turn("a stream cut after some events", (says(Words("Half a"), run("x"), cut_after_events=4), END), retries=1),
    Turn("a stream cut inside an event", (says(run("x"), cut_after_bytes=301), says(run("ls")), END), retries=1),
    Turn("a stream cut before anything", (says(cut_after_bytes=0), END), retries=1),
    Turn(
        "a stream whose connection just ends", (says(Words("H"), until_close=True, cut_after_events=2), END), retries=1
    ),
    Turn("a stream that ends with its connection", (says(Words("H"), until_close=True), END), then=((ASK,),)),
    Turn("too many requests", (Step(error="rate_limit", headers={"retry-after": "0"}), END), retries=1),
    Turn(
        "too many requests, in milliseconds",
        (Step(error="rate_limit", headers={"retry-after-ms": "1"}), END),
        retries=1,
    ),
    Turn("a server error and then an overload", (Step(error="server"), Step(error="overloaded"), END), retries=2),
    Turn("a time-out and then a conflict", (Step(error="timeout"), Step(error="conflict"), END), retries=2),
    Turn("an error in the stream", (says(Words("Half"), error="server", in_stream=True), END), retries=1),
    Turn("an overload in the stream", (says(Words("Half"), error="overloaded", in_stream=True), END), retries=1),
    Turn(
        "an event that is no JSON",
        (says(Words("x"), garbage="data: {oops\n\n", garbage_after_events=2), END),
        retries=1,
    ),
    Turn(
        "a page in place of an answer",
        (Step(body="<html>busy</html>", headers={"content-type": "text/html"}), END),
        retries=1,
    ),
    Turn("keep-alive comments", (says(run("ls"), garbage=": keep-alive\n\n", garbage_after_events=2), END)),
    Turn("a stall that ends", (says(run("ls"), stall_s=0.005, stall_after_events=3, delay_s=0.005), END)),
    Turn("retry in the middle of a thread", (says(run("ls")), Step(error="server"), says(run("pwd")), END), retries=1),
)

FAILING: tuple[Turn, ...] = (
    Turn("a wrong key", (Step(error="auth"),), fails=(ModelRejected, "model_key")),
    Turn("no such model", (Step(error="not_found"),), fails=(ModelRejected, "no_such_model")),
    Turn("a bad request", (Step(error="bad_request"),), fails=(ModelRejected, "model_rejected")),
    Turn("an empty account", (Step(error="quota"),), fails=(ModelRejected, "quota")),
    Turn(
        "a context too long",
        (says(run("ls")), Step(error="context_length")),
        fails=(ContextOverflow, "context_overflow"),
    ),
    Turn(
        "a context too long, said in the stream",
        (Step(error="context_length", in_stream=True),),
        fails=(ContextOverflow, "context_overflow"),
    ),
    Turn(
        "an endpoint that is always down",
        (Step(error="server"),) * 4,
        retries=3,
        fails=(ModelUnreachable, "model_unreachable"),
    ),
)

TURNS = (*FINE, *MENDED, *FAILING)
