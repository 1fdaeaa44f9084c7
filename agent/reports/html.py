"""A page that is one file: style, figures and tables inside it, nothing asked of any other place. Pure text."""

from __future__ import annotations

from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1f2430; max-width: 1180px; margin: 3rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.9rem; margin-bottom: .3rem } h2 { margin-top: 3rem } .quiet { color: #6b7280 }
figure { margin: 1.5rem 0 } figure svg { width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th { text-align: left; font-weight: 600; color: #6b7280; border-bottom: 1px solid #d4d8de }
td, th { padding: .3rem 1.1rem .3rem 0 } td.n, th.n { text-align: right } tr.search td { font-weight: 600 }
li.yes::marker { content: "✓  "; color: #00795b } li.no::marker { content: "✗  "; color: #b3400a }
li.none::marker { content: "·  " }
td.n { white-space: nowrap } .scroll { overflow-x: auto } .columns { display: flex; flex-wrap: wrap; gap: 0 4rem }
@media print { body { margin: 0; font-size: 11px } h2 { margin-top: 1.5rem } figure, table { break-inside: avoid } }
"""


def html_page(title: str, lead: str, body: str) -> str:
    """The whole document; `title` and `lead` are text, `body` is HTML."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p>{body}</html>\n"
    )


def figure(svg: Path) -> str:
    """A drawn figure, inside the page."""
    # An XML declaration and a doctype stand before it, which HTML does not allow in a body.
    text = svg.read_text(encoding="utf-8")
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def row(cell: str, *values: str, kind: str = "") -> str:
    """A line of a table: the first value is a name, the others are numbers."""
    # Names come from recordings and packages. Escaped here, so that no caller has to remember it.
    first, *rest = (escape(v) for v in values)
    return f"<tr class={kind or 'plain'}><{cell}>{first}{''.join(f'<{cell} class=n>{v}' for v in rest)}</tr>"
