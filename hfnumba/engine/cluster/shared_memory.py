"""Arrays that processes of one machine share, without a copy through a socket.

A box is memory without a name in any file system (memfd). Another process of the same user opens it through
``/proc/PID/fd/N`` of its owner; it is freed with the last process that has it open, however these end. Only its
owner writes into a box. That it is the right box follows from the machine, the kind of file, its size that is
sealed, and a random token at its start. Where any of this fails, arrays travel with the messages.
"""

from __future__ import annotations

import functools
import mmap
import os
import secrets
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba import linux

_NAME = "hfnumba"
# Token, then the number of the message that its contents answer; arrays start at whole cache lines.
_TOKEN, _HEADER, _LINE = 16, 64, 64
# Boxes that are free for new vectors: as many as are sent between two that live longer.
_SPARE = 2


class SharedMemoryError(Exception):
    """A box cannot be made or opened here; users never see it, since arrays then travel with the messages."""


class Place(NamedTuple):
    """Where other processes find a box: its owner's machine, process and descriptor, its token, and its size."""

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
    """What processes have in common that can open each other's boxes."""
    try:
        return linux.process_namespace()
    except OSError as error:
        raise SharedMemoryError(f"this system has no /proc like Linux: {error}") from error


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE


class Box:
    """Memory that other processes can read.

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
            fd = linux.create_shared(_NAME, total)
            weakref.finalize(self, os.close, fd)
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
        """Set the number of the message that the contents answer; before they are written, and again after."""
        self._number[0] = number


class Window:
    """Another process's box, opened for reading; what is written into its arrays stays with this process.

    Raises
    ------
    SharedMemoryError
        If the place is not on this machine, is gone, is another's, or is not open to this process.
    """

    def __init__(self, place: Place) -> None:
        if place.machine != machine():
            raise SharedMemoryError("the box is on another machine, or its process is hidden from this one")
        try:
            fd = linux.open_shared(_NAME, place.pid, place.fd, place.nbytes)
            try:
                # Private, so that arrays count as writable for compiled kernels but the owner's memory cannot change.
                self._memory = mmap.mmap(fd, place.nbytes, access=mmap.ACCESS_COPY)
            finally:
                os.close(fd)
        except OSError as error:
            raise SharedMemoryError(f"the box cannot be opened: {error}") from error
        self.token = place.token
        if self._memory[:_TOKEN] != place.token:
            raise SharedMemoryError("the box is another one")

    def array(self, parcel: Parcel) -> NDArray[Any]:
        """The array as it is now and will be: its owner may change it."""
        return _array(self._memory, parcel.offset, parcel.shape, np.dtype(parcel.dtype))

    def number(self) -> int:
        """Number of the message that the contents answer."""
        return int.from_bytes(self._memory[_TOKEN : _TOKEN + 8], "little", signed=True)


def _array(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, dtype, count, _HEADER + offset).reshape(shape)


class VectorBoxes:
    """Vectors by name, each in a box as long as it is live. A name is never used for another vector.

    So a worker that reads a box late, for a message that was given up, may find another vector there than the message
    says, but only under a name that is never asked about again.
    """

    def __init__(self) -> None:
        self._boxes: dict[str, Box] = {}
        self._spare: list[Box] = []

    def retain(self, live: Collection[str]) -> None:
        """Free the boxes of vectors that are not among ``live``."""
        for name in [name for name in self._boxes if name not in live]:
            self._spare.append(self._boxes.pop(name))
        del self._spare[: max(0, len(self._spare) - _SPARE)]

    def parcel(self, name: str, vector: NDArray[Any]) -> Parcel:
        """Place of the vector for other processes; it is copied the first time."""
        if name not in self._boxes:
            fitting = [box for box in self._spare if vector.nbytes <= box.nbytes <= 2 * vector.nbytes + _LINE]
            box = fitting[0] if fitting else Box(vector.nbytes)
            if fitting:
                self._spare.remove(box)
            box.array(0, vector.shape, vector.dtype)[...] = vector
            self._boxes[name] = box
        return Parcel(self._boxes[name].place, 0, vector.shape, vector.dtype.str)

    def tokens(self) -> tuple[bytes, ...]:
        """Tokens of all boxes there are: those that other processes may leave open."""
        return tuple(box.place.token for box in (*self._boxes.values(), *self._spare))


class Windows:
    """Boxes of other processes that this process has open."""

    def __init__(self) -> None:
        self._windows: dict[bytes, Window] = {}

    def open(self, place: Place) -> Window:
        """Return the window on a box; opened the first time."""
        if place.token not in self._windows:
            self._windows[place.token] = Window(place)
        return self._windows[place.token]

    def retain(self, tokens: Collection[bytes]) -> None:
        """Drop all others; their memory is freed with their last array."""
        self._windows = {token: window for token, window in self._windows.items() if token in tokens}


class AnswerBox:
    """A box for one answer at a time, replaced for a larger one."""

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
