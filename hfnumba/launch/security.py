"""Keys of one run: made in memory, given to its processes only, and gone with them."""

from __future__ import annotations

from hfnumba.errors import ClusterError


def make_keys() -> dict[str, str]:
    """Make a certificate that is its own authority, and its private key, both as PEM text.

    Raises
    ------
    ClusterError
        If the library ``cryptography`` is missing.
    """
    from distributed.security import Security  # noqa: PLC0415 - slow to import

    try:
        made = Security.temporary()
    except ImportError:
        raise ClusterError(
            "encryption needs the package cryptography; install hfnumba[mpi], or give encryption up with --insecure"
        ) from None
    return {"certificate": str(made.tls_ca_file), "key": str(made.tls_client_key)}


def configure(keys: dict[str, str]) -> None:
    """Let every connection of this process and its children use the keys, and refuse all others.

    The keys stay in Dask's configuration, in memory. OpenSSL reads them from files only, so Dask writes them to a
    directory that nobody else can open, for the moment in which it makes a context of them.
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
