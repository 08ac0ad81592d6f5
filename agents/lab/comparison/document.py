"""A document as a list of blocks, written as one HTML page or as Markdown; whatever it holds is text, never markup."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from agents.lab.comparison.figures import Picture

# Nothing may be fetched and nothing may run, whatever found its way into a name or a message
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 76rem; background: #fff; color: #1c1c1c;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0 0.2rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.6rem; border-top: 1px solid #d8d8d8; }
p, ul { max-width: 46rem; }
li { margin: 0.25rem 0; }
.lead { font-size: 1.15rem; line-height: 1.45; border-left: 4px solid #0072B2; padding: 0.1rem 0 0.1rem 0.9rem; }
.lead p { margin: 0.4rem 0; }
.note { color: #555; font-size: 0.88rem; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid #e2e2e2; white-space: nowrap; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; vertical-align: bottom; }
.t { text-align: left; }
.n { text-align: right; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; padding-left: 0; }
.wrapped td { white-space: normal; min-width: 6rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 1.6rem; }
figure { margin: 0; break-inside: avoid; }
img { display: block; width: 100%; max-width: 34rem; height: auto; }
pre { background: #f5f5f5; padding: 0.7rem; overflow-x: auto; font-size: 0.82rem; line-height: 1.4; }
summary { cursor: pointer; padding: 0.2rem 0; }
nav { font-size: 0.88rem; margin: 1rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; display: inline-block; }
a { color: #005a8e; }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  nav { display: none; }
  h2, h2 + p { break-after: avoid; }
  tr { break-inside: avoid; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.4rem; white-space: normal; }
  pre { white-space: pre-wrap; }
  .scroll { overflow: visible; }
  .pictures { grid-template-columns: 1fr 1fr; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part of the document."""

    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Lead:
    """What must be read if nothing else is."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a note is set smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as long as the header: `texts` columns of text, then figures; only `wrapped` cells break into lines."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    wrapped: bool = False


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to be read letter by letter."""

    text: str


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks behind a line to click on."""

    title: str
    blocks: Sequence[Heading | Lead | Text | Bullets | Table | Pictures | Code]


Block = Heading | Lead | Text | Bullets | Table | Pictures | Code | Folded


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return one page that needs nothing beside it: pictures are in it, and it loads and runs nothing."""
    links = "".join(f'<a href="#{b.anchor}">{escape(b.text)}</a>' for b in blocks if isinstance(b, Heading))
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, anchor):
            return f'<h2 id="{anchor}">{escape(text)}</h2>'
        case Lead(lines):
            return f'<div class="lead">{_each("p", lines)}</div>'
        case Text(text, note):
            return f'<p class="note">{escape(text)}</p>' if note else f"<p>{escape(text)}</p>"
        case Bullets(lines):
            return f"<ul>{_each('li', lines)}</ul>"
        case Table():
            return _table(block)
        case Pictures(pictures):
            return f'<div class="pictures">{"".join(map(_figure, pictures))}</div>'
        case Code(text):
            return f'<pre tabindex="0">{escape(text)}</pre>'
        case Folded(title, blocks):
            inside = "\n".join(_html(inner) for inner in blocks)
            return f"<details><summary>{escape(title)}</summary>\n{inside}\n</details>"


def _table(table: Table) -> str:
    kinds = ["t" if column < table.texts else "n" for column in range(len(table.header))]
    head = "".join(
        f'<th class="{kind}" scope="col">{escape(cell)}</th>' for kind, cell in zip(kinds, table.header, strict=True)
    )
    body = "\n".join(
        f"<tr>{''.join(f'<td class={kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in table.rows
    )
    wrapped = ' class="wrapped"' if table.wrapped else ""
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="scroll" tabindex="0"><table{wrapped}>\n{inside}\n</table></div>'


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _figure(picture: Picture) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<figure><img src="{source}" alt="{escape(picture.alt)}" {size}></figure>'


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the same as GitHub's Markdown, with the pictures as files beside it."""
    return "\n\n".join([f"# {_plain(title)}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, _):
            return f"## {_plain(text)}"
        case Lead(lines):
            return "\n>\n".join(f"> **{_plain(line)}**" for line in lines)
        case Text(text, _):
            return _plain(text)
        case Bullets(lines):
            return "\n".join(f"- {_plain(line)}" for line in lines)
        case Table(header, rows, texts, _):
            ruler = ["---" if column < texts else "---:" for column in range(len(header))]
            return "\n".join(f"| {' | '.join(row)} |" for row in [map(_plain, header), ruler, *map(_cells, rows)])
        case Pictures(pictures):
            return "\n\n".join(f"![{_plain(picture.alt)}]({picture.name})" for picture in pictures)
        case Code(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case Folded(title, blocks):
            inside = "\n\n".join(_markdown(inner) for inner in blocks)
            return f"<details><summary>{escape(title)}</summary>\n\n{inside}\n\n</details>"


def _cells(row: Iterable[str]) -> list[str]:
    return [_plain(cell) for cell in row]


def _plain(text: str) -> str:
    """Escape what Markdown would read as more than text, and keep it on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~!&])", r"\\\1", " ".join(text.split()))
