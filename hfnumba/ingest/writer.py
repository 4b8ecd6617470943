"""Writing a store in parts: begin, write any partition in any process, finalise. Every step can be repeated.

While a store is unfinished, the folder ``.building`` in it holds ``plan.json`` (the header, and where the
rows come from) and a file with the records of its chunks for each partition that was written. The manifest
is written last, and only when every chunk is the one that was meant and has been synced to the disk; so a store that
opens is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from hfnumba.errors import StoreError, UsageError
from hfnumba.ingest.corpus import Catalogue
from hfnumba.ingest.recipes import Recipe
from hfnumba.progress import Steps, Watch, unwatched
from hfnumba.store import codec, files
from hfnumba.store import manifest as manifests
from hfnumba.store.files import FileRecord
from hfnumba.store.layout import SplitLayout
from hfnumba.store.manifest import SCRATCH, Header
from hfnumba.store.split import Store, open_store, read_manifest


class Content(Protocol):
    """What a store is filled with, a partition at a time."""

    def part(self, name: str, layout: SplitLayout, j: int) -> Mapping[str, NDArray[Any]]:
        """Return the arrays of partition ``j`` of a split in their stored dtypes, by the names of the layout."""
        ...


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an unfinished store will be, and where its rows are read from (None: from arrays in memory).

    The catalogue says which utterances there were when the store was begun, for sources that have them.
    """

    header: Header
    recipe: Recipe | None = None
    paths: dict[str, str] = {}
    catalogue: Catalogue | None = None


def is_complete(out: Path) -> bool:
    """Whether the store has its manifest."""
    return (out / manifests.NAME).is_file()


def n_parts(header: Header) -> int:
    """Count the parts to write: as many as partitions of the split that has most."""
    return max(layout.n_partitions for layout in header.splits.values())


def begin(out: Path, plan: Plan) -> None:
    """Make an empty store, or make sure that the one at ``out`` is begun or complete with the same header.

    Raises
    ------
    StoreError
        If something else is there. Nothing is ever deleted.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; name a folder that does not exist for the store")
    if is_complete(out):
        _refuse_other(out, "a store", read_manifest(out).manifest.header, plan.header)
        return
    if _plan_path(out).exists():
        _refuse_other(out, "an unfinished store", read_plan(out).header, plan.header)
    elif out.exists() and any(path.name != SCRATCH for path in out.iterdir()):
        raise StoreError(f"{out} is not empty and not a store; name a folder that does not exist")
    _write(out, _plan_path(out), msgspec.json.encode(plan), durable=True)
    for key, document in _documents(plan.header).items():
        _write(out, out / key, document)


def read_plan(out: Path) -> Plan:
    """Read the plan of an unfinished store."""
    try:
        return msgspec.json.decode(_plan_path(out).read_bytes(), type=Plan)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store was begun at {out}; run `hfnumba data init RECIPE --out {out}` first") from None
    except OSError as error:
        raise StoreError(f"{_plan_path(out)} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(f"{_plan_path(out)} is damaged ({error}); delete {out} and build again") from error


def refuse_part(header: Header, j: int) -> None:
    """Refuse a number that is no part."""
    if not 0 <= j < n_parts(header):
        raise UsageError(f"expected a partition from 0 to {n_parts(header) - 1}, got {j}")


def written_part(out: Path, header: Header, j: int) -> dict[str, FileRecord] | None:
    """Return the records of part ``j`` if it was written and its files, which are read, are those that were meant."""
    records = _read_part(out, header, j)
    if records is None or any(files.fault(out / key, seen) is not None for key, seen in records.items()):
        return None
    return records


def write_part(out: Path, header: Header, content: Content, j: int) -> dict[str, FileRecord]:
    """Write the chunks of part ``j``, then their records, which are returned.

    Nothing is synced here. What a crash of the machine tears does not fit its record, and is written again.
    """
    records: dict[str, FileRecord] = {}
    for name, layout in header.splits.items():
        if j >= layout.n_partitions:
            continue
        for key, data in codec.encode(layout, j, content.part(name, layout, j)).items():
            _write(out, out / name / key, data)
            records[f"{name}/{key}"] = files.record(data)
    _write(out, _part_path(out, j), msgspec.json.encode(records))
    return records


def write_all(out: Path, header: Header, content: Content, watch: Watch = unwatched) -> Store:
    """Write the parts that are not written yet and finalise, without reading again what was just written."""
    if is_complete(out):
        return finalise(out, watch)
    total, records = n_parts(header), dict[str, FileRecord]()
    steps = Steps(watch("Writing partitions", "partitions"), total)
    with files.Syncs(out) as syncs:
        for j in range(total):
            part = written_part(out, header, j) or write_part(out, header, content, j)
            syncs.begin(part)
            records |= part
            steps.step()
        return _sealed(out, header, records, syncs, watch)


def finalise(out: Path, watch: Watch = unwatched) -> Store:
    """Check every chunk against its record and write the manifest. A complete store is left as it is.

    Raises
    ------
    StoreError
        If partitions are not written, or a chunk is not what was written.
    """
    if is_complete(out):
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
        return open_store(out)
    header = read_plan(out).header
    records = _all_records(out, header, watch)
    with files.Syncs(out) as syncs:
        syncs.begin(records)
        return _sealed(out, header, records, syncs, watch)


def _sealed(out: Path, header: Header, records: dict[str, FileRecord], syncs: files.Syncs, watch: Watch) -> Store:
    """Write the metadata, see to it that they and all chunks are on the disk, and write the manifest."""
    documents = _documents(header)
    for key, document in documents.items():
        _write(out, out / key, document)
        records[key] = files.record(document)
    syncs.begin(documents)
    syncs.finish(Steps(watch("Syncing", "files"), len(records)).step)
    _write(out, out / manifests.NAME, manifests.sealed(header, records), durable=True)
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    return open_store(out)


def _all_records(out: Path, header: Header, watch: Watch) -> dict[str, FileRecord]:
    """Return the records of all chunks, each compared with its file."""
    records: dict[str, FileRecord] = {}
    missing = []
    for j in range(n_parts(header)):
        part = _read_part(out, header, j)
        if part is None:
            missing.append(str(j))
        else:
            records |= part
    if missing:
        raise StoreError(
            f"{out} is unfinished: of {n_parts(header)} partitions these are not written: "
            f"{', '.join(missing)}; write each with `hfnumba data partition {out} J`"
        )
    steps = Steps(watch("Checking", "bytes"), sum(expected.nbytes for expected in records.values()))
    for key, expected in records.items():
        seen = files.fault(out / key, expected)
        steps.step(expected.nbytes)
        if seen is not None:
            raise StoreError(f"{out}: {key} {seen}; write its partition again with `hfnumba data partition {out} J`")
    return records


def _read_part(out: Path, header: Header, j: int) -> dict[str, FileRecord] | None:
    """Read the records of a written part; None if it is not written, or its record is of no use."""
    try:
        records = msgspec.json.decode(_part_path(out, j).read_bytes(), type=dict[str, FileRecord])
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    expected = {
        f"{name}/{key}" for name, layout in header.splits.items() if j < layout.n_partitions for key in layout.keys(j)
    }
    return records if records.keys() == expected else None


def _refuse_other(out: Path, what: str, found: Header, wanted: Header) -> None:
    differences = found.differences(wanted)
    if differences:
        raise StoreError(
            f"{out} already holds {what} with other settings ({differences}); ask for the same, name "
            f"another folder, or delete it yourself"
        )


def _plan_path(out: Path) -> Path:
    return out / SCRATCH / "plan.json"


def _part_path(out: Path, j: int) -> Path:
    return out / SCRATCH / f"part-{j:06d}.json"


def _write(out: Path, path: Path, data: files.Data, *, durable: bool = False) -> None:
    files.write(path, data, out / SCRATCH, durable=durable)


def _documents(header: Header) -> dict[str, bytes]:
    return _documents_of(tuple(header.splits.items()))


@lru_cache(maxsize=4)
def _documents_of(splits: tuple[tuple[str, SplitLayout], ...]) -> dict[str, bytes]:
    return codec.metadata(dict(splits))
