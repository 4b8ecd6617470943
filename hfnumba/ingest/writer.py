"""Writing a store partition by partition: begin, write any partition in any process, finalise. Steps can be repeated.

An unfinished store has a folder ``.building`` with ``lock``, ``plan.json`` (the header, and where the rows come from)
and, for each written partition, a file with the records of its chunks. The manifest is written last, and only when
every chunk has the recorded digest and has been synced to disk; so a store that opens is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from hfnumba.atomic import explain, file_lock, read_regular
from hfnumba.errors import StoreError, UsageError
from hfnumba.ingest.corpus import Catalogue
from hfnumba.ingest.recipes import Recipe
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store import codec, files
from hfnumba.store import manifest as manifests
from hfnumba.store.files import FileRecord
from hfnumba.store.layout import SplitLayout
from hfnumba.store.manifest import SCRATCH, Header
from hfnumba.store.store import Store, open_store, read_manifest

LOCK = "lock"


class Content(Protocol):
    """Rows to write, partition by partition."""

    def partition(self, name: str, layout: SplitLayout, j: int) -> Mapping[str, NDArray[Any]]:
        """Return the arrays of partition ``j`` of a split in their stored dtypes, by the names of the layout."""
        ...


class WritePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Header of an unfinished store, and where its rows are read from (None: from arrays in memory).

    The catalogue lists the utterances that were there when the store was begun, for sources of speech.
    """

    header: Header
    recipe: Recipe | None = None
    paths: dict[str, str] = {}
    catalogue: Catalogue | None = None


def is_complete(out: Path) -> bool:
    """Whether the store has its manifest."""
    return (out / manifests.NAME).is_file()


def n_partitions(header: Header) -> int:
    """Number of partitions to write: that of the split with the most."""
    return max(layout.n_partitions for layout in header.splits.values())


@contextmanager
def locked(out: Path, wait_s: float = 0) -> Iterator[None]:
    """Lock the place of a store against other processes, also of other machines, that begin or complete one there.

    Where the file system has no locks, a file with the process that holds it serves. Single partitions need no lock. A
    complete store is not locked, since nothing is written there.

    Parameters
    ----------
    out : Path
    wait_s : float
        How long to wait for another process, in seconds.

    Raises
    ------
    StoreError
        If another process has the lock, or something other than a store is there.
    """
    from filelock import Timeout  # noqa: PLC0415 - not needed to write a partition

    _refuse_other(out)
    existed, path = out.exists(), out / SCRATCH / LOCK
    lock, with_flock = None, True
    try:
        if not is_complete(out):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock, with_flock = file_lock(path)
            lock.acquire(timeout=wait_s)
    except Timeout:
        killed = "" if with_flock else f"; if it was killed, delete {path} and give the same command again"
        raise StoreError(
            f"another process is building {out} (it has locked {path}); wait for it to end, or name another folder"
            f"{killed}"
        ) from None
    except OSError as error:
        if not is_complete(out):  # The other process may just have completed the store, and deleted its scratch files.
            raise StoreError(explain(error, path, files.REMEDY)) from error
    try:
        yield
    finally:
        if not existed and not _plan_path(out).exists() and not is_complete(out):
            # While the lock is held: a file that another process has locked must stay.
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
                out.rmdir()
        if lock is not None:
            lock.release()


def _refuse_other(out: Path) -> None:
    """Raise if something other than a store, begun or complete, is there."""
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; name a folder that does not exist for the store")
    if is_complete(out) or _plan_path(out).exists() or not out.exists():
        return
    if any(path.name != SCRATCH for path in out.iterdir()):
        raise StoreError(f"{out} is not empty and not a store; name a folder that does not exist")


def begin(out: Path, plan: WritePlan) -> None:
    """Make an empty store, or check that the one at ``out`` is begun or complete with the same header.

    The caller has :func:`locked` the place.

    Raises
    ------
    StoreError
        If something else is there. Nothing is ever deleted.
    """
    _refuse_other(out)
    if is_complete(out):
        _check_same(out, "a store", read_manifest(out).manifest.header, plan.header)
        return
    if _plan_path(out).exists():
        _check_same(out, "an unfinished store", read_plan(out).header, plan.header)
    _write(out, _plan_path(out), msgspec.json.encode(plan), durable=True)
    for key, document in _documents(plan.header).items():
        _write(out, out / key, document)


def read_plan(out: Path) -> WritePlan:
    """Read the plan of an unfinished store."""
    try:
        return msgspec.json.decode(read_regular(_plan_path(out), manifests.MAX_NBYTES), type=WritePlan)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store was begun at {out}; run `hfnumba data init RECIPE --out {out}` first") from None
    except OSError as error:
        raise StoreError(f"{_plan_path(out)} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(f"{_plan_path(out)} is damaged ({error}); delete {out} and build again") from error


def check_partition(header: Header, j: int) -> None:
    """Raise if there is no partition of this number."""
    if not 0 <= j < n_partitions(header):
        raise UsageError(f"expected a partition from 0 to {n_partitions(header) - 1}, got {j}")


def written_partition(out: Path, header: Header, j: int) -> dict[str, FileRecord] | None:
    """Return the records of partition ``j`` if it was written and its files, which are read, fit the records."""
    records = _read_records(out, header, j)
    if records is None or any(files.fault(out / key, seen) is not None for key, seen in records.items()):
        return None
    return records


def write_partition(out: Path, header: Header, content: Content, j: int) -> dict[str, FileRecord]:
    """Write the chunks of partition ``j``, then their records, which are returned.

    Nothing is synced here. A file torn by a crash of the machine does not fit its record and is written again.
    """
    records: dict[str, FileRecord] = {}
    for name, layout in header.splits.items():
        if j >= layout.n_partitions:
            continue
        for key, data in codec.encode(layout, j, content.partition(name, layout, j)).items():
            _write(out, out / name / key, data)
            records[f"{name}/{key}"] = files.record(data)
    _write(out, _records_path(out, j), msgspec.json.encode(records))
    return records


def write_all(out: Path, header: Header, content: Content, reporter: Reporter = SILENT) -> Store:
    """Write the missing partitions and finalise, without reading back what was just written."""
    if is_complete(out):
        return finalise(out, reporter)
    total, records = n_partitions(header), dict[str, FileRecord]()
    counter = Counter(reporter.progress("Writing partitions", "partitions"), total)
    with files.Syncs(out) as syncs:
        for j in range(total):
            written = written_partition(out, header, j) or write_partition(out, header, content, j)
            syncs.begin(written)
            records |= written
            counter.advance()
        return _sealed(out, header, records, syncs, reporter)


def finalise(out: Path, reporter: Reporter = SILENT) -> Store:
    """Check every chunk against its record and write the manifest. A complete store is left as it is.

    Raises
    ------
    StoreError
        If partitions are missing, or a chunk does not fit its record.
    """
    if is_complete(out):
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
        return open_store(out)
    header = read_plan(out).header
    records = _all_records(out, header, reporter)
    with files.Syncs(out) as syncs:
        syncs.begin(records)
        return _sealed(out, header, records, syncs, reporter)


def _sealed(out: Path, header: Header, records: dict[str, FileRecord], syncs: files.Syncs, reporter: Reporter) -> Store:
    """Write the metadata, sync them and all chunks to disk, and write the manifest."""
    documents = _documents(header)
    for key, document in documents.items():
        _write(out, out / key, document)
        records[key] = files.record(document)
    syncs.begin(documents)
    syncs.finish(Counter(reporter.progress("Syncing", "files"), len(records)).advance)
    _write(out, out / manifests.NAME, manifests.sealed(header, records), durable=True)
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    return open_store(out)


def _all_records(out: Path, header: Header, reporter: Reporter) -> dict[str, FileRecord]:
    """Return the records of all chunks, each compared with its file."""
    records: dict[str, FileRecord] = {}
    missing = []
    for j in range(n_partitions(header)):
        written = _read_records(out, header, j)
        if written is None:
            missing.append(str(j))
        else:
            records |= written
    if missing:
        raise StoreError(
            f"{out} is unfinished: of {n_partitions(header)} partitions these are missing: "
            f"{', '.join(missing)}; write each with `hfnumba data partition {out} J`"
        )
    counter = Counter(reporter.progress("Checking", "bytes"), sum(expected.nbytes for expected in records.values()))
    for key, expected in records.items():
        seen = files.fault(out / key, expected)
        counter.advance(expected.nbytes)
        if seen is not None:
            raise StoreError(f"{out}: {key} {seen}; write its partition again with `hfnumba data partition {out} J`")
    return records


def _read_records(out: Path, header: Header, j: int) -> dict[str, FileRecord] | None:
    """Read the records of a partition; None if it is not written or the records are damaged."""
    try:
        records = msgspec.json.decode(
            read_regular(_records_path(out, j), manifests.MAX_NBYTES), type=dict[str, FileRecord]
        )
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    expected = {
        f"{name}/{key}" for name, layout in header.splits.items() if j < layout.n_partitions for key in layout.keys(j)
    }
    return records if records.keys() == expected else None


def _check_same(out: Path, what: str, found: Header, wanted: Header) -> None:
    differences = found.differences(wanted)
    if differences:
        raise StoreError(
            f"{out} already holds {what} with other settings ({differences}); use the same ones, name "
            f"another folder, or delete it yourself"
        )


def _plan_path(out: Path) -> Path:
    return out / SCRATCH / "plan.json"


def _records_path(out: Path, j: int) -> Path:
    return out / SCRATCH / f"partition-{j:06d}.json"


def _write(out: Path, path: Path, data: files.Data, *, durable: bool = False) -> None:
    files.write(path, data, out / SCRATCH, durable=durable)


def _documents(header: Header) -> dict[str, bytes]:
    return _documents_of(tuple(header.splits.items()))


@lru_cache(maxsize=4)
def _documents_of(splits: tuple[tuple[str, SplitLayout], ...]) -> dict[str, bytes]:
    return codec.metadata(dict(splits))
