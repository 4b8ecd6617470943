"""Stores of rows in Zarr: layout and reading; every byte is verified when it is read.

:mod:`hfnumba.store.info` describes a store, :mod:`hfnumba.store.verify` checks all of it, and
:mod:`hfnumba.store.class_weights` computes weights of classes.
"""

from importlib import import_module
from types import ModuleType

from hfnumba.store.split import Split
from hfnumba.store.store import Store, open_store

__all__ = ["Split", "Store", "open_store"]


def __getattr__(name: str) -> ModuleType:
    """Import a module that the documentation names when it is first used."""
    if name in ("class_weights", "info", "verify"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
