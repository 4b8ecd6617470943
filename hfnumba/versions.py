"""Versions of the packages that decide the bits of a sum: workers must have those of the client."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from hfnumba.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

PACKAGES = ("hfnumba", "numpy", "scipy", "numba")
"""Processes that share a sum must have the same versions of these. SciPy brings the BLAS."""

_MAX_NAMED = 3


def installed() -> dict[str, str]:
    """Versions of :data:`PACKAGES` in the process that calls this; "missing" for one that is not there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """What other versions somebody has, for a message."""
    return ", ".join(f"{name} {theirs.get(name, 'missing')}" for name in PACKAGES if theirs.get(name) != ours[name])


def spelled(versions: dict[str, str]) -> str:
    """All versions, for a message."""
    return ", ".join(f"{name} {versions[name]}" for name in PACKAGES)


def check_versions(client: Client, where: str) -> None:
    """Refuse a cluster of which a worker has other versions than this process.

    Costs one message to each worker. Workers that join later are asked before their first round.

    Parameters
    ----------
    client : distributed.Client
        Its workers are there.
    where : str
        What the cluster is called in messages, such as an address.

    Raises
    ------
    ClusterError
        Naming workers, packages and versions.
    """
    ours = installed()
    try:
        found = client.run(installed)
    except Exception as error:
        raise ClusterError(
            f"the workers of the {where} cannot import hfnumba ({type(error).__name__}: {error}); "
            f"install version {ours['hfnumba']} there"
        ) from error
    wrong = {worker: theirs for worker, theirs in sorted(found.items()) if theirs != ours}
    if not wrong:
        return
    named = [f"{worker} has {difference(theirs, ours)}" for worker, theirs in list(wrong.items())[:_MAX_NAMED]]
    more = f", and {len(wrong) - len(named)} more" if len(wrong) > len(named) else ""
    raise ClusterError(
        f"{len(wrong)} of {len(found)} workers of the {where} have other versions than this process "
        f"({'; '.join(named)}{more}); install {spelled(ours)} everywhere"
    )
