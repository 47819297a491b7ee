"""The card as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from lathe.card.contents import Behind, Block, Cell, Paragraph, Section, Table, sections, title
from lathe.card.figures import Doubted, FromTrials, Named, Part, shown
from lathe.card.places import Places
from lathe.card.sources import CardSources

_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>#|"})


def as_markdown(of: CardSources, places: Places) -> str:
    """Return the card; raise `NoFigure` where something in it is none."""
    lines = [f"# {_cell(title(of), of, places)}"]
    for section in sections(of):
        lines += ["", *_section(section, of, places)]
    return "\n".join(lines) + "\n"


def _section(section: Section, of: CardSources, places: Places) -> Iterator[str]:
    yield f'<a id="{section.id}"></a>'
    yield ""
    yield f"{'#' * (section.level + 1)} {_cell(section.title, of, places)}"
    for block in section.blocks:
        yield ""
        yield from _block(block, of, places)


def _block(block: Block, of: CardSources, places: Places) -> Iterator[str]:
    match block:
        case Paragraph():
            yield _cell(block.parts, of, places)
        case Table():
            yield "| " + " | ".join(_cell((one,), of, places) for one in block.head) + " |"
            yield "|" + "---|" * len(block.head)
            for row in block.rows:
                yield "| " + " | ".join(_cell(cell, of, places) for cell in row) + " |"
        case Behind(reading):
            figure = _text(shown(FromTrials(reading), of))
            yield f'<a id="{places.anchor(reading)}"></a>'
            yield f"**{_text(reading.dataset)}**: {figure}"
            yield ""
            for one in places.rows(reading):
                links = f"[report]({one.report}), [{one.line}]({one.journal})"
                doubts = f"; {one.doubts}" if one.doubts else ""
                yield f"- {_text(one.trial)}: {one.reward}{doubts} ({links})"


def _cell(cell: Cell, of: CardSources, places: Places) -> str:
    return "".join(_part(part, of, places) for part in cell)


def _part(part: Part, of: CardSources, places: Places) -> str:
    text = shown(part, of)
    if isinstance(part, FromTrials | Doubted) and part.reading.outcomes:
        return f"[{_text(text)}](#{places.anchor(part.reading)})"
    if isinstance(part, Named) and part.field == "address":
        return f"<{text}>"
    return _text(text)


def _text(text: str) -> str:
    return " ".join(text.split(" ")).replace("\n", " ").translate(_SPECIAL)
