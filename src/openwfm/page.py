"""HTML building blocks of a self-contained page: no scripts, no fonts, no links to fetch."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

CSS = """
:root { color-scheme: light dark; --bg: #f7f8fb; --card: #fff; --ink: #1c2330; --soft: #667085;
  --line: #e3e7ee; --accent: #2f7df6; --good: #0f8a5f; --bad: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --bg: #10141b; --card: #181e28; --ink: #e8ecf3;
  --soft: #98a2b3; --line: #2a3241; --accent: #6aa5ff; --good: #3ecf9a; --bad: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 80px; }
h1 { font-size: 2rem; margin: 0 0 4px; letter-spacing: -.02em; }
h2 { font-size: 1.3rem; margin: 44px 0 10px; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 22px 0 6px; }
p { margin: 6px 0; max-width: 75ch; } .soft, figcaption small, th { color: var(--soft); }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 12px 0; }
.chips span { border: 1px solid var(--line); background: var(--card); border-radius: 99px;
  padding: 2px 11px; font-size: .83rem; }
.chips b { color: var(--soft); font-weight: 500; margin-right: 5px; }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.pair { grid-template-columns: repeat(auto-fill, minmax(min(430px, 100%), 1fr)); margin: 12px 0; }
.cards { grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); margin: 18px 0; }
.card, figure, .chart { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; margin: 0; }
.card { padding: 14px 16px; } .card b { display: block; font-size: 1.5rem; }
.card small { color: var(--soft); }
figure { overflow: hidden; } figure video, figure img { display: block; width: 100%;
  image-rendering: pixelated; background: #0003; }
figcaption { padding: 8px 11px 10px; font-size: .84rem; line-height: 1.4; }
figcaption small { display: block; }
.strip { margin-top: 14px; } .strip img { width: 100%; }
.chart { padding: 10px; } .chart svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); }
th { font-weight: 500; font-size: .83rem; }
th:first-child, td:first-child, .left { text-align: left; }
td small { color: var(--soft); white-space: nowrap; } tr.ours td { font-weight: 600; }
tr.ours td small { font-weight: 400; }
.good { color: var(--good); } .bad { color: var(--bad); }
.bar { display: inline-block; height: 9px; border-radius: 5px; background: var(--accent);
  vertical-align: middle; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px;
  overflow-x: auto; font-size: .83rem; }
"""


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """An mp4, what to write below it, and optionally a picture (PNG) of its frames."""

    caption: str
    mp4: bytes
    note: str = ""
    picture: bytes | None = None


def page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def paragraph(text: str, css: str = "") -> str:
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def chips(values: Mapping[str, Any]) -> str:
    spans = (
        f"<span><b>{escape(name)}</b>{escape(str(value))}</span>"
        for name, value in values.items()
        if value is not None
    )
    return f'<div class="chips">{"".join(spans)}</div>'


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """(big number, what it is, css class)."""
    boxes = (
        f'<div class="card"><b class="{css}">{escape(number)}</b>'
        f"<small>{escape(what)}</small></div>"
        for number, what, css in values
    )
    return f'<div class="grid cards">{"".join(boxes)}</div>'


def videos(clips: Sequence[ShownClip], css: str = "") -> str:
    figures = (
        f'<figure><video autoplay loop muted playsinline src="{_data("video/mp4", clip.mp4)}">'
        f"</video><figcaption>{escape(clip.caption)}<small>{escape(clip.note)}</small>"
        "</figcaption></figure>"
        for clip in clips
    )
    return f'<div class="grid {css}">{"".join(figures)}</div>'


def pictures(clips: Sequence[ShownClip]) -> str:
    figures = (
        f'<figure class="strip"><img alt="" src="{_data("image/png", clip.picture)}">'
        f"<figcaption>{escape(clip.caption)}</figcaption></figure>"
        for clip in clips
        if clip.picture is not None
    )
    return "".join(figures)


def charts(svgs: Sequence[str]) -> str:
    boxes = (f'<div class="chart">{svg}</div>' for svg in svgs)
    return f'<div class="grid pair">{"".join(boxes)}</div>'


def table(
    header: Sequence[str],
    rows: Iterable[tuple[Sequence[str], bool]],
    left: Sequence[int] = (),
) -> str:
    """Cells are HTML already; the flag marks our row; columns in ``left`` are words."""

    def cells(tag: str, contents: Iterable[str]) -> str:
        css = (" class=left" if column in left else "" for column in range(len(header)))
        return "".join(f"<{tag}{c}>{text}</{tag}>" for c, text in zip(css, contents, strict=True))

    head = cells("th", map(escape, header))
    body = "".join(
        f"<tr{' class=ours' if ours else ''}>{cells('td', row)}</tr>\n" for row, ours in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def interval(value: Mapping[str, Any], digits: int, *, signed: bool = False) -> str:
    """Mean and interval of an evaluation's JSON."""
    if value["mean"] is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{value['mean']:{sign}.{digits}f}"
    if value["low"] is not None:
        low, high = f"{value['low']:{sign}.{digits}f}", f"{value['high']:{sign}.{digits}f}"
        text += f" <small>[{low}, {high}]</small>"
    return text


def _data(kind: str, content: bytes | None) -> str:
    assert content is not None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
