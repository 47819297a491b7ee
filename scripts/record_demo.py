"""Run `make demo`'s program in a pseudo-terminal and draw what it wrote, line by line in time, as an animated SVG.

Run by hand where the demo's output changed: `python scripts/record_demo.py`, with the extra `docs` installed. The run
is real; only its pace is changed: a pause is cut to `LONGEST_S`, and lines that came at once are spread by `LEAST_S`.
Without animation (print, reduced motion) the picture shows the last screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS, ROWS = 110, 34
LONGEST_S, LEAST_S, LAST_S = 1.2, 0.1, 8.0
CELL, LINE, PAD, BAR = 8.4, 19, 14, 30
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
BACK, FRONT, FAINT, EDGE = "#12161d", "#d7dde5", "#8a94a3", "#39414d"
THEME = TerminalTheme(
    (18, 22, 29),
    (215, 221, 229),
    [
        *((72, 79, 88), (255, 123, 114), (99, 201, 122), (222, 178, 84)),
        *((121, 172, 255), (207, 154, 255), (86, 200, 214), (215, 221, 229)),
    ],
)


class Line(NamedTuple):
    """A line of the terminal, at most `COLUMNS` wide, and the second at which it was there."""

    at: float
    text: Text


def main() -> int:
    """Record, draw and write the picture; return the demo's exit code."""
    command = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    raw, code = record(command)
    if code == 0:
        lines = paced(raw)
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(draw(lines, "make demo"), encoding="utf-8")
        print(f"{PICTURE.relative_to(ROOT)}: {len(lines)} lines, {PICTURE.stat().st_size / 1000:.0f} KB")
    return code


def record(command: list[str]) -> tuple[list[tuple[float, bytes]], int]:
    """Run `command` on a terminal of its own; return its output lines with their times, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ = {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True, close_fds=True
    )
    os.close(slave)
    started, lines, rest = time.monotonic(), [], b""
    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # Linux answers EIO when the last writer has gone
            data = b""
        if not data:
            break
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        *whole, rest = (rest + data).split(b"\n")
        now = time.monotonic() - started
        lines += [(now, line.rstrip(b"\r")) for line in whole]
    os.close(master)
    return lines, process.wait()


def paced(raw: list[tuple[float, bytes]]) -> list[Line]:
    """Return the lines as a terminal folds them, at a pace that can be read."""
    decoder = AnsiDecoder()
    lines: list[Line] = []
    at, before = 0.0, 0.0
    for when, data in raw:
        at += min(max(when - before, LEAST_S), LONGEST_S)
        before = when
        text = decoder.decode_line(data.decode("utf-8", "replace"))
        text.rstrip()
        lines += [Line(at, part) for part in text.divide(range(COLUMNS, max(len(text), 1), COLUMNS))]
    while lines and not lines[0].text.plain:
        del lines[0]
    return lines


def draw(lines: list[Line], title: str) -> str:
    """Return the SVG: all lines in one column that moves up behind a window, and a cover over what is yet to come."""
    width, height = COLUMNS * CELL + 2 * PAD, BAR + ROWS * LINE + 2 * PAD
    length = lines[-1].at + LAST_S
    scroll, cover = [], []
    for number, line in enumerate(lines, 1):
        moment = 100 * line.at / length
        if number <= ROWS:
            cover.append(f"{moment:.2f}%{{transform:translateY({number * LINE}px)}}")
        else:
            scroll.append(f"{moment:.2f}%{{transform:translateY({-(number - ROWS) * LINE}px)}}")
    last = -max(len(lines) - ROWS, 0) * LINE
    style = f"""
text{{font:14px {FONT};fill:{FRONT};white-space:pre}}
.b{{font-weight:600}} .d{{fill:{FAINT}}}
.s{{transform:translateY({last}px);animation:s {length:.2f}s step-end infinite}}
.c{{transform:translateY({ROWS * LINE}px);animation:c {length:.2f}s step-end infinite}}
@keyframes s{{0%{{transform:translateY(0)}}{"".join(scroll)}}}
@keyframes c{{0%{{transform:translateY(0)}}{"".join(cover)}}}
@media (prefers-reduced-motion:reduce){{.s,.c{{animation:none}}}}
"""
    rows = "\n".join(row for number, line in enumerate(lines) for row in draw_line(line.text, number))
    top = BAR + PAD
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">
<title>{escape(title)}: a recorded run</title>
<style>{style}</style>
<clipPath id="w"><rect x="0" y="0" width="{width:g}" height="{ROWS * LINE}"/></clipPath>
<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="9" fill="{BACK}" stroke="{EDGE}"/>
<path d="M1 {BAR}H{width - 1:g}" stroke="{EDGE}"/>
<text class="d" x="{width / 2:g}" y="20" text-anchor="middle" style="font-size:13px">{escape(title)}</text>
<g transform="translate(0 {top})" clip-path="url(#w)">
<g class="s">
{rows}
</g>
<rect class="c" x="1" y="0" width="{width - 2:g}" height="{ROWS * LINE}" fill="{BACK}"/>
</g>
</svg>
"""


def draw_line(text: Text, number: int) -> Iterator[str]:
    """Yield one `<text>` for each run of one style; its length is fixed, so that any font keeps the columns."""
    column, base = 0, number * LINE + 14
    for part in text.divide(sorted({edge for span in text.spans for edge in (span.start, span.end)})):
        plain, width = part.plain, cell_len(part.plain)
        if plain.strip():
            lead = len(plain) - len(plain.lstrip())
            shown = plain.strip()
            x, span = PAD + (column + lead) * CELL, cell_len(shown) * CELL
            look = attributes(Style.combine([Style(), *(Style.parse(str(one.style)) for one in part.spans)]))
            yield f'<text x="{x:.1f}" y="{base}" textLength="{span:.1f}"{look}>{escape(shown, quote=False)}</text>'
        column += width


def attributes(style: Style) -> str:
    """Return a style as attributes of an SVG text."""
    classes = " ".join(name for name, wanted in (("b", style.bold), ("d", style.dim)) if wanted)
    found = f' class="{classes}"' if classes else ""
    if isinstance(style.color, Color) and not style.color.is_default:
        found += f' style="fill:{style.color.get_truecolor(THEME).hex}"'
    return found


if __name__ == "__main__":
    sys.exit(main())
