"""Settings as users give them: validated with a sentence for each mistake, read from TOML and written to it."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hfnumba.errors import UsageError, encoding_hint
from hfnumba.launch.spec import is_address
from hfnumba.network import one_or_each
from hfnumba.run.options import flag, listed
from hfnumba.run.settings import OPTIONS, RENAMED, TrainSettings

MAX_BYTES = 64 << 20
"""Size up to which a file of settings is read: means and deviations of 100,000 features take a few megabytes."""

TABLES_OF_A_RUN = ("network", "store", "optimizer", "versions", "machine", "digests")
"""Tables in the file of settings that a run writes."""


def settings_from(given: Mapping[str, Any]) -> TrainSettings:
    """Validate settings.

    Raises
    ------
    UsageError
        Naming the setting, what was expected and what came; for an unknown one the nearest that exists.
    """
    refuse_unknown(given)
    if "hidden" not in given:
        raise UsageError(
            "the settings do not say how wide the hidden layers are; give --hidden, such as --hidden 400,150"
        )
    try:
        settings = msgspec.convert(dict(given), TrainSettings)
    except msgspec.ValidationError as error:
        raise UsageError(_located(error, given)) from None
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        if option.choices and isinstance(value, str) and value not in option.choices:
            raise UsageError(_sentence(name, listed(option.choices), value) + _nearest(value, option.choices))
    try:
        return msgspec.structs.replace(settings, activation=one_or_each(settings.activation, len(settings.hidden)))
    except UsageError as error:
        raise UsageError(
            f"setting activation: {error}; correct --activation, or activation in the settings file"
        ) from None


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Refuse a setting that does not exist, with the nearest that does.

    Raises
    ------
    UsageError
    """
    for name in given:
        if name in RENAMED:
            raise UsageError(f"setting {name} is called {RENAMED[name]} now; give it that name")
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(OPTIONS)}"
            raise UsageError(f"unknown setting {name!r}; {hint}")


def memory_bytes(settings: TrainSettings) -> int | None:
    """Return the setting ``memory`` in bytes.

    Raises
    ------
    UsageError
        If it is no size.
    """
    if settings.memory is None:
        return None
    from dask.utils import parse_bytes  # noqa: PLC0415 - slow to import

    try:
        # A unit alone would be read as one of it, and an empty text as a byte.
        n = int(parse_bytes(settings.memory)) if any(map(str.isdigit, settings.memory)) else 0
    except (ValueError, AttributeError, OverflowError):
        n = 0
    if n < 1:
        raise UsageError(_sentence("memory", "a size such as 2GiB or 500MB", settings.memory))
    return n


def read_text(path: Path) -> str:
    """Read a small file that the user names, which may be a pipe of the shell.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, is too large, or is not text.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
    return content.decode("utf-8")


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from TOML: a file of the user, or the ``config.toml`` of a run, whose tables are left out.

    Raises
    ------
    UsageError
        If it cannot be read, is not TOML, or names an unknown setting.
    """
    try:
        document = tomllib.loads(read_text(path))
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the settings file {path} cannot be read: {encoding_hint(error.object)}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the settings file {path} is not TOML: {error}") from None
    given = {name: value for name, value in document.items() if name not in TABLES_OF_A_RUN}
    try:
        refuse_unknown(given)
    except UsageError as error:
        raise UsageError(f"the settings file {path} is wrong: {error}") from None
    return given


def refuse_address(given: Mapping[str, Any], path: Path) -> None:
    """Refuse the address of a cluster that a file names: the processes there can run code as the user.

    Where a run takes place is up to the user, and the file may be somebody else's.

    Raises
    ------
    UsageError
    """
    cluster = given.get("cluster")
    if isinstance(cluster, str) and is_address(cluster):
        raise UsageError(
            f"{path} names the cluster {cluster!r}, whose processes can run code as you; if you trust it, give it by "
            "--cluster on the command line, or add --trust-config; otherwise give another --cluster, such as none"
        )


def toml(table: Mapping[str, Any]) -> str:
    """Write scalars, lists (of scalars or of flat tables) and one level of tables as TOML."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", toml(value).rstrip()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON has no infinity; TOML calls it inf.
    return str(value) if isinstance(value, float) and math.isinf(value) else json.dumps(value)


_TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list"}
_BOUNDS = {" >= ": " of at least ", " <= ": " of at most ", " > ": " above ", " < ": " below "}


def _located(error: msgspec.ValidationError, given: Mapping[str, Any]) -> str:
    """Turn "Expected … - at `$.hidden[0]`" into a sentence with the value that came."""
    expected, _, place = str(error).partition(" - at `$.")
    place = place.rstrip("`")
    name, _, index = place.partition("[")
    value = given.get(name)
    if index.rstrip("]").isdigit() and isinstance(value, (list, tuple)):
        value = value[int(index.rstrip("]"))]
    wanted = expected.partition(", got")[0].removeprefix("Expected ")
    if wanted.startswith("Invalid enum"):
        # A word where another kind of value is possible too.
        wanted = listed([*OPTIONS[name].choices, "a list" if name == "class_weights" else "a whole number"])
    wanted = re.sub(r"`([^`]*)`", lambda found: _type_in_words(found[1]), wanted)
    for code, words in _BOUNDS.items():
        wanted = wanted.replace(code, words)
    return _sentence(place, re.sub(r"\.0$", "", wanted), value)


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _type_in_words(kinds: str) -> str:
    return listed([_TYPES.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"])


def _sentence(place: str, wanted: str, value: Any) -> str:
    name = place.partition("[")[0]
    return f"setting {place}: expected {wanted}, got {value!r}; correct {flag(name)}, or {name} in the settings file"
