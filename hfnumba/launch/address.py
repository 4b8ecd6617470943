"""Client of a running cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.connection import connection
from hfnumba.stop import unless_stopped
from hfnumba.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 8.0
WORKERS_TIMEOUT_S = 600.0


@contextmanager
def connected(address: str, timeout_s: float) -> Iterator[Client]:
    """Connect to the scheduler at ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; it is left running afterwards.

    Parameters
    ----------
    address : str
    timeout_s : float
        Seconds to wait for the versions of workers; those without an answer are checked before their first round.

    Raises
    ------
    UsageError
        If the address has another form.
    ClusterError
        If nothing answers there within 8 seconds, it is not a Dask scheduler, it has no workers within ten minutes, or
        its workers have other versions than this process.

    Notes
    -----
    Certificates of a ``tls://`` cluster come from Dask's configuration (``distributed.comm.tls``).
    """
    _check_address(address)
    identity = _identity(address)
    if identity.get("type") != "Scheduler":
        raise ClusterError(
            f"{address} is a Dask {str(identity.get('type', 'process')).lower()}, expected a scheduler; "
            f"use the address that `dask scheduler` printed"
        )
    with connection(address, CONNECT_TIMEOUT_S) as client:
        client.sync(_check_workers, client, address, timeout_s)
        yield client


def _check_address(address: str) -> None:
    host, _, port = address.partition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"expected an address such as tcp://10.0.0.1:8786, got {address!r}")


def _identity(address: str) -> dict[str, Any]:
    """Ask for the identity of the listener; a failed Dask client would keep trying to connect in its destructor."""
    try:
        # In a thread of its own: in a notebook this one runs an event loop already.
        with ThreadPoolExecutor(1, "hfnumba-identity") as executor:
            return executor.submit(asyncio.run, _ask(address)).result()
    except (TimeoutError, OSError):
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {CONNECT_TIMEOUT_S:g} s; check the address, "
            "and that the scheduler runs and can be reached from this machine"
        ) from None
    except TypeError as error:
        raise ClusterError(
            f"{address} needs certificates; name them in Dask's configuration (distributed.comm.tls): {error}"
        ) from error
    except Exception as error:
        # Bytes of another protocol raise many kinds of errors when decoded, even MemoryError.
        raise ClusterError(
            f"the listener at {address} is not a Dask scheduler of this version ({type(error).__name__}); "
            "use the scheduler's address, not that of its dashboard"
        ) from error


async def _ask(address: str) -> dict[str, Any]:
    from distributed.comm import connect  # noqa: PLC0415 - slow to import
    from distributed.core import send_recv  # noqa: PLC0415 - slow to import
    from distributed.security import Security  # noqa: PLC0415 - slow to import

    async def ask() -> dict[str, Any]:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECT_TIMEOUT_S, **arguments)
        try:
            answer: dict[str, Any] = await send_recv(comm, op="identity", reply=True)
        finally:
            comm.abort()
        return answer

    # The timeout of connect does not include its handshake.
    return await asyncio.wait_for(ask(), CONNECT_TIMEOUT_S)


async def _check_workers(client: Client, address: str, timeout_s: float) -> None:
    if not await client.scheduler.ncores():
        _log.warning("the cluster at %s has no workers yet; waiting up to %.0f s for one", address, WORKERS_TIMEOUT_S)
    try:
        await unless_stopped(client.wait_for_workers(1), WORKERS_TIMEOUT_S)
    except TimeoutError:
        raise ClusterError(
            f"the cluster at {address} has no workers after {WORKERS_TIMEOUT_S:g} s; "
            f"start some with `dask worker {address}`"
        ) from None
    await check_versions(client, f"cluster at {address}", timeout_s)
