"""Stores of rows in Zarr: their layout, and how they are read; every byte is verified when it is read.

Descriptions are in :mod:`hfnumba.store.info`, whole-store checks in :mod:`hfnumba.store.verify`, weights of classes in
:mod:`hfnumba.store.class_weights`.
"""

from hfnumba.store.split import Split, Store, open_store

__all__ = ["Split", "Store", "open_store"]
