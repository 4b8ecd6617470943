"""A scheduler and many workers in few processes, to be used as if each worker were on another machine.

The engine must not use shared memory with them. The processes end when their standard input is closed, so none
outlives its parent.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from distributed import Client, Scheduler, Worker

from hfnumba.errors import ClusterError
from hfnumba.launch.security import private_folder
from hfnumba.launch.sockets import host

_START_TIMEOUT_S, _END_TIMEOUT_S = 120, 20
_NO_LIMIT = 0


@dataclass(frozen=True)
class WorkerProcess:
    """A process with workers.

    Attributes
    ----------
    listen : str
        Host that they listen at, as Dask takes it.
    n_workers : int
    launcher : tuple of str
        Words in front of its command, such as those that enter a network namespace.
    """

    listen: str
    n_workers: int
    launcher: tuple[str, ...] = ()


@contextmanager
def remote_workers(n_workers: int, n_processes: int) -> Iterator[Client]:
    """Start ``n_workers`` workers of one thread each in ``n_processes`` processes, and yield a client of them.

    Raises
    ------
    ClusterError
        If they do not start.
    """
    with private_folder() as folder:
        listen = host(folder)
        counts = [(k + 1) * n_workers // n_processes - k * n_workers // n_processes for k in range(n_processes)]
        with workers_at(listen, [WorkerProcess(listen, count) for count in counts if count]) as client:
            yield client


@contextmanager
def workers_at(listen: str, processes: Sequence[WorkerProcess]) -> Iterator[Client]:
    """Start a scheduler that listens at a host, and processes with workers of one thread each; yield their client.

    Raises
    ------
    ClusterError
        If they do not start.
    """
    n_workers = sum(process.n_workers for process in processes)
    with ExitStack() as stack:
        scheduler = _child(stack, (), "scheduler", listen)
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().decode().strip()
        if not address:
            raise ClusterError("the scheduler of the measurement did not start; see its messages above")
        for one in processes:
            _child(stack, one.launcher, "workers", one.listen, address, str(one.n_workers))
        client = stack.enter_context(Client(address))
        try:
            client.wait_for_workers(n_workers, timeout=_START_TIMEOUT_S)
        except TimeoutError as error:
            raise ClusterError(f"{n_workers} workers of the measurement did not start; try fewer") from error
        yield client


def _child(stack: ExitStack, launcher: tuple[str, ...], *arguments: str) -> subprocess.Popen[bytes]:
    command = [*launcher, sys.executable, "-m", "hfnumba.bench.remote", *arguments]
    quiet = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "error"}
    # In a process group of its own: Ctrl-C is for the parent, whose end closes standard input.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, process_group=0)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


async def _schedule(listen: str) -> None:
    async with Scheduler(host=listen, port=0, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        sys.stdout.write(f"{scheduler.address}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


async def _work(listen: str, address: str, count: str) -> None:
    async with _Workers(listen, address, int(count)):
        await asyncio.to_thread(sys.stdin.read)


class _Workers:
    """Several workers in this process."""

    def __init__(self, listen: str, address: str, count: int) -> None:
        rest = {"memory_limit": _NO_LIMIT, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        self._workers = [Worker(address, nthreads=1, host=listen, **rest) for _ in range(count)]

    async def __aenter__(self) -> None:
        await asyncio.gather(*self._workers)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.close(nanny=False) for worker in self._workers), return_exceptions=True)


if __name__ == "__main__":
    if sys.argv[1] == "scheduler":
        asyncio.run(_schedule(*sys.argv[2:]))
    else:
        asyncio.run(_work(*sys.argv[2:]))
