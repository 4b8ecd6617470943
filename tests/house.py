"""The structure of the package, read from its source: who imports whom, on which floor a room is, how large things are.

``python -m tests.house`` prints the picture of the rooms; ``--write`` puts it into CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hfnumba"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms: begin -->", "<!-- rooms: end -->"

MAX_MODULE_LINES, MAX_FUNCTION_LINES, MAX_ROOM_SHARE = 300, 40, 0.20


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, the room it is in, its lines, and its syntax tree."""

    name: str
    room: str
    n_lines: int
    tree: ast.Module


def modules() -> list[Module]:
    """Every module of the package, and the benchmarks, which stand on top of it."""
    found = []
    for folder in (PACKAGE, ROOT / "benchmarks"):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            room = parts[0] if parts[0] == "benchmarks" else parts[1]
            text = path.read_text("utf-8")
            found.append(Module(name, room, len(text.splitlines()), ast.parse(text)))
    return found


def is_for_types(node: ast.AST) -> bool:
    """Whether this is ``if TYPE_CHECKING:``, whose imports are not run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, for_types: bool = True) -> list[str]:
    """Absolute names of what is imported anywhere in a file, within functions too, and for type checking if asked."""
    found = []
    passed_over = {child for node in ast.walk(tree) if not for_types and is_for_types(node) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if node in passed_over:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports are absolute"
            # `from package import name` may name a module of the package.
            found += [node.module] * (node.module != PACKAGE.name)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def arrows(house: list[Module], for_types: bool = True) -> dict[str, set[str]]:
    """The modules of ours that each module imports: the deepest that exists by each name."""
    names = {module.name for module in house}
    graph = {}
    for module in house:
        wanted = {name for name in imports(module.tree, for_types) if name in names}
        # A package's own `__init__` runs as well, but what it re-exports is not what the importer asked for.
        graph[module.name] = {name for name in wanted if not any(other.startswith(f"{name}.") for other in wanted)}
        graph[module.name].discard(module.name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that import each other, directly or through others."""
    below = {node: reachable(graph, node) for node in graph}
    groups = {frozenset({n for n in below[node] if node in below[n]}) for node in graph if node in below[node]}
    return [sorted(group) for group in groups]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All nodes that a node leads to."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph[node]
    return seen


def rooms(house: list[Module]) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    room_of = {module.name: module.room for module in house}
    found: dict[str, set[str]] = {module.room: set() for module in house}
    for name, wanted in arrows(house).items():
        found[room_of[name]] |= {room_of[other] for other in wanted} - {room_of[name]}
    return found


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports. Only for a graph without circles."""
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max(map(floor, graph[room]), default=0)
        return found[room]

    for room in graph:
        floor(room)
    return found


def shares(house: list[Module]) -> dict[str, float]:
    """The share of all lines that is in each room."""
    total = sum(module.n_lines for module in house)
    found = dict.fromkeys((module.room for module in house), 0.0)
    for module in house:
        found[module.room] += module.n_lines / total
    return found


def long_functions(house: list[Module]) -> list[str]:
    """Functions whose code, without signature and docstring, is longer than it should be."""
    found = []
    for module in house:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if code and (node.end_lineno or 0) - code[0].lineno + 1 > MAX_FUNCTION_LINES:
                    found.append(f"{module.name}.{node.name}")
    return found


def long_modules(house: list[Module]) -> list[str]:
    """Modules that are longer than they should be."""
    return [module.name for module in house if module.n_lines > MAX_MODULE_LINES]


def picture(house: list[Module]) -> str:
    """The rooms by floors, the highest first, with what each imports from the floors below."""
    graph = {room: below for room, below in rooms(house).items() if room not in ("__init__", "__main__")}
    level = floors({room: below & graph.keys() for room, below in graph.items()})
    lines = ["| floor | room | imports |", "| --- | --- | --- |"]
    for room in sorted(graph, key=lambda room: (-level[room], room)):
        below = sorted(graph[room] & graph.keys(), key=lambda other: (-level[other], other))
        lines.append(f"| {level[room]} | `{room}` | {', '.join(below) or '–'} |")
    return "\n".join(lines)


def with_picture(page: str, text: str) -> str:
    """The page with the text between its two marks."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Print or write the picture."""
    house = modules()
    text = picture(house)
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(with_picture(PAGE.read_text("utf-8"), text), "utf-8")
        return
    sys.stdout.write(text + "\n\n")
    for room, share in sorted(shares(house).items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{share:6.1%}  {room}\n")


if __name__ == "__main__":
    main()
