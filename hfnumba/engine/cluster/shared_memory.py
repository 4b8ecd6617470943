"""Arrays that processes of one machine show each other, without a copy through a socket.

A box is memory without a name in any file system (memfd). Another process of the same user opens it through
``/proc/PID/fd/N`` of its owner; it is gone with the last process that looks into it, whatever ends them. Only its
owner writes into a box. That it is the right box follows from the machine, the kind of file, its size that is
sealed, and a random token at its start. Where any of this fails, arrays travel with the messages.
"""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import secrets
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NAME = "hfnumba"
# Token, then the number of the request that its contents answer; arrays start at whole cache lines.
_TOKEN, _HEADER, _LINE = 16, 64, 64
# Boxes that are free for new vectors: as many as are sent between two that live longer.
_SPARE = 2


class SharedMemoryError(Exception):
    """A box cannot be made or opened here; never seen by users, since arrays then travel another way."""


class Place(NamedTuple):
    """Where other processes find a box."""

    machine: str
    pid: int
    fd: int
    token: bytes
    nbytes: int


@dataclass(frozen=True)
class Parcel:
    """An array in a box."""

    place: Place
    offset: int
    shape: tuple[int, ...]
    dtype: str


@functools.cache
def machine() -> str:
    """What processes share that see each other under /proc: this start of this kernel, and the names of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError as error:
        raise SharedMemoryError(f"this system has no /proc like Linux: {error}") from error


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE


class Box:
    """Memory that other processes may look into.

    Parameters
    ----------
    nbytes : int
        Room for arrays; each starts at a multiple of 64 bytes. All of it is allocated at once.

    Raises
    ------
    SharedMemoryError
        If the system has no such memory, or not so much.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(_LINE, nbytes)
        total, token = _HEADER + self.nbytes, secrets.token_bytes(_TOKEN)
        try:
            fd = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            weakref.finalize(self, os.close, fd)
            os.posix_fallocate(fd, 0, total)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(fd, total)
        except (OSError, AttributeError) as error:
            raise SharedMemoryError(f"no box of {total} bytes: {error}") from error
        self._memory[:_TOKEN] = token
        self.place = Place(machine(), os.getpid(), fd, token, total)
        self._number = np.frombuffer(self._memory, np.int64, 1, _TOKEN)

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The memory at an offset as an array that can be written."""
        return _array(self._memory, offset, shape, dtype)

    def number(self, number: int) -> None:
        """Say which request the contents belong to; set before they are written, and again after."""
        self._number[0] = number


class Window:
    """A look into another process's box; what is written into its arrays stays with this process.

    Raises
    ------
    SharedMemoryError
        If the place is not on this machine, is gone, is another's, or is not open to this process.
    """

    def __init__(self, place: Place) -> None:
        if place.machine != machine():
            raise SharedMemoryError("the box is on another machine, or its process is hidden from this one")
        path = Path(f"/proc/{place.pid}/fd/{place.fd}")
        try:
            if not str(path.readlink()).startswith(f"/memfd:{_NAME}"):
                raise SharedMemoryError(f"{path} is no box")
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
                if os.fstat(fd).st_size != place.nbytes or not sealed:
                    raise SharedMemoryError(f"{path} has another size")
                # Private, so that arrays count as writable for compiled kernels but nobody's memory can change.
                self._memory = mmap.mmap(fd, place.nbytes, access=mmap.ACCESS_COPY)
            finally:
                os.close(fd)
        except OSError as error:
            raise SharedMemoryError(f"{path} cannot be opened: {error}") from error
        self.token = place.token
        if self._memory[:_TOKEN] != place.token:
            raise SharedMemoryError(f"{path} is another box")

    def array(self, parcel: Parcel) -> NDArray[Any]:
        """The array as it is now and will be: its owner may change it."""
        return _array(self._memory, parcel.offset, parcel.shape, np.dtype(parcel.dtype))

    def number(self) -> int:
        """The request that the contents belong to."""
        return int.from_bytes(self._memory[_TOKEN : _TOKEN + 8], "little", signed=True)


def _array(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, dtype, count, _HEADER + offset).reshape(shape)


class VectorBoxes:
    """Vectors by name, each in a box as long as it is live. A name is never used for another vector.

    So whoever reads a box late, for a request that was given up, may find another vector there than it was told,
    but only under a name that is never asked about again.
    """

    def __init__(self) -> None:
        self._boxes: dict[str, Box] = {}
        self._spare: list[Box] = []

    def keep(self, live: Collection[str]) -> None:
        """Free the boxes of vectors that are not among ``live``."""
        for name in [name for name in self._boxes if name not in live]:
            self._spare.append(self._boxes.pop(name))
        del self._spare[: max(0, len(self._spare) - _SPARE)]

    def parcel(self, name: str, vector: NDArray[Any]) -> Parcel:
        """Where others find the vector; it is copied the first time."""
        if name not in self._boxes:
            fitting = [box for box in self._spare if vector.nbytes <= box.nbytes <= 2 * vector.nbytes + _LINE]
            box = fitting[0] if fitting else Box(vector.nbytes)
            if fitting:
                self._spare.remove(box)
            box.array(0, vector.shape, vector.dtype)[...] = vector
            self._boxes[name] = box
        return Parcel(self._boxes[name].place, 0, vector.shape, vector.dtype.str)

    def tokens(self) -> tuple[bytes, ...]:
        """Tokens of all boxes there are: those that others need not forget."""
        return tuple(box.place.token for box in (*self._boxes.values(), *self._spare))


class Windows:
    """Boxes of others that this process has opened."""

    def __init__(self) -> None:
        self._windows: dict[bytes, Window] = {}

    def open(self, place: Place) -> Window:
        """The window on a box; opened the first time."""
        if place.token not in self._windows:
            self._windows[place.token] = Window(place)
        return self._windows[place.token]

    def keep(self, tokens: Collection[bytes]) -> None:
        """Forget all others; their memory goes when their last array does."""
        self._windows = {token: window for token, window in self._windows.items() if token in tokens}


class AnswerBox:
    """A box for one answer at a time, made anew for a larger one."""

    def __init__(self) -> None:
        self._box: Box | None = None

    def pack(self, number: int, arrays: list[NDArray[Any]]) -> list[Parcel]:
        """Copy the arrays of one answer, over those of the one before."""
        total = sum(_aligned(array.nbytes) for array in arrays)
        if self._box is None or self._box.nbytes < total:
            self._box = None
            self._box = Box(total)
        self._box.number(-1)
        parcels, offset = [], 0
        for array in arrays:
            self._box.array(offset, array.shape, array.dtype)[...] = array
            parcels.append(Parcel(self._box.place, offset, array.shape, array.dtype.str))
            offset += _aligned(array.nbytes)
        self._box.number(number)
        return parcels
