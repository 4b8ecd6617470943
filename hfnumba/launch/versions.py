"""The handshake: workers must run what the client runs, or sums would differ without a sign of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfnumba.errors import ClusterError
from hfnumba.versions import difference, installed, spelled

if TYPE_CHECKING:
    from distributed import Client

_MAX_NAMED = 3


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
