"""Import of optional libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hfnumba.errors import DataError


def require(library: str, extra: str) -> Any:
    """Import a library; if that fails, raise with the command that installs it."""
    try:
        return import_module(library)
    except (ImportError, OSError) as error:
        raise DataError(
            f"this source needs {library}, which cannot be imported ({error}); run `pip install 'hfnumba[{extra}]'`"
        ) from error
