"""Versions of packages; workers need the client's versions, otherwise sums could differ silently."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from hfnumba.errors import ClusterError, sentence
from hfnumba.stop import unless_stopped

if TYPE_CHECKING:
    from distributed import Client

PACKAGES = ("hfnumba", "numpy", "scipy", "numba")
"""Packages that decide the bits of a sum; SciPy brings the BLAS. All processes must have the same versions."""

_MAX_NAMED = 3
_MISSING = "missing"


def installed(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of packages in this process, "missing" for one that is not installed.

    The name ``python`` stands for the interpreter.
    """
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return _MISSING


def as_text(versions: Mapping[str, str]) -> str:
    """Format versions for a message."""
    return ", ".join(f"{name} {found}" for name, found in versions.items())


def difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Format the versions of another process that differ from ours, for a message."""
    return as_text({name: theirs.get(name, _MISSING) for name in ours if theirs.get(name) != ours[name]})


async def check_versions(client: Client, where: str, timeout_s: float) -> None:
    """Raise if a worker of a cluster has other versions than this process.

    Costs one message to each worker. Workers that are gone, or do not answer in time, and those that join later are
    checked before their first round. Runs on the client's event loop.

    Parameters
    ----------
    client : distributed.Client
        Client of a cluster with workers.
    where : str
        Name of the cluster in messages, such as its address.
    timeout_s : float
        Seconds to wait for the answers.

    Raises
    ------
    ClusterError
        The message names workers, packages and versions.
    """
    ours = installed()
    try:
        answers = await unless_stopped(client.run(installed, on_error="return"), timeout_s)
    except (TimeoutError, OSError):
        return
    found = {}
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, Exception) and not isinstance(answer, OSError):
            raise ClusterError(
                f"worker {worker} of the {where} cannot import hfnumba ({type(answer).__name__}: {sentence(answer)}); "
                f"install version {ours['hfnumba']} there"
            ) from answer
        if not isinstance(answer, Exception):
            found[worker] = answer
    wrong = {worker: theirs for worker, theirs in found.items() if theirs != ours}
    if not wrong:
        return
    named = [f"{worker} has {difference(theirs, ours)}" for worker, theirs in list(wrong.items())[:_MAX_NAMED]]
    more = f", and {len(wrong) - len(named)} more" if len(wrong) > len(named) else ""
    raise ClusterError(
        f"{len(wrong)} of {len(found)} workers of the {where} have other versions than this process "
        f"({'; '.join(named)}{more}); install {as_text(ours)} everywhere"
    )
