"""Making stores: from recipes and files of many formats, or from arrays in memory."""

from hfnumba.ingest.build import build, finalise, init, write_partition
from hfnumba.ingest.from_arrays import write_frames, write_store
from hfnumba.ingest.recipes import Recipe, datasets_dir, find_recipe, list_recipes

__all__ = [
    "Recipe",
    "build",
    "datasets_dir",
    "finalise",
    "find_recipe",
    "init",
    "list_recipes",
    "write_frames",
    "write_partition",
    "write_store",
]
