"""Drawings as SVG within the page, in the colours of the theme: the layers of the package, and one round."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from extensions.fields import plain
from tests import house

WIDTH, MARGIN = 900, 4
BOX, FLOOR = 32, 84

SHOWN = {
    "engine/objective.py": ["RoundObjective.value_and_gradient", "RoundObjective.gradient_with_penalty"],
    "engine/cluster/engine.py": ["DaskEngine.run"],
    "engine/cluster/assignment.py": ["assign"],
    "engine/cluster/calls.py": ["Calls.exchange"],
    "engine/cluster/worker.py": ["RoundServer.answer"],
    "engine/host.py": ["PartitionHost.receive", "PartitionHost.evaluate"],
    "engine/row_cache.py": ["RowCache.get"],
    "engine/evaluations.py": ["Gradient.__call__"],
    "kernels/passes.py": ["gradient_pass"],
    "engine/tree.py": ["TreeSum.add", "add_up"],
    "engine/cluster/shared_memory.py": ["AnswerBox.pack"],
    "engine/cluster/answers.py": ["fault"],
}
"""Functions that the drawing shows; one that a round no longer calls is an error."""


@dataclass
class Box:
    """A rectangle with a text."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        """Its horizontal centre."""
        return self.x + self.width / 2


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """A graph without the arrows that another way leads along as well."""
    return {
        node: {target for target in below if not any(target in house.reachable(graph, other) for other in below)}
        for node, below in graph.items()
    }


def layers() -> str:
    """The rooms of the package by layers, and what each imports."""
    modules = house.modules()
    shares = house.shares(modules)
    graph = {room: below for room, below in house.rooms(modules).items() if room not in ("__init__", "__main__")}
    graph = {room: below & graph.keys() for room, below in graph.items()}
    level = house.floors(graph)
    arrows = reduced(graph)
    boxes = placed(arrows, level)
    lines = [curve(boxes[room], boxes[target]) for room, below in arrows.items() for target in sorted(below)]
    texts = []
    for room, box in boxes.items():
        imported = ", ".join(sorted(graph[room])) or "nothing of the package"
        title = f"{room}: {100 * shares[room]:.1f} % of the lines; imports {imported}"
        texts.append(boxed(box, BOX, [room], title))
    return svg(FLOOR * max(level.values()) - FLOOR + BOX + 2 * MARGIN, [*lines, *texts], "Layers of the package")


def placed(graph: dict[str, set[str]], level: dict[str, int]) -> dict[str, Box]:
    """A box for each room: the layers from top to bottom, and within a layer near what it is connected with."""
    top = max(level.values())
    floors = {n: sorted(room for room in graph if level[room] == n) for n in range(top, 0, -1)}
    users = {room: {other for other in graph if room in graph[other]} for room in graph}
    boxes: dict[str, Box] = {}
    for _ in range(4):
        for n, rooms in floors.items():
            near = {room: [other for other in sorted(users[room] | graph[room]) if other in boxes] for room in rooms}
            rooms.sort(key=lambda room: mean([boxes[other].middle for other in near[room]]))
            widths = {room: 8.5 * len(room) + 14 for room in rooms}
            spare = WIDTH - 2 * MARGIN - sum(widths.values())
            gap = spare / (len(rooms) + 1)
            x = MARGIN + gap
            for room in rooms:
                boxes[room] = Box(x, MARGIN + (top - n) * FLOOR, widths[room])
                x += widths[room] + gap
    return boxes


def mean(numbers: list[float]) -> float:
    """The mean, 0 of nothing."""
    return sum(numbers) / len(numbers) if numbers else 0.0


def curve(above: Box, below: Box) -> str:
    """A line from the bottom of one box to the top of another."""
    start, end = above.y + BOX, below.y
    bend = (end - start) / 2
    return (
        f'<path class="edge" d="M{above.middle:.0f} {start:.0f} C{above.middle:.0f} {start + bend:.0f} '
        f'{below.middle:.0f} {end - bend:.0f} {below.middle:.0f} {end:.0f}"/>'
    )


def boxed(box: Box, height: float, lines: list[str], title: str = "", kind: str = "box") -> str:
    """A box with its texts: the first is a name in code, the others are words."""
    x = box.middle if len(lines) == 1 else box.x + 10
    parts = [f'<g class="{kind}">', f"<title>{escape(title)}</title>" if title else ""]
    parts.append(f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{height:.0f}" rx="4"/>')
    for i, line in enumerate(lines):
        look = ("code centred" if len(lines) == 1 else "code") if i == 0 else "words"
        parts.append(f'<text class="{look}" x="{x:.0f}" y="{box.y + 22 + 17 * i:.0f}">{escape(line)}</text>')
    return "".join([*parts, "</g>"])


def svg(height: float, parts: list[str], label: str) -> str:
    """A whole drawing, which may be scrolled where the page is narrow."""
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    return (
        f'<div class="drawing" tabindex="0"><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{arrow}{"".join(parts)}</svg></div>'
    )


def summary(file: str, name: str) -> str:
    """The first sentence of the docstring of a function or a method."""
    node: ast.AST = ast.parse((house.PACKAGE / file).read_text("utf-8"))
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)  # type: ignore[attr-defined]
    return plain((ast.get_docstring(node) or "").split("\n\n")[0]).replace("\n", " ").replace("`", "")  # type: ignore[arg-type]


def recorded_round() -> list[dict[str, Any]]:
    """The calls of a round, from a program of their own, whose kernels are not compiled."""
    program = Path(__file__).with_name("one_round.py")
    environment = os.environ | {"PYTHONPATH": str(house.ROOT), "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, str(program), json.dumps(SHOWN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ExtensionError(f"{program.name} failed: {done.stderr}")
    steps: list[dict[str, Any]] = json.loads(done.stdout)
    return steps


def one_round() -> str:
    """The calls of a round in their order: those of the client on the left, those of the workers on the right."""
    lane = (WIDTH - 2 * MARGIN - 40) / 2
    heads = (("client", MARGIN), ("each worker, at the same time", WIDTH - MARGIN - lane))
    parts = [f'<text class="head" x="{x:.0f}" y="18">{escape(words)}</text>' for words, x in heads]
    y, boxes = 34.0, []
    for step in recorded_round():
        x = heads[step["on_worker"]][1]
        times = f" × {step['n_calls']}" if step["n_calls"] > 1 else ""
        words = textwrap.wrap(summary(step["file"], step["name"]), 58)
        lines = [f"{step['name']}{times}", *words, f"hfnumba/{step['file']}"]
        height = 17.0 * len(lines) + 14
        box = Box(x, y, lane)
        parts.append(boxed(box, height, lines, kind="box worker" if step["on_worker"] else "box"))
        boxes.append((box, height))
        y += height + 22
    for (box, height), (after, _) in pairwise(boxes):
        parts.append(arrow(box, box.y + height, after))
    return svg(y, parts, "Calls of one round")


def arrow(box: Box, bottom: float, after: Box) -> str:
    """An arrow to the next call: straight down, or to the other side."""
    if box.x == after.x:
        return f'<path class="edge arrow" d="M{box.middle:.0f} {bottom:.0f} V{after.y:.0f}"/>'
    side = after.x if after.x > box.x else after.x + after.width
    return f'<path class="edge arrow message" d="M{box.middle:.0f} {bottom:.0f} V{after.y + 22:.0f} H{side:.0f}"/>'


class Drawing(SphinxDirective):
    """Directive of a drawing."""

    def run(self) -> list[nodes.Node]:
        """Put the drawing into the page."""
        return [nodes.raw("", {"layers": layers, "round": one_round}[self.name](), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add a directive for each drawing."""
    app.add_directive("layers", Drawing)
    app.add_directive("round", Drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
