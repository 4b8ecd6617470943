"""Access protection of a run: its keys, made in memory and shared only with its processes, and a private folder."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hfnumba.errors import ClusterError

# As long as any name of a socket: its number.
_LONGEST = "9999999999"


DASHBOARD_VARIABLE = "HFNUMBA_DASHBOARD"
"""Environment variable that is 1 if Dask's dashboard shall run."""

# Answers whether a process is there, and nothing else; Dask cannot do without a server of pages.
_PAGES_WITHOUT_DASHBOARD = ("distributed.http.health",)


def has_dashboard() -> bool:
    """Whether clusters that a run starts have Dask's dashboard: if it is asked for, and bokeh is installed.

    It listens on 127.0.0.1 without a password, so all users of the machine can read there what the workers do, their
    logs and the names of files. Without it, processes have no pages but one that says that they are there.
    """
    return os.environ.get(DASHBOARD_VARIABLE) == "1" and importlib.util.find_spec("bokeh") is not None


def _pages() -> dict[str, list[str]]:
    """Settings of Dask for what its processes show over HTTP."""
    if has_dashboard():
        return {}
    return {f"distributed.{role}.http.routes": [*_PAGES_WITHOUT_DASHBOARD] for role in ("scheduler", "worker")}


def make_keys() -> dict[str, str]:
    """Make a self-signed certificate and its private key, both as PEM text.

    Raises
    ------
    ClusterError
        If the package ``cryptography`` is missing.
    """
    from distributed.security import Security  # noqa: PLC0415 - slow to import

    try:
        made = Security.temporary()
    except ImportError:
        raise ClusterError(
            "encryption needs the package cryptography; run `pip install 'hfnumba[mpi]'`, "
            "or disable encryption with --insecure"
        ) from None
    return {"certificate": str(made.tls_ca_file), "key": str(made.tls_client_key)}


def configure(keys: dict[str, str]) -> None:
    """Use the keys for every connection of this process and its children, and refuse all other connections.

    The keys stay in memory, in Dask's configuration. OpenSSL reads them from files only, so Dask writes them for a
    moment to a directory that only this user can open, to create an SSL context.
    """
    import dask  # noqa: PLC0415 - not needed without a cluster

    settings = {
        "distributed.comm.default-scheme": "tls",
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": keys["certificate"],
    }
    for role in ("scheduler", "worker", "client"):
        settings[f"distributed.comm.tls.{role}.cert"] = keys["certificate"]
        settings[f"distributed.comm.tls.{role}.key"] = keys["key"]
    dask.config.set(settings)


@contextmanager
def private_folder() -> Iterator[str]:
    """Make a folder that only this user can enter, have Dask use it for its files, and remove it at the end.

    Python imports modules from the folder of Dask's files. The one that Dask takes by itself has a name that everyone
    knows, in the system's folder for temporary files, so another user may have made it, with modules in it. For the
    same reason processes that are started in this context do not look for modules in the current folder, as
    ``python -c`` does. Their pages over HTTP are empty unless there is a dashboard.

    Raises
    ------
    ClusterError
        If the folder cannot be made.
    """
    import dask  # noqa: PLC0415 - not needed without a cluster

    # Its defaults must be there before: a setting that is absent is deleted at the end, with all that is beside it.
    import distributed  # noqa: F401, PLC0415

    # It reports folders that were removed with this one before it removed them itself.
    logging.getLogger("distributed.diskutils").setLevel(logging.CRITICAL)
    with (
        _made() as folder,
        dask.config.set({"temporary-directory": folder} | _pages()),
        environment({"DASK_TEMPORARY_DIRECTORY": folder, "PYTHONSAFEPATH": "1"}),
    ):
        yield folder


def _made() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for sockets, which some file systems do not have, and whose paths must be short."""
    fault: OSError | None = None
    for place in (None, "/tmp"):
        try:
            folder = tempfile.TemporaryDirectory(prefix="hfnumba-", dir=place, ignore_cleanup_errors=True)
        except OSError as error:
            fault = error
            continue
        try:
            _check_sockets(folder.name)
        except OSError as error:
            fault = error
            folder.cleanup()
        else:
            return folder
    raise ClusterError(f"no folder for temporary files has sockets ({fault}); name one in TMPDIR") from fault


def _check_sockets(folder: str) -> None:
    """Raise OSError unless a socket can be made in a folder."""
    if ":" in folder:
        raise OSError(f"Dask would take what follows the colon in {folder} for a port")
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise OSError(f"Dask cannot send an address with the name {folder}, which is not UTF-8") from error
    path = Path(folder) / _LONGEST
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in this context, for the processes that are started in it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
