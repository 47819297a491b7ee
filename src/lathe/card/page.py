"""The card as one HTML page that needs nothing else, reads well on a screen and prints well on paper."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from lathe.card.contents import Behind, Block, Cell, Paragraph, Section, Table, sections, title
from lathe.card.figures import Doubted, FromTrials, Named, OfStatus, Part, shown
from lathe.card.places import Places
from lathe.card.sources import CardSources

_STYLE = Path(__file__).parent / "card.css"


def as_page(of: CardSources, places: Places) -> str:
    """Return the card; raise `NoFigure` where something in it is none."""
    found = sections(of)
    name = "".join(shown(part, of) for part in title(of))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(name)}</title>",
            f"<style>\n{_STYLE.read_text('utf-8')}</style></head>",
            "<body>",
            f"<header><h1>{escape(name)}</h1></header>",
            *_contents(found, of, places),
            "<main>",
            *(line for section in found for line in _section(section, of, places)),
            "</main>",
            "</body></html>",
            "",
        ]
    )


def _contents(found: list[Section], of: CardSources, places: Places) -> Iterator[str]:
    yield '<nav aria-label="Contents"><ol>'
    for section in found:
        yield f'<li class="level{section.level}"><a href="#{section.id}">{_cell(section.title, of, places)}</a></li>'
    yield "</ol></nav>"


def _section(section: Section, of: CardSources, places: Places) -> Iterator[str]:
    level = section.level + 1
    yield f'<section id="{section.id}" class="level{section.level}">'
    yield f"<h{level}>{_cell(section.title, of, places)}</h{level}>"
    for block in section.blocks:
        yield from _block(block, of, places)
    yield "</section>"


def _block(block: Block, of: CardSources, places: Places) -> Iterator[str]:
    match block:
        case Paragraph():
            yield f"<p>{_cell(block.parts, of, places)}</p>"
        case Table():
            heads = "".join(f'<th scope="col">{_cell((one,), of, places)}</th>' for one in block.head)
            yield f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>'
            for row in block.rows:
                yield "<tr>" + "".join(f"<td>{_cell(cell, of, places)}</td>" for cell in row) + "</tr>"
            yield "</tbody></table></div>"
        case Behind(reading):
            figure = escape(shown(FromTrials(reading), of))
            yield f'<div class="behind" id="{places.anchor(reading)}">'
            yield f"<h4>{escape(reading.dataset)}: {figure}</h4><ol>"
            for one in places.rows(reading):
                doubts = f' <span class="doubt">{escape(one.doubts)}</span>' if one.doubts else ""
                yield (
                    f'<li><a href="{escape(one.report)}">{escape(one.trial)}</a>: {escape(one.reward)}{doubts} '
                    f'<a class="line" href="{escape(one.journal)}">{escape(one.line)}</a></li>'
                )
            yield "</ol></div>"


def _cell(cell: Cell, of: CardSources, places: Places) -> str:
    return "".join(_part(part, of, places) for part in cell)


def _part(part: Part, of: CardSources, places: Places) -> str:
    text = escape(shown(part, of))
    match part:
        case FromTrials(reading) | Doubted(reading):
            kind = "doubt" if isinstance(part, Doubted) and part.reading.doubts else "figure"
            return f'<a class="{kind}" href="#{places.anchor(reading)}">{text}</a>'
        case OfStatus():
            return f'<strong class="status {part.status}">{text}</strong>'
        case Named(field="address"):
            return f'<a href="{text}">{text}</a>'
        case _:
            return text
