"""Stores of rows in Zarr: layout and reading; every byte is verified when it is read.

:mod:`hfnumba.store.info` describes a store, :mod:`hfnumba.store.verify` checks all of it, and
:mod:`hfnumba.store.class_weights` computes weights of classes.
"""

from hfnumba.store.split import Split, Store, open_store

__all__ = ["Split", "Store", "open_store"]
