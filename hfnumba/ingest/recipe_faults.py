"""Faults of recipes in words: what came, what was expected there, and the nearest spelling."""

from __future__ import annotations

import re

import msgspec
from msgspec import inspect

from hfnumba.errors import did_you_mean

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<word>[^`]*)`")
_CHOICE = re.compile(r"Invalid enum value (?P<word>.*)")
_STEP = re.compile(r"\.([^.\[\]]+)|\[\d*\]")


def recipe_fault(error: msgspec.ValidationError, recipe: type[msgspec.Struct]) -> str:
    """Return the words of an error of validation; for an unknown key or value, with the list of those that exist.

    Parameters
    ----------
    error : msgspec.ValidationError
        Error of converting the document.
    recipe : type
        Struct that a file was converted to.
    """
    message, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`")
    kind = _type_at(recipe, place)
    where = f" in [{table}]" if (table := place.lstrip(".")) else ""
    if (found := _UNKNOWN.fullmatch(message)) and isinstance(kind, inspect.StructType):
        keys = [field.encode_name for field in kind.fields]
        return f"unknown key {found['word']!r}{where}; {did_you_mean(found['word'], keys)}"
    if (found := _CHOICE.fullmatch(message)) and isinstance(kind, inspect.LiteralType):
        return f"{table} is {found['word']}; {did_you_mean(found['word'].strip("'"), map(str, kind.values))}"
    return str(error)


def _type_at(struct: type[msgspec.Struct], place: str) -> inspect.Type:
    """Return the type at a place such as ``.table.missing`` or ``.files[0].role``."""
    kind = _without_none(inspect.type_info(struct))
    for step in _STEP.finditer(place):
        if isinstance(kind, inspect.StructType) and step[1]:
            kind = next((field.type for field in kind.fields if field.encode_name == step[1]), kind)
        elif isinstance(kind, inspect.VarTupleType):
            kind = kind.item_type
        kind = _without_none(kind)
    return kind


def _without_none(kind: inspect.Type) -> inspect.Type:
    """Return the only type of a union besides None and unset, or the type itself."""
    if isinstance(kind, inspect.UnionType):
        some = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return some[0] if len(some) == 1 else kind
    return kind
