"""A document written as one HTML page and as Markdown at once; whatever it holds is text, never markup."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import NamedTuple

from agents.lab.drawing import Picture

# Nothing may be fetched and nothing may run, whatever found its way into a name or a message
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
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
img, video { display: block; width: 100%; max-width: 34rem; height: auto; }
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


class Table(NamedTuple):
    """Rows as long as the header: `texts` columns of text, then figures; only `wrapped` cells break into lines."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    wrapped: bool = False


class Document:
    """Grows block by block, as HTML that needs nothing beside it and as GitHub's Markdown with pictures as files.

    Attributes:
        pictures: all that it has.
    """

    def __init__(self, title: str) -> None:
        self.pictures: list[Picture] = []
        self._title, self._links = title, ""
        self._html: list[str] = []
        self._markdown: list[str] = []

    def html(self) -> str:
        """Return one page that needs nothing beside it: pictures are in it, and it loads and runs nothing."""
        title, body = escape(self._title), "\n".join(self._html)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{title}</h1>\n<nav>{self._links}</nav>\n{body}\n</body>\n</html>\n"
        )

    def markdown(self) -> str:
        """Return the same as Markdown."""
        return "\n\n".join([f"# {_plain(self._title)}", *self._markdown]) + "\n"

    def _add(self, html: str, markdown: str) -> None:
        self._html.append(html)
        self._markdown.append(markdown)

    def heading(self, text: str, anchor: str) -> None:
        """Begin a part."""
        self._links += f'<a href="#{anchor}">{escape(text)}</a>'
        self._add(f'<h2 id="{anchor}">{escape(text)}</h2>', f"## {_plain(text)}")

    def lead(self, lines: Sequence[str]) -> None:
        """Add what must be read if nothing else is."""
        self._add(
            f'<div class="lead">{_each("p", lines)}</div>', "\n>\n".join(f"> **{_plain(line)}**" for line in lines)
        )

    def text(self, text: str, note: bool = False) -> None:
        """Add a paragraph; a note is set smaller."""
        self._add(f'<p class="note">{escape(text)}</p>' if note else f"<p>{escape(text)}</p>", _plain(text))

    def bullets(self, lines: Sequence[str]) -> None:
        """Add a list."""
        self._add(f"<ul>{_each('li', lines)}</ul>", "\n".join(f"- {_plain(line)}" for line in lines))

    def code(self, text: str) -> None:
        """Add lines to be read letter by letter."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        self._add(f'<pre tabindex="0">{escape(text)}</pre>', f"{fence}\n{text}\n{fence}")

    def show_pictures(self, pictures: Sequence[Picture]) -> None:
        """Add pictures side by side where there is room."""
        self.pictures += pictures
        images = [
            f'<figure><img src="data:image/png;base64,{base64.b64encode(one.png).decode()}" alt="{escape(one.alt)}" '
            f'width="{one.width}" height="{one.height}"></figure>'
            for one in pictures
        ]
        self._add(
            f'<div class="pictures">{"".join(images)}</div>',
            "\n\n".join(f"![{_plain(one.alt)}]({one.name})" for one in pictures),
        )

    def video(self, name: str, mp4: bytes, alt: str) -> None:
        """Add a video, which in Markdown is a file of that name."""
        data = base64.b64encode(mp4).decode()
        self._add(
            f'<figure><video src="data:video/mp4;base64,{data}" aria-label="{escape(alt)}" controls loop muted></video>'
            "</figure>",
            f"[{_plain(alt)}]({name})",
        )

    def table(self, table: Table) -> None:
        """Add a table."""
        kinds = ["t" if column < table.texts else "n" for column in range(len(table.header))]
        head = "".join(
            f'<th class="{kind}" scope="col">{escape(cell)}</th>'
            for kind, cell in zip(kinds, table.header, strict=True)
        )
        rows = [
            "".join(f"<td class={kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
            for row in table.rows
        ]
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        wrapped = ' class="wrapped"' if table.wrapped else ""
        inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
        ruler = ["---" if kind == "t" else "---:" for kind in kinds]
        lines = [list(map(_plain, table.header)), ruler, *(list(map(_plain, row)) for row in table.rows)]
        self._add(
            f'<div class="scroll" tabindex="0"><table{wrapped}>\n{inside}\n</table></div>',
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
        )

    @contextmanager
    def folded(self, title: str) -> Iterator[None]:
        """Put what is added within behind a line to click on."""
        start = len(self._html)
        yield
        for blocks, between in ((self._html, "\n"), (self._markdown, "\n\n")):
            head = f"<details><summary>{escape(title)}</summary>"
            blocks[start:] = [between.join([head, *blocks[start:], "</details>"])]


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _plain(text: str) -> str:
    """Escape what Markdown would read as more than text, and keep it on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~!&])", r"\\\1", " ".join(text.split()))
