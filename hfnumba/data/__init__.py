"""Stores of rows in Zarr: written once from a recipe or from arrays, verified at every read."""

from hfnumba.data.building import build, finalise, init, write_partition
from hfnumba.data.description import info, survey
from hfnumba.data.memory import write_frames, write_store
from hfnumba.data.recipes import Recipe, datasets_dir, find_recipe, list_recipes
from hfnumba.data.store import Split, Store, open_store
from hfnumba.data.verification import verify
from hfnumba.data.weights import balanced

__all__ = [
    "Recipe",
    "Split",
    "Store",
    "balanced",
    "build",
    "datasets_dir",
    "finalise",
    "find_recipe",
    "info",
    "init",
    "list_recipes",
    "open_store",
    "survey",
    "verify",
    "write_frames",
    "write_partition",
    "write_store",
]
