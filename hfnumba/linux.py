"""Functions of Linux: processors of threads, huge pages, malloc, shared memory, control groups, counts of connections.

Elsewhere these functions do nothing more than is possible, or raise OSError where their result is needed; callers have
another way then.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
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

        None where they are not counted. Within a machine, on a Unix socket, data are not on the way for long: there
        the numbers are 0.
        """
        if connection.family == socket.AF_UNIX:
            return 0, 0
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

    Raises
    ------
    MemoryError
        If there is not enough memory.
    """
    kind = np.dtype(dtype)
    n = math.prod(shape) * kind.itemsize
    if n < _LARGE:
        return np.empty(shape, kind)
    try:
        # Private, since shared pages are never huge.
        pages = mmap.mmap(-1, n + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"cannot allocate {n} bytes: {error.strerror}") from error
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    _advise(pages, start, n // _HUGE * _HUGE, n if n <= _POPULATED else 0)
    return np.frombuffer(pages, kind, math.prod(shape), start).reshape(shape)


def thread_activity(threads: Iterable[int]) -> tuple[bool, int] | None:
    """Look at threads of this process: whether one runs or waits for a disk, and the processor time of all, in ticks.

    Parameters
    ----------
    threads : iterable of int
        Native ids of the threads.

    Returns
    -------
    tuple of bool and int, or None
        None where the system has no /proc like Linux.
    """
    runs, ticks, seen = False, 0, False
    for thread in threads:
        try:
            # The name, in parentheses, may have spaces; after it come the state and ten numbers before the times.
            words = Path(f"/proc/self/task/{thread}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
            runs, ticks, seen = runs or words[0] in "RD", ticks + int(words[11]) + int(words[12]), True
        except (OSError, ValueError, IndexError):
            continue
    return (runs, ticks) if seen else None


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


def memory_limit(proc: Path = Path("/proc/self")) -> int | None:
    """Bytes of memory that the control groups of this process allow; None without a limit."""
    found = [_numbers(path) for path in _memory_limits(proc)]
    # Version 1 has a very large number for "no limit", which is above any machine's memory.
    return min((numbers[0] for numbers in found if numbers), default=None)


@functools.cache
def _memory_limits(proc: Path) -> tuple[Path, ...]:
    """Files with the limits of the groups that this process is in at the first call; a later move is not seen."""
    names = {"cgroup": ("memory.limit_in_bytes",), "cgroup2": ("memory.max", "memory.high")}
    return tuple([folder / name for kind, folder in _groups("memory", proc) for name in names[kind]])


@functools.cache
def processor_limit(proc: Path = Path("/proc/self")) -> float | None:
    """Number of processors, a fraction too, that the control groups of this process allow; None without a limit."""
    found = []
    for kind, folder in _groups("cpu", proc):
        names = ("cpu.max",) if kind == "cgroup2" else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        match [number for name in names for number in _numbers(folder / name)]:
            case [quota, period] if quota > 0 and period > 0:  # Version 1 has -1 for "no limit".
                found.append(quota / period)
    return min(found, default=None)


def _numbers(path: Path) -> list[int]:
    """Whole numbers in a file; none if it has a word, such as "max" for "no limit", or cannot be read."""
    try:
        return [int(word) for word in path.read_text("ascii").split()]
    except (OSError, ValueError):
        return []


def _groups(controller: str, proc: Path) -> Iterator[tuple[str, Path]]:
    """Version (cgroup, cgroup2) and folder of this process's control group of a controller, and of those above it.

    A container sees its own group where the machine has its topmost one; a job of a batch system is in a group
    further down. The limits of all these groups apply.
    """
    try:
        groups, mounts = (os.fsdecode((proc / name).read_bytes()).splitlines() for name in ("cgroup", "mountinfo"))
    except OSError:
        return
    # Fields of a mount: its number, parent, device, root, folder, options, optional fields, "-", kind, source, options.
    memberships = [line.split(":", 2) for line in groups if line.count(":") > 1]
    for mount in (line.split(" ") for line in mounts if " - " in line):
        kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and controller not in options):
            continue
        for _, controllers, name in memberships:
            if controllers == "" if kind == "cgroup2" else controller in controllers.split(","):
                root, folder = Path(mount[3]), Path(mount[4])
                # A container may be told a name of its group that its own mount does not show.
                group = folder / Path(name).relative_to(root) if Path(name).is_relative_to(root) else folder
                yield from ((kind, one) for one in (group, *group.parents) if one.is_relative_to(folder))
