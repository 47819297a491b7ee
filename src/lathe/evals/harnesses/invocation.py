"""How Lathe is called in somebody else's sandbox: with none of its own, asking nobody, by one endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import msgspec

from lathe.protocol.codec import decode_event
from lathe.protocol.events import AgentMessage, ItemCompleted

INSTALL = Path(__file__).parent / "install.sh"
FOLDER = "/opt/lathe"
"""Where Lathe is installed in there."""
KEY_VARIABLE = "LATHE_HARNESS_KEY"
MEND = "mend"


class Endpoint(NamedTuple):
    """Where the model is asked: an address with its `/v1`, and the wire that it speaks."""

    base_url: str
    wire: str = "responses"


def install(folder: str, wheel: str, model: str) -> list[str]:
    """Return what installs the wheel in there, both files being in `folder`.

    The embedded engine runs tests with pytest: it takes the project's own, and this one where that has none.
    """
    more = ["pytest"] if model == MEND else []
    return ["/bin/sh", f"{folder}/{INSTALL.name}", FOLDER, f"{folder}/{wheel}", *more]


def command(model: str) -> list[str]:
    """Return what runs a task that is read from standard input; `model` is the endpoint's own name for it, or mend."""
    asked = MEND if model == MEND else f"harness/{model}"
    options = ["--json", "-s", "danger-full-access", "-a", "never", "-m", asked]
    return [f"{FOLDER}/bin/lathe", "exec", *options, "-"]


def environ(home: str, key: str = "") -> dict[str, str]:
    """Return the variables it needs. Threads lie in `home`/lathe and settings are read of `home`/config."""
    own = {"LATHE_HOME": f"{home}/lathe", "XDG_CONFIG_HOME": f"{home}/config", "LANG": "C.UTF-8"}
    return {**own, KEY_VARIABLE: key} if key else own


def settings(endpoint: Endpoint | None) -> str:
    """Return the text of `config/lathe/config.toml`."""
    if endpoint is None:
        return ""
    lines = [f"base_url = {json.dumps(endpoint.base_url)}", f"wire = {json.dumps(endpoint.wire)}"]
    return "\n".join(["[providers.harness]", *lines, f'key_env = "{KEY_VARIABLE}"', ""])


def last_words(events: str) -> str:
    """Return the agent's last message, of the lines that `lathe exec --json` printed; "" where it said nothing."""
    words = ""
    for line in events.splitlines():
        try:
            event = decode_event(line.encode())
        except (msgspec.DecodeError, UnicodeError):
            continue  # a line that was cut off
        if isinstance(event, ItemCompleted) and isinstance(event.item, AgentMessage):
            words = event.item.text
    return words
