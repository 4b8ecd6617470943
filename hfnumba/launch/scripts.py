"""Launch scripts for clusters, written to a folder of the user's to be edited there."""

from __future__ import annotations

from pathlib import Path

from hfnumba.atomic import explain, write_file
from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.package_files import package_folder


def write_scripts(folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the launch scripts that come with hfnumba, and their page README.md, to a folder.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    overwrite : bool
        Whether files of the same names are replaced.

    Returns
    -------
    list of Path
        The files written, sorted by name.

    Raises
    ------
    UsageError
        If the folder has files of the same names and ``overwrite`` is false; nothing is written then.
    HfnumbaError
        If a file cannot be written.
    """
    sources = sorted(path for path in package_folder("cluster").iterdir() if path.is_file())
    present = [path.name for path in sources if (folder / path.name).exists()]
    if present and not overwrite:
        raise UsageError(f"{folder} already has {', '.join(present)}; choose another folder, or add --overwrite")
    return [_write(source, folder / source.name) for source in sources]


def _write(source: Path, path: Path) -> Path:
    content = source.read_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
        if content.startswith(b"#!"):
            # By its content, since not every installer keeps the permissions of files; for all who may read it.
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o444) >> 2)
    except OSError as error:
        raise HfnumbaError(explain(error, path)) from error
    return path
