"""Rates of building, verifying and loading MNIST on one core, compared with plain Zarr with the same codecs.

    HFNUMBA_DATA=... python benchmarks/data.py [--write docs/data.md]

MB/s of decoded rows, medians of several turns of all jobs. Plain Zarr writes and reads the same rows with the same
chunks and codecs; it syncs nothing and has no digests of chunks. It is measured alone and, for comparison with
building, with the same preparation: reading the files, their SHA-256, and the shuffle. With --write the tables replace
the text between the markers of that file.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from pages import insert

from hfnumba.ingest import build
from hfnumba.linux import empty
from hfnumba.store import Split
from hfnumba.store.verify import verify

TURNS = 7
GOALS = {"build from IDX files": 200, "verify": 500, "load": 1000, "load all into memory": 1000}
PEERS = {"build from IDX files": "read, shuffle, write with plain Zarr", "load": "read with plain Zarr"}

Job = tuple[Callable[[], Any], int]


def plain_zarr(path: Path, like: Any, X: np.ndarray) -> Any:
    """Write rows with Zarr, with the chunks and the codecs of another array."""
    import zarr

    z = zarr.create_array(
        path,
        shape=X.shape,
        chunks=like.chunks,
        dtype=X.dtype,
        filters=None,
        serializer=like.serializer,
        compressors=like.compressors,
        overwrite=True,
    )
    z[:] = X
    return z


def with_zarr_alone(path: Path, like: Any, unpacked: Path) -> None:
    """Do with plain Zarr what building does with the features of all splits."""
    for source in unpacked.glob("*images*"):
        values = np.fromfile(source, np.uint8)
        hashlib.sha256(values).digest()
        X = values[16:].reshape(-1, 784)
        plain_zarr(path / source.name, like, X[np.random.default_rng(0).permutation(len(X))])


def jobs(root: Path, packed: Path) -> tuple[Split, dict[str, Job]]:
    """Return the training split of a store, and the jobs to measure with their bytes of rows."""
    import zarr

    unpacked = root / "idx"
    unpacked.mkdir()
    for path in packed.glob("*.gz"):
        (unpacked / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    recipe = unpacked / "plain.toml"
    recipe.write_text(plain_recipe())
    store = build("mnist", packed, root / "s.zarr")
    split, like = store["train"], zarr.open_group(root / "s.zarr", mode="r")["train/X"]
    numbers = range(split.n_partitions)
    X = np.concatenate([split.load(j)[0] for j in numbers])
    written = sum(s.n_rows * s.n_features for s in store.splits.values())
    z = plain_zarr(root / "z.zarr", like, X)
    bounds = [split.partition_rows(j) for j in numbers]

    places = (root / f"{i}.zarr" for i in itertools.count())

    return split, {
        "build from IDX files": (lambda: build(recipe, unpacked, next(places)), written),
        "build from the same, gzip": (lambda: build("mnist", packed, next(places)), written),
        "gunzip alone": (lambda: [gzip.decompress(path.read_bytes()) for path in packed.glob("*.gz")], written),
        "read, shuffle, write with plain Zarr": (lambda: with_zarr_alone(root / "all", like, unpacked), written),
        "write with plain Zarr": (lambda: plain_zarr(root / "z.zarr", like, X), X.nbytes),
        "verify": (lambda: verify(store), written),
        "load": (lambda: [split.load(j)[0].nbytes for j in numbers], X.nbytes),
        "load all into memory": (lambda: [split.load(j) for j in numbers], X.nbytes),
        "read with plain Zarr": (lambda: [z[first:stop].nbytes for first, stop in bounds], X.nbytes),
    }


def chunks(split: Split) -> list[Path]:
    """Paths of the files of the features."""
    keys = (key for j in range(split.n_partitions) for key in split.layout.x_keys(j))
    return [Path(split.path) / split.name / key for key in keys]


def operations(split: Split) -> dict[tuple[str, str], Job]:
    """Return the single operations of loading and building features, by the job they belong to and their names."""
    from numcodecs import blosc

    from hfnumba.store.codec import BLOCK_NBYTES, LZ4_LEVEL

    n = split.layout.chunk_rows * split.n_features
    paths = chunks(split)
    stored, room = [path.read_bytes() for path in paths], np.empty(n, np.uint8)
    packed, moved = [memoryview(data)[:-4] for data in stored], len(paths) * n
    rows = [split.load(j)[0] for j in range(split.n_partitions)]

    def read(path: Path, nbytes: int) -> None:
        with path.open("rb") as file:
            file.readinto(empty((nbytes + 1,), np.uint8))

    return {
        ("load", "reading"): (lambda: [read(path, len(data)) for path, data in zip(paths, stored, strict=True)], moved),
        ("load", "BLAKE3"): (lambda: [blake3(data).digest() for data in stored], moved),
        ("load", "unpacking"): (lambda: [blosc.decompress(data, room) for data in packed], moved),
        ("load", "new memory"): (lambda: [empty((n,), np.uint8).nbytes for _ in paths], moved),
        ("build from IDX files", "packing"): (
            lambda: [blosc.compress(X, b"lz4", LZ4_LEVEL, blosc.SHUFFLE, BLOCK_NBYTES) for X in rows],
            moved,
        ),
        ("build from IDX files", "SHA-256 of the source"): (lambda: [hashlib.sha256(X).digest() for X in rows], moved),
    }


def measure(todo: Mapping[Any, Job]) -> dict[Any, list[float]]:
    """Seconds of each job in each turn, without the first turn."""
    times: dict[Any, list[float]] = {name: [] for name in todo}
    for turn in range(TURNS + 1):
        for name, (call, _) in todo.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def tables(todo: Mapping[Any, Job], times: Mapping[Any, list[float]], ratio: float) -> str:
    """Format the results as Markdown."""

    def rate(name: Any) -> float:
        return todo[name][1] / 1e6 / statistics.median(times[name])

    lines = ["| on one core | MB/s | goal | of plain Zarr |", "| --- | --- | --- | --- |"]
    for name in (name for name in todo if isinstance(name, str)):
        goal = f"{GOALS[name]}, {'met' if rate(name) >= GOALS[name] else 'missed'}" if name in GOALS else ""
        peer = PEERS.get(name)
        pairs = zip(times[peer], times[name], strict=True) if peer else ()
        scale = todo[name][1] / todo[peer][1] if peer else 1
        beside = f"{statistics.median(theirs / ours * scale for theirs, ours in pairs):.2f}" if peer else ""
        lines.append(f"| {name} | {rate(name):.0f} | {goal} | {beside} |")
    lines.append("")
    for job in ("load", "build from IDX files"):
        shares = {name[1]: rate(job) / rate(name) for name in todo if isinstance(name, tuple) and name[0] == job}
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        lines.append(f"Of the time of *{job}*: {listed}, the rest {1 - sum(shares.values()):.0%}.")
    return "\n".join([*lines, f"The features' files are {ratio:.1f} times smaller than the rows."])


def plain_recipe() -> str:
    """Recipe of MNIST for uncompressed files."""
    names = {"train": "train", "test": "t10k"}
    kinds = {"X": "images-idx3-ubyte", "y": "labels-idx1-ubyte"}
    head = 'name = "plain"\ntitle = "MNIST, unpacked"\nformat = "idx"\ntask = "classification"\n'
    head += "scale = 0.00392156862745098\n"
    return head + "".join(
        f'\n[[files]]\nname = "{name}-{kind}"\nsplit = "{split}"\nrole = "{role}"\n'
        for split, name in names.items()
        for role, kind in kinds.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    given = parser.parse_args()
    data = os.environ.get("HFNUMBA_DATA")
    if data is None:
        sys.exit("set HFNUMBA_DATA to the folder that holds mnist/")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="hfnumba-") as folder:
        split, todo = jobs(Path(folder), Path(data) / "mnist")
        whole = todo | operations(split)
        times = measure(whole)
        ratio = split.n_rows * split.n_features / sum(path.stat().st_size for path in chunks(split))
    if given.json:
        print(json.dumps({name: round(n / 1e6 / statistics.median(times[name])) for name, (_, n) in todo.items()}))
        return
    table = tables(whole, times, ratio)
    print(table)
    if given.write:
        insert(given.write, "data", table)


if __name__ == "__main__":
    main()
