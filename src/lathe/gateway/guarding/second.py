"""The second look: a model that this gateway serves judges what the topical monitor passes on, while the answer comes.

The request is sent meanwhile, and the first byte of its answer waits until it is cleared. Whoever waits for a stream is
told so in a comment of it, with what they may do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from lathe.guard.findings import Finding, Material, Part
from lathe.guard.reasoner_model import Judgement, ModelReasoner
from lathe.guard.reasoner_signs import targets_in
from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    from lathe.gateway.upstreams import Upstreams
    from lathe.guard.taxonomy import Taxonomy

_QUIET_S = 0.3
"""How long a stream waits before it says that it does."""


class SecondLook:
    """Asks a model; raises `ConfigError` where there is none of that name that can be asked."""

    def __init__(self, upstreams: Upstreams, model: str, taxonomy: Taxonomy, *, timeout_s: float = 8.0) -> None:
        served = upstreams.models.get(upstreams.names.get(model, ""))
        if served is None or all(route.upstream is None for route in upstreams.order(served)):
            raise ConfigError(f"[guard] reasoner: there is no model {model!r} with an upstream here.")
        self._upstreams = upstreams
        self._served = served
        self._taxonomy = taxonomy
        self._timeout_s = timeout_s

    async def judge(self, material: Material) -> Judgement:
        """Return its judgement; never raises for what the model does or fails to do."""
        route = next(one for one in self._upstreams.order(self._served) if one.upstream is not None)
        assert route.upstream is not None
        client = route.upstream.client(route.upstream.wires[0], route.info)
        judgement = await ModelReasoner(client, self._taxonomy, timeout_s=self._timeout_s).judge(material)
        return judgement._replace(findings=tuple(_aimed(one, material) for one in judgement.findings))


def _aimed(finding: Finding, material: Material) -> Finding:
    """Return a finding with the targets that the texts of its evidence name."""
    texts = [*material.parts, *(Part(one.id, one.arguments, "model") for one in material.calls)]
    parts = {span.part for span in finding.spans}
    named = [name for one in texts if one.id in parts for name in targets_in(one.text)]
    return msgspec.structs.replace(finding, evidence={**finding.evidence, "targets": list(dict.fromkeys(named))})


async def waited(task: asyncio.Task[None], tell: Callable[[bytes], Awaitable[None]] | None) -> None:
    """Wait until a second look is over, and `tell` a stream so when that takes its time; raise what it raises."""
    if tell is not None and not task.done():
        await asyncio.wait((task,), timeout=_QUIET_S)
        if not task.done():
            held = {"step": "hold", "why": "A second look at this request is under way.", "choices": ["wait", "drop"]}
            await tell(b": lathe.hold " + json.dumps(held).encode() + b"\n\n")
    await task
