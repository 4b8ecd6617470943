"""Client of a running cluster."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, StoppedError, UsageError
from hfnumba.launch.connection import connection, scheduler_answer
from hfnumba.stop import unless_stopped
from hfnumba.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 30.0
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
        If nothing answers there within 30 seconds, it is not a Dask scheduler, it has no workers within ten minutes, or
        its workers have other versions than this process.

    Notes
    -----
    Certificates of a ``tls://`` cluster come from Dask's configuration (``distributed.comm.tls``).
    """
    _check_address(address)
    found = identity(address, CONNECT_TIMEOUT_S)
    if found.get("type") != "Scheduler":
        raise ClusterError(
            f"{address} is a Dask {str(found.get('type', 'process')).lower()}, expected a scheduler; "
            f"use the address that `dask scheduler` printed"
        )
    with connection(address, CONNECT_TIMEOUT_S) as client:
        client.sync(_check_workers, client, address, timeout_s)
        yield client


def _check_address(address: str) -> None:
    host, _, port = address.partition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"expected an address such as tcp://10.0.0.1:8786, got {address!r}")


def identity(address: str, timeout_s: float) -> dict[str, Any]:
    """Ask for the identity of the listener; a failed Dask client would keep trying to connect in its destructor.

    Raises
    ------
    ClusterError
        If no Dask process of this version answers in time.
    StoppedError
        If a signal arrives that ends a run.
    """
    answer: Future[dict[str, Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(asyncio.run(_ask(address, timeout_s)))
        except BaseException as error:
            answer.set_exception(error)

    # In a thread of its own: in a notebook this one runs an event loop already. Ctrl-C does not wait for it.
    threading.Thread(target=ask, name="hfnumba-identity", daemon=True).start()
    try:
        return answer.result()
    except StoppedError:
        raise
    except OSError:
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {timeout_s:g} s; check the address, "
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


async def _ask(address: str, timeout_s: float) -> dict[str, Any]:
    from distributed.comm import connect  # noqa: PLC0415 - slow to import
    from distributed.core import send_recv  # noqa: PLC0415 - slow to import
    from distributed.security import Security  # noqa: PLC0415 - slow to import

    async def ask() -> dict[str, Any]:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=timeout_s, **arguments)
        try:
            answer: dict[str, Any] = await send_recv(comm, op="identity", reply=True)
        finally:
            comm.abort()
        return answer

    # The timeout of connect does not include its handshake.
    return await unless_stopped(ask(), timeout_s)


async def _check_workers(client: Client, address: str, timeout_s: float) -> None:
    if not await scheduler_answer(client.scheduler.ncores()):
        _log.warning("the cluster at %s has no workers yet; waiting up to %.0f s for one", address, WORKERS_TIMEOUT_S)
    try:
        await unless_stopped(client.wait_for_workers(1), WORKERS_TIMEOUT_S)
    except TimeoutError:
        raise ClusterError(
            f"the cluster at {address} has no workers after {WORKERS_TIMEOUT_S:g} s; "
            f"start some with `dask worker {address}`"
        ) from None
    await check_versions(client, f"cluster at {address}", timeout_s)
