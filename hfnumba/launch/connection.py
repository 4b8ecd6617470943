"""Client of a scheduler, with errors in sentences and an end in bounded time."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, sentence
from hfnumba.stop import unless_stopped

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 60.0
SCHEDULER_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0


@contextmanager
def connection(to: Any = None, timeout_s: float = CONNECT_TIMEOUT_S) -> Iterator[Client]:
    """Yield a client, and close it; what is left of it after ten seconds ends with this process.

    Parameters
    ----------
    to : str or distributed.deploy.Cluster, optional
        Address of the scheduler, or the cluster; by default that of Dask's configuration.
    timeout_s : float
        Seconds to wait for the scheduler.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, or Dask reports a connection that has broken.
    """
    from distributed import Client  # noqa: PLC0415 - slow to import
    from distributed.comm.core import CommClosedError  # noqa: PLC0415

    try:
        client = Client(to, timeout=timeout_s)
    except OSError as error:
        raise ClusterError(
            f"the scheduler does not answer ({sentence(error)}); check that it runs and this machine can reach it"
        ) from error
    # A scheduler that is gone is reported by whoever needs it; Dask would add tracebacks of its attempts to reconnect.
    with quiet_loggers("client"):
        try:
            yield client
        except CommClosedError as error:
            raise ClusterError(
                f"a connection of the cluster is broken ({sentence(error)}); see the scheduler's log, then use --resume"
            ) from error
        finally:
            try:
                client.close(timeout=CLOSE_TIMEOUT_S)
            except OSError as error:
                _log.debug("the client is not closed in order: %s", error)


async def scheduler_answer[T](call: Awaitable[T], timeout_s: float = SCHEDULER_TIMEOUT_S) -> T:
    """Return the answer to a call of the scheduler, which may be frozen or cut off at any time.

    Raises
    ------
    ClusterError
        If there is none in time.
    StoppedError
        If a signal arrives that ends a run.
    """
    try:
        return await unless_stopped(call, timeout_s)
    except OSError as error:
        why = f"within {timeout_s:.0f} s" if isinstance(error, TimeoutError) else f"({sentence(error)})"
        raise ClusterError(
            f"the scheduler does not answer {why}; check that it runs and this machine can reach it"
        ) from error


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Silence loggers of Dask, by their names without ``distributed``, unless the environment sets Dask's logging."""
    asked_for = any(name.startswith("DASK_LOGGING") for name in os.environ)
    loggers = [] if asked_for else [logging.getLogger(f"distributed.{name}") for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
