"""Grids as Markdown and as HTML; and the one self-contained HTML page of a bench."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from specvlm.bench.showing import plots
from specvlm.bench.showing.report import Grid, grids, introduction

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.note { color: #555; font-size: .9rem; margin: .3rem 0; max-width: 60rem; }
@media (prefers-color-scheme: dark) { svg { background: white; } body { background: #181818; color: #ddd; }
  .note { color: #aaa; } th, td { border-color: #444; } }
"""


def markdown(grid: Grid) -> str:
    """The table alone; its notes are for whoever writes the page to place."""
    lines = ["| " + " | ".join(grid.head) + " |", "|---|" + "---:|" * (len(grid.head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in grid.rows])


def page(document: Mapping[str, Any]) -> str:
    """One self-contained page in HTML, with the picture. Errors: OptionError without matplotlib."""
    title = html.escape(f"specvlm bench: {document['bench']['pair']}")
    body = [f"<h1>{title}</h1>", *_paragraphs(introduction(document)), plots.svg(document)]
    for grid in grids(document):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.head)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows)
        body.append(f"<h2>{html.escape(grid.title)}</h2>")
        body.append(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')
        body += _paragraphs(grid.notes, "note")
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head>{meta}<title>{title}</title><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _paragraphs(lines: Iterable[str], kind: str = "text") -> list[str]:
    return [f'<p class="{kind}">{html.escape(line)}</p>' for line in lines]
