"""Folders of files that come with hfnumba: recipes and launch scripts."""

from __future__ import annotations

from pathlib import Path

from hfnumba.errors import HfnumbaError

_PACKAGE = Path(__file__).resolve().parent


def package_folder(name: str) -> Path:
    """Return a folder of files that come with hfnumba: inside the installed package, beside it in a checkout.

    Parameters
    ----------
    name : {"cluster", "datasets"}

    Raises
    ------
    HfnumbaError
        If it is not there, which is a fault of the installation.
    """
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        # Both have a page about their files; a folder of the same name that is not ours is passed over.
        if (folder / "README.md").is_file():
            return folder
    raise HfnumbaError(f"the folder {name!r} of hfnumba is missing in {_PACKAGE} and beside it; install it again")
