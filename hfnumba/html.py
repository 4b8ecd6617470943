"""Tables and curves as HTML, for notebooks: no script, no style sheet, and nothing to install."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 480, 180, 64, 22, 18
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and texts below a title."""
    lines = "".join(
        f'<tr><th style="text-align:left">{_escaped(name)}</th><td style="text-align:left">{_escaped(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table><caption>{_escaped(title)}</caption>{lines}</table>"


def _escaped(text: str) -> str:
    """Escape a text; bytes of file names that are not UTF-8, which a page cannot hold, become question marks."""
    return escape(text.encode("utf-8", "replace").decode())


def grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a line of column names."""
    head = "".join(f"<th>{_escaped(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{_escaped(title)}</caption><tr>{head}</tr>{body}</table>"


def curves(x_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return curves of points (x, y) on a logarithmic y axis, as SVG; empty for none.

    Points that are not finite, or whose y is not positive, are left out.
    """
    drawn = {name: [(x, math.log10(y)) for x, y in points if _shown(x, y)] for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
    parts = []
    for k, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[k % len(_COLOURS)]
        places = [(_place(x, left, right, _LEFT, _WIDTH - 8), _place(y, low, high, _HEIGHT - _BELOW, _ABOVE))
                  for x, y in points]  # fmt: skip
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<text x="{_LEFT + 110 * k}" y="12" fill="{colour}">{_escaped(name)}</text>')
    parts += _axis_labels(x_name, (left, right), (10**low, 10**high))
    frame = f"M{_LEFT} {_ABOVE}V{_HEIGHT - _BELOW}H{_WIDTH - 8}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="11" '
        f'font-family="sans-serif" style="background:white"><path d="{frame}" fill="none" stroke="#999"/>'
        f"{''.join(parts)}</svg>"
    )


def _shown(x: float, y: float) -> bool:
    return math.isfinite(x) and math.isfinite(y) and y > 0


def _place(value: float, low: float, high: float, first: float, last: float) -> float:
    """Return the pixel of a value between two pixels."""
    return (first + last) / 2 if high == low else first + (value - low) / (high - low) * (last - first)


def _axis_labels(x_name: str, xs: tuple[float, float], ys: tuple[float, float]) -> list[str]:
    base = _HEIGHT - 6
    return [
        f'<text x="{_LEFT}" y="{base}">{xs[0]:.4g}</text>',
        f'<text x="{_WIDTH - 8}" y="{base}" text-anchor="end">{xs[1]:.4g}</text>',
        f'<text x="{(_LEFT + _WIDTH) // 2}" y="{base}" text-anchor="middle">{_escaped(x_name)}</text>',
        f'<text x="{_LEFT - 4}" y="{_HEIGHT - _BELOW}" text-anchor="end">{ys[0]:.3g}</text>',
        f'<text x="{_LEFT - 4}" y="{_ABOVE + 8}" text-anchor="end">{ys[1]:.3g}</text>',
    ]
