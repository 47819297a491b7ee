"""What the gateway's dialects cost, in microseconds: a request's head, a chunk that is watched, a body that is read.

    python benchmarks/gateway_dialects.py [--json] [--check]

The baseline beside each figure is the same bytes decoded whole by msgspec. Each is the least of many runs, so that
what else the machine does counts for little; `--check` exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import timeit
from collections.abc import Callable

import msgspec

from lathe.gateway.dialects import DIALECTS, estimate_tokens
from lathe.gateway.dialects.watcher import Watcher

TURN = {"role": "user", "content": 'Run "make test" and say what fails.\n' * 20}
BODY = json.dumps({"model": "m", "stream": True, "messages": [TURN] * 60, "tools": [], "max_tokens": 5}).encode()
CHUNKS = {
    "chat": b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1694268190,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n',
    "messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":"Hello there everyone, how are you today and tomorrow"}}\n\n',
    "responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,'
    b'"item_id":"msg_67cb32528d6881909eb2859a55e18a85","output_index":0,"content_index":0,"delta":"Hi"}\n\n',
}
BARS_US = {"head": 50.0, "watch": 3.0}


def least_us(work: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(work, number=number, repeat=200)) / number * 1e6


def measured() -> list[tuple[str, float, float, float | None]]:
    """Return name, figure, baseline and bar of each measurement."""
    chat = DIALECTS["chat"]
    head = chat.head(BODY)
    whole = least_us(lambda: msgspec.json.decode(BODY), 40)
    size = f"{len(BODY) // 1000} KB"
    rows: list[tuple[str, float, float, float | None]] = [
        (f"head of {size}", least_us(lambda: chat.head(BODY), 40), whole, BARS_US["head"]),
        (f"retitle {size}", least_us(lambda: chat.retitle(BODY, "other", head), 40), whole, None),
        (f"estimate tokens of {size}", least_us(lambda: estimate_tokens(BODY, head.fields), 40), whole, None),
        (f"read {size} into items", least_us(lambda: chat.parse(BODY, head), 40), whole, None),
    ]
    for wire, chunk in CHUNKS.items():
        watcher = Watcher(wire)  # type: ignore[arg-type]
        data = chunk.split(b"data: ")[1]
        baseline = least_us(lambda data=data: msgspec.json.decode(data), 2000)  # type: ignore[misc]
        figure = least_us(lambda chunk=chunk, watcher=watcher: watcher.feed(chunk), 2000)  # type: ignore[misc]
        rows.append((f"watch a chunk of {wire}", figure, baseline, BARS_US["watch"]))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    options = parser.parse_args()
    rows = measured()
    if options.json:
        print(json.dumps([dict(zip(("name", "us", "decoded_us", "bar_us"), row, strict=True)) for row in rows]))
    else:
        print(f"{'':32}{'µs':>9}{'decoded':>9}{'bar':>7}")
        for name, figure, baseline, bar in rows:
            print(f"{name:32}{figure:9.2f}{baseline:9.2f}{'' if bar is None else f'{bar:g}':>7}")
    missed = [row for row in rows if row[3] is not None and row[1] > row[3]]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
