"""Keys of one run: made in memory, shared only with its processes, never stored."""

from __future__ import annotations

from hfnumba.errors import ClusterError


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
            "encryption needs the package cryptography; install hfnumba[mpi], or disable encryption with --insecure"
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
