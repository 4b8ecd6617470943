"""Cache of compiled kernels on disk, filled once per machine.

Numba's cache is pickle: a folder that others can write would let them run code here. So it is a private folder of
this user on a local disk, one for each copy and version of the sources, of Numba and of Python.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
import json
import logging
import os
import pickle
import pkgutil
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile

from hfnumba.errors import HfnumbaError

COMPILING = "compiling the kernels (once per machine and version, about 20 s on two cores)"
"""Sentence before compilation."""
_READY = "compiled"
_LOCK_TIMEOUT_S = 300.0
_log = logging.getLogger(__name__)


def _fingerprint() -> str:
    """A hash of the kernels' sources and of where they are.

    Numba itself checks only the file of the function it compiles, and finds nothing that a copy elsewhere compiled.
    """
    folder = Path(__file__).absolute().parent
    versions = f"{numba.__version__} {platform.python_version()} {platform.machine()} "
    digest = hashlib.sha256(versions.encode() + os.fsencode(folder))
    for path in [*sorted(folder.glob("*.py")), *folder.parent.glob("activations.py")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _fault(folder: Path) -> str | None:
    """Create ``folder``; return why it is not a real, writable one that only this user can write, or None."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    if not stat.S_ISDIR(status.st_mode):
        return "it is a link, not a folder"
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write there, and could so run code here; use chmod go-w {folder}"
    return None if os.access(folder, os.W_OK) else "it cannot be written"


def _lock_fault(folder: Path) -> str | None:
    """Return why files of a folder cannot be locked, or None.

    Without locks a process that is killed would leave a file, for which processes of other machines wait.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"files there cannot be locked ({error.strerror})"
    return None


def _data_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of machine code; Numba writes such a file once."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nbc"))
    }


def _is_sound(folder: Path) -> bool:
    """Whether what was compiled is there as it was written: Numba would fail on a damaged file, not replace it."""
    try:
        expected = json.loads((folder / _READY).read_text())
        found = _data_digests(folder)
        for index in folder.rglob("*.nbi"):
            # An index is a version and, in a pickle of its own, what Numba wrote; it changes with each new signature.
            with index.open("rb") as file:
                pickle.load(file)
                pickle.loads(file.read())
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError):
        return False
    return all(found.get(name) == digest for name, digest in expected.items())


def _local_folders() -> tuple[str, ...]:
    """Return folders on local disks, the one whose files survive a restart first."""
    try:
        return "/var/tmp", tempfile.gettempdir()
    except OSError:
        # No folder for temporary files can be written.
        return ("/var/tmp",)


_notes: dict[str, str] = {}
_compiled: set[Path] = set()


def configure() -> Path:
    """Point Numba's cache at ``$HFNUMBA_CACHE_DIR``, else at a local folder; the first that is private is used.

    ``/var/tmp`` is local and survives a restart, where a home folder is often shared over the network. If neither
    it nor the temporary folder serves, a fresh folder is used, and compilation is repeated by each process.

    Raises
    ------
    HfnumbaError
        If no folder can be written, as in a container whose file systems are all read-only.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    chosen = os.environ.get("HFNUMBA_CACHE_DIR")
    roots = [Path(base) / f"hfnumba-{user}" for base in _local_folders()]
    for root in [Path(chosen), *roots] if chosen else roots:
        folder = root / _fingerprint()
        fault = _fault(root) or _fault(folder) or _lock_fault(folder)
        if fault is None and (folder / _READY).exists() and not _is_sound(folder):
            shutil.rmtree(folder, ignore_errors=True)
            fault = _fault(folder)
        if fault is None:
            break
        if chosen and root == Path(chosen):
            _notes["chosen"] = f"HFNUMBA_CACHE_DIR={chosen} is not used for compiled kernels: {fault}"
    else:
        folder = _fresh_folder(f"{root}: {fault}")
    numba.config.CACHE_DIR = str(folder)
    return folder


def _fresh_folder(fault: str) -> Path:
    """Make a folder for this process alone; ``fault`` says why the last other one does not serve."""
    try:
        return Path(tempfile.mkdtemp(prefix="hfnumba-"))
    except OSError as error:
        raise HfnumbaError(
            f"there is no folder for compiled kernels ({'; '.join(_notes.values()) or fault}), and none for temporary "
            "files; name one that can be written in HFNUMBA_CACHE_DIR"
        ) from error


def save_one_at_a_time() -> None:
    """Let no two processes write to the cache at once.

    Numba reads an index, takes the first free number for a file of machine code, and writes both. Two processes that
    compile other signatures of one function take the same number, and later ones would load the code of the other.
    """
    save = IndexDataCacheFile.save

    @functools.wraps(save)
    def locked(self: Any, key: Any, data: Any) -> None:
        from filelock import FileLock, Timeout  # noqa: PLC0415 - not needed to import the kernels

        lock = FileLock(folder() / "save", timeout=_LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except (OSError, Timeout):
            # What is not saved is compiled again.
            return
        try:
            save(self, key, data)
        except OSError as error:
            _notes["save"] = f"compiled kernels cannot be saved in {folder()} ({error.strerror}); each process compiles"
        finally:
            lock.release()

    IndexDataCacheFile.save = locked


def folder() -> Path:
    """Return the folder of this process's compiled kernels."""
    return Path(numba.config.CACHE_DIR)


def _exercise() -> None:
    """Call every kernel once: each module of kernels that has some has a function ``exercise`` for it."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "hfnumba.kernels."):
        exercise = getattr(importlib.import_module(module.name), "exercise", None)
        if exercise is not None:
            exercise()


def compile_once() -> None:
    """Compile every kernel if no process of this machine has, and say so on the log, which is stderr by default."""
    if not (folder() / _READY).exists() and folder() not in _compiled:
        warm_up(_log.warning)


def _seconds_since(start: float) -> float:
    seconds = time.perf_counter() - start
    _log.info("kernels are ready after %.1f s, cached in %s", seconds, folder())
    return seconds


def warm_up(
    note: Callable[[str], None] | None = None,
    progress: Callable[[str, str], Callable[[int, int], None]] | None = None,
) -> float:
    """Compile every kernel, or load it from the cache; one process of a machine compiles, the others wait for it.

    Parameters
    ----------
    note : callable, optional
        Called with a sentence if compilation is needed, before it starts, and with others if the cache is not where
        it should be, or cannot be written.
    progress : callable, optional
        Method of a reporter that begins a step; compilation is one.

    Returns
    -------
    float
        Seconds it took.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - not needed to import the kernels

    if numba.config.DISABLE_JIT:
        # Python interprets the kernels: nothing is compiled, and the cache must not pass for complete.
        return 0.0
    # Also where the cache cannot be written, so that it never is complete.
    _compiled.add(folder())
    start = time.perf_counter()
    ready = folder() / _READY
    if note is not None and "chosen" in _notes:
        note(_notes.pop("chosen"))
    if ready.exists():
        _exercise()
        return _seconds_since(start)
    try:
        with FileLock(folder() / "lock", timeout=_LOCK_TIMEOUT_S):
            compiles = not ready.exists()
            if note is not None and compiles:
                note(COMPILING)
            # One step: the modules take very different times, so that no rate would be true.
            done = progress("Compiling", "steps") if progress is not None and compiles else None
            _exercise()
            if done is not None:
                done(1, 1)
            if "save" not in _notes:
                # Whole or not at all: an empty file would make the next process discard the cache.
                draft = ready.with_suffix(".draft")
                draft.write_text(json.dumps(_data_digests(folder())))
                draft.replace(ready)
    except (OSError, Timeout):
        # A cache that cannot be written or locked costs time, never the run.
        _exercise()
    if note is not None and "save" in _notes:
        note(_notes.pop("save"))
    return _seconds_since(start)
