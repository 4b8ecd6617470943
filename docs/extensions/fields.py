"""Tables of keys and fields, read from the types that the code itself uses.

``{fields} module:Type`` on a page is the table of a msgspec struct or of a dataclass: names, types with their bounds,
defaults, and the descriptions of its docstring. ``{settings}`` has the settings of a run, ``{schema}`` the
version of stores, ``{methods}`` the methods of optimisation, ``{scripts}`` the scripts that measure.
"""

from __future__ import annotations

import ast
import dataclasses
import pkgutil
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect as types
from docutils import nodes
from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from hfnumba.optim.methods import METHODS
from hfnumba.run.options import Group, flag
from hfnumba.run.settings import OPTIONS, TrainSettings
from hfnumba.store import manifest

ROOT = Path(__file__).resolve().parents[2]

_WORDS = {types.StrType: "text", types.IntType: "integer", types.FloatType: "number", types.BoolType: "true or false"}
_WORDS |= {types.AnyType: "any value"}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class Row(NamedTuple):
    """A field as a reader meets it in a file."""

    name: str
    kind: str
    default: str
    text: str


def kind(of: types.Type) -> str:
    """The values of a type, in the words of TOML and JSON."""
    if isinstance(of, types.UnionType):
        return " or ".join(kind(one) for one in of.types if not isinstance(one, types.NoneType))
    if isinstance(of, types.LiteralType):
        # They are sorted by msgspec.
        return ", ".join(f"`{msgspec.json.encode(value).decode()}`" for value in of.values)
    if isinstance(of, types.VarTupleType):
        return f"array of: {kind(of.item_type)}"
    if isinstance(of, types.DictType):
        return f"table of: {kind(of.value_type)}"
    if isinstance(of, types.StructType):
        return f"[{of.cls.__name__}]({'settings.md' if of.cls is TrainSettings else '#' + anchor(of.cls)})"
    bounds = [f"{sign} {value}" for name, sign in _BOUNDS.items() if (value := getattr(of, name, None)) is not None]
    return " ".join([_WORDS[type(of)], ", ".join(bounds)]).strip()


def anchor(cls: type) -> str:
    """The label of a type's table on a page."""
    return f"fields-{cls.__name__.lower()}"


def descriptions(cls: type) -> dict[str, tuple[str, str]]:
    """Type and description of each field in a docstring; several names may share an entry."""
    doc = NumpyDocString(cls.__doc__ or "")
    found = {}
    for entry in [*doc["Attributes"], *doc["Parameters"]]:
        for name in entry.name.split(","):
            found[name.strip()] = (entry.type, " ".join(entry.desc))
    return found


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
    return "" if field.default in (None, msgspec.NODEFAULT) else f"`{msgspec.json.encode(field.default).decode()}`"


def rows(cls: type) -> list[Row]:
    """The fields of a struct, or of a dataclass whose docstring says their types."""
    said = descriptions(cls)
    if dataclasses.is_dataclass(cls):
        return [Row(f.name, *said[f.name][:1], "", said[f.name][1]) for f in dataclasses.fields(cls)]
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    return [
        Row(field.encode_name, kind(field.type), _default(field), said.get(field.name, ("", ""))[1])
        for field in info.fields
    ]


def nested(cls: type) -> list[type]:
    """A struct and all structs that its fields have, each once, in the order of their mention."""
    found: list[type] = []

    def visit(of: Any) -> None:
        if isinstance(of, types.StructType) and of.cls not in found:
            found.append(of.cls)
            for field in of.fields:
                visit(field.type)
        for part in ("types", "item_type", "value_type"):
            inner = getattr(of, part, ())
            for one in inner if isinstance(inner, tuple) else (inner,):
                visit(one)

    visit(types.type_info(cls))
    return found


def markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, without columns that are empty."""
    lines = [tuple(head), *map(tuple, body)]
    kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    texts = [f"| {' | '.join(line[i].replace('|', chr(92) + '|') for i in kept)} |" for line in lines]
    return "\n".join([texts[0], "|" + " --- |" * len(kept), *texts[1:]])


def plain(text: str) -> str:
    """A text of a docstring in Markdown: names in code, without their roles."""
    return re.sub(r":[a-z:]+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def fields_table(name: str) -> str:
    """What a type is, and the table of its fields; the type is given as ``module:Type``."""
    cls = pkgutil.resolve_name(name)
    doc = NumpyDocString(cls.__doc__ or "")
    body = ((f"`{row.name}`", *row[1:]) for row in rows(cls) if is_written(cls, row))
    table = markdown(("key", "value", "default", "meaning"), body)
    about = "\n".join([" ".join(doc["Summary"]), "", *doc["Extended Summary"]])
    return plain(f"({anchor(cls)})=\n{about}\n\n{table}")


def schema_sentence(_: str) -> str:
    """The name and the version of the schema of stores, with what its versions changed."""
    module = ModuleAnalyzer.for_module(manifest.__name__)
    changes = " ".join(module.find_attr_docs()["", "VERSION"])
    return f"The schema is `{manifest.SCHEMA}`, version **{manifest.VERSION}**. {changes}"


def is_written(cls: type, row: Row) -> bool:
    """Whether a field is written: the state of an iteration is in the checkpoint instead."""
    return (cls.__name__, row.name) != ("Iteration", "state")


def settings_table(group: str) -> str:
    """The settings of a run in one group, as ``--config`` and the command line take them."""
    defaults = {field.name: field.default for field in types.type_info(TrainSettings).fields}
    body = []
    for name, option in OPTIONS.items():
        if option.group is Group[group]:
            default = option.default_text(defaults[name]) if defaults[name] is not msgspec.NODEFAULT else "required"
            body.append((f"`{name}`", f"`{flag(name)}`", default or "", option.help))
    return markdown(("key", "option", "default", "meaning"), body)


def methods_table(_: str) -> str:
    """All optimisation methods, by the names that ``--method`` takes."""
    head = ("`--method`", "method", "class", "compared in the paper")
    body = (
        (f"`{name}`", method.summary, f"`{method.make.__name__}`", "yes" if method.in_paper else "")
        for name, method in METHODS.items()
    )
    return markdown(head, body)


def scripts_table(_: str) -> str:
    """The scripts of the folder benchmarks: what each measures, and how it is called, from its docstring."""
    body = []
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines = [line.strip() for line in doc.splitlines() if path.name in line.partition("python ")[2]]
        calls = [line.partition(" #")[0].strip() for line in lines]
        if calls:
            body.append((" ".join(doc.split("\n\n")[0].split()), "<br>".join(f"`{call}`" for call in calls)))
    return markdown(("measurement", "command"), body)


TABLES: dict[str, Callable[[str], str]] = {
    "fields": fields_table,
    "schema": schema_sentence,
    "settings": settings_table,
    "methods": methods_table,
    "scripts": scripts_table,
}


class Table(SphinxDirective):
    """Directive of a table that is made from the code."""

    optional_arguments = 1
    final_argument_whitespace = False

    def run(self) -> list[nodes.Node]:
        """Parse the table as part of the page."""
        argument = self.arguments[0] if self.arguments else ""
        return self.parse_text_to_nodes(TABLES[self.name](argument))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add a directive for each kind of table."""
    for name in TABLES:
        app.add_directive(name, Table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
