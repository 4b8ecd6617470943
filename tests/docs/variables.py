"""The environment variables that programs and shell scripts read, found in their text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path


def read(root: Path) -> set[str]:
    """Names of all variables that the programs and scripts below a folder read, without what builds left there."""
    paths = [path.relative_to(root) for path in root.rglob("*")]
    paths = [path for path in paths if path.parts[0] not in ("build", "dist") and path.parts[0][0] != "."]
    programs = [(root / path).read_text("utf-8") for path in paths if path.suffix == ".py"]
    scripts = [(root / path).read_text("utf-8") for path in paths if path.suffix in (".sh", ".sbatch")]
    return set().union(*map(of_program, programs), *map(of_script, scripts))


def of_script(text: str) -> set[str]:
    """Variables that a shell script uses, other than those that it sets itself."""
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    used, own = (re.findall(pattern, text, re.MULTILINE) for pattern in (r"\$\{?([A-Z]\w+)", r"^\s*([A-Z]\w+)="))
    return set(used) - set(own)


def of_program(text: str) -> set[str]:
    """Names in `os.environ[NAME]`, `os.environ.get(NAME)`, `os.getenv(NAME)` and `NAME in os.environ`."""
    if not re.search("environ|getenv", text):
        return set()
    reads = _Reads()
    reads.visit(ast.parse(text))
    return reads.names


class _Reads(ast.NodeVisitor):
    """Collects the names; a name may be a text, a variable that has one, or one of those that a loop goes through."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.values: dict[str, ast.AST] = {}

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            self.values |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        parts = getattr(node, "generators", [])
        for loop in [node] if isinstance(node, ast.For) else parts:
            self.values |= {part.id: loop.iter for part in ast.walk(loop.target) if isinstance(part, ast.Name)}
        name = _name(node)
        if name is not None and not isinstance(name, ast.JoinedStr):
            self.names |= set(self.texts(name))
        self.generic_visit(node)

    def texts(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
            elif isinstance(part, ast.Name) and part.id in self.values.keys() - seen:
                yield from self.texts(self.values[part.id], seen | {part.id})


def _name(node: ast.AST) -> ast.AST | None:
    """The expression that names a variable, if the node reads one."""
    match node:
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=name, ctx=ast.Load()):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[name, *_]):
            return name
        case ast.Call(func=ast.Attribute(attr="getenv"), args=[name, *_]):
            return name
        case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[ast.Attribute(attr="environ")]):
            return name
    return None
