"""What only Linux has: processors of threads, huge pages, malloc's thresholds, shared memory, counts of a connection.

Elsewhere these functions do nothing more than is possible, or raise OSError where their result is needed; callers have
another way then.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import socket
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Linux has it since 5.14; the module mmap has no name for it.
_POPULATE_WRITE = 23
# Numbers of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAX_MMAP_THRESHOLD = 1 << 25

# Where the kernel's tcp_info has the numbers of bytes acknowledged and received, since Linux 4.1.
_TCP_COUNTS, _TCP_INFO_SIZE = 120, 136

# Bytes of an array that gets pages of its own, and of a huge page.
_LARGE, _HUGE = 2**20, 2**21
# More is not mapped before it is filled: a header may claim what never comes.
_POPULATED = 2**26

if sys.platform == "linux":
    import fcntl

    _where = getattr(ctypes.CDLL(None), "sched_getcpu", lambda: -1)

    def current_processor() -> int:
        """Return the processor that the calling thread runs on; -1 where that cannot be found out."""
        return int(_where())

    def avoid_processor(processor: int, threads: list[int]) -> None:
        """Let threads, by their native ids, run on every processor this process may use except one."""
        others = os.sched_getaffinity(0) - {processor}
        with contextlib.suppress(OSError):  # a container may forbid it
            for thread in threads:
                os.sched_setaffinity(thread, others)

    def run_anywhere() -> None:
        """Let this thread run where the process may, and not only where the thread that started it may."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))

    def _advise(pages: mmap.mmap, start: int, n_huge: int, n_populated: int) -> None:
        """Use huge pages for ``n_huge`` bytes from ``start`` on, and map ``n_populated`` bytes at once.

        Refused by old or small kernels, where it costs time only.
        """
        with contextlib.suppress(OSError):
            if n_huge:
                pages.madvise(mmap.MADV_HUGEPAGE, start, n_huge)
            if n_populated:
                pages.madvise(_POPULATE_WRITE, start, n_populated)

    def create_shared(name: str, nbytes: int) -> int:
        """Return the descriptor of new memory that cannot be resized, without a name in any file system (memfd)."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(fd, 0, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_shared(name: str, pid: int, fd: int, nbytes: int) -> int:
        """Return a descriptor for reading another process's memory of :func:`create_shared`.

        Raises
        ------
        OSError
            If there is none of that name and size, or it may not be opened.
        """
        path = Path(f"/proc/{pid}/fd/{fd}")
        if not str(path.readlink()).startswith(f"/memfd:{name}"):
            raise OSError(f"{path} is no shared memory")
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sealed = fcntl.fcntl(found, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
            if os.fstat(found).st_size != nbytes or not sealed:
                raise OSError(f"{path} has another size")
        except BaseException:
            os.close(found)
            raise
        return found

    def transferred(connection: socket.socket) -> tuple[int, int] | None:
        """Return the bytes of a TCP connection that the other side has received, and those that it has sent.

        None where they are not counted.
        """
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        except OSError:
            return None
        return struct.unpack_from("QQ", info, _TCP_COUNTS) if len(info) == _TCP_INFO_SIZE else None

else:

    def current_processor() -> int:
        """Return -1: this system has no function for it."""
        return -1

    def avoid_processor(processor: int, threads: list[int]) -> None:
        """Do nothing."""

    def run_anywhere() -> None:
        """Do nothing."""

    def _advise(pages: mmap.mmap, start: int, n_huge: int, n_populated: int) -> None:
        """Do nothing."""

    def create_shared(name: str, nbytes: int) -> int:
        """Raise OSError."""
        raise OSError("this system has no memory of this kind")

    def open_shared(name: str, pid: int, fd: int, nbytes: int) -> int:
        """Raise OSError."""
        raise OSError("this system has no memory of this kind")

    def transferred(connection: socket.socket) -> tuple[int, int] | None:
        """Return None: this system does not count."""
        return None


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """An array to be filled; a large one in pages of its own.

    A C library retains what is freed for the thread that had it. Where threads take turns in reading partitions, each
    then retains some, and a process grows to twice the size of its arrays.

    A small page that is touched for the first time costs about as much as to decode what goes into it. So huge pages
    are used as far as the array fills them, and the others are asked for together.
    """
    kind = np.dtype(dtype)
    n = math.prod(shape) * kind.itemsize
    if n < _LARGE:
        return np.empty(shape, kind)
    # Private, since shared pages are never huge.
    pages = mmap.mmap(-1, n + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    _advise(pages, start, n // _HUGE * _HUGE, n if n <= _POPULATED else 0)
    return np.frombuffer(pages, kind, math.prod(shape), start).reshape(shape)


def process_namespace() -> str:
    """Name what processes share that see each other under /proc: this start of the kernel, and the process namespace.

    Raises
    ------
    OSError
        If the system has no /proc like Linux.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def reuse_freed_memory(nbytes: int) -> None:
    """Let malloc retain up to ``nbytes`` of freed memory for new arrays of up to 32 MB, if this is glibc.

    A page that is new costs more than a copy; and Dask's nanny asks malloc to give all memory back at once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, nbytes)
