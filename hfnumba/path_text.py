"""Paths as text for JSON and TOML, which hold Unicode only; a name of a file may be any bytes."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_SCHEME = "file:"


def path_text(path: str | os.PathLike[str]) -> str:
    """Return the path as it is, or as a file URI (RFC 8089) if its bytes are not UTF-8."""
    text = os.fspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _SCHEME + quote(os.fsencode(text))
    return text


def text_path(text: str) -> Path:
    """Return the absolute path of a text that :func:`path_text` made."""
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_SCHEME))) if text.startswith(_SCHEME) else text)
