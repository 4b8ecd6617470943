"""Rates of building, verifying and loading MNIST on one core, and beside plain Zarr with the same codecs.

    HFNUMBA_DATA=... python benchmarks/data.py [--json]

MB/s of decoded rows, medians of several turns that take all jobs one after another. Plain Zarr writes and reads the
same rows with the same chunks and codecs, and checks no digests.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TURNS = 7


def plain_zarr(path: Path, like: Any, X: np.ndarray) -> Any:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    data = os.environ.get("HFNUMBA_DATA")
    if data is None:
        sys.exit("set HFNUMBA_DATA to the folder that holds mnist/")
    import zarr

    from hfnumba.data import build, verify

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="hfnumba-") as folder:
        root, packed = Path(folder), Path(data) / "mnist"
        unpacked = root / "idx"
        unpacked.mkdir()
        for path in packed.glob("*.gz"):
            (unpacked / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        recipe = root / "idx" / "plain.toml"
        recipe.write_text(plain_recipe())
        store = build("mnist", packed, root / "s.zarr")
        split, like = store["train"], zarr.open_group(root / "s.zarr", mode="r")["train/X"]
        X = np.concatenate([split.load(j)[0] for j in range(split.n_partitions)])
        written = sum(s.n_rows * s.n_features for s in store.splits.values())
        z = plain_zarr(root / "z.zarr", like, X)

        def rebuilt(recipe: str | Path, source: Path) -> Callable[[], Any]:
            def call() -> None:
                shutil.rmtree(root / "b.zarr", ignore_errors=True)
                build(recipe, source, root / "b.zarr")

            return call

        bounds = [split.partition_rows(j) for j in range(split.n_partitions)]
        jobs: dict[str, tuple[Callable[[], Any], int]] = {
            "build from gzip": (rebuilt("mnist", packed), written),
            "build": (rebuilt(recipe, unpacked), written),
            "plain Zarr: write": (lambda: plain_zarr(root / "z.zarr", like, X), X.nbytes),
            "verify": (lambda: verify(store), written),
            "load": (lambda: [split.load(j) for j in range(split.n_partitions)], X.nbytes),
            "plain Zarr: read": (lambda: [z[first:stop] for first, stop in bounds], X.nbytes),
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(TURNS + 1):
            for name, (call, _) in jobs.items():
                start = time.perf_counter()
                call()
                if turn:
                    times[name].append(time.perf_counter() - start)
        rates = {name: n / 1e6 / statistics.median(times[name]) for name, (_, n) in jobs.items()}
        ratio = statistics.median(a / b for a, b in zip(times["plain Zarr: read"], times["load"], strict=True))
    if given.json:
        print(json.dumps({name: round(rate) for name, rate in rates.items()} | {"load to plain Zarr": round(ratio, 2)}))
        return
    for name, rate in rates.items():
        print(f"{name:20}{rate:8.0f} MB/s")
    print(f"{'load to plain Zarr':20}{ratio:8.2f}")


def plain_recipe() -> str:
    """The recipe of MNIST for files that are unpacked already."""
    names = {"train": "train", "test": "t10k"}
    kinds = {"X": "images-idx3-ubyte", "y": "labels-idx1-ubyte"}
    head = 'name = "plain"\ntitle = "MNIST, unpacked"\nformat = "idx"\ntask = "classification"\n'
    head += "scale = 0.00392156862745098\n"
    return head + "".join(
        f'\n[[files]]\nname = "{name}-{kind}"\nsplit = "{split}"\nrole = "{role}"\n'
        for split, name in names.items()
        for role, kind in kinds.items()
    )


if __name__ == "__main__":
    main()
