"""Checks before a long run: versions, kernels, threads, derivatives, disk, store, cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hfnumba.errors import HfnumbaError, sentence
from hfnumba.network import Network
from hfnumba.versions import as_text, installed

if TYPE_CHECKING:
    from hfnumba.launch import Placement
    from hfnumba.store import Store

_PACKAGES = ("python", "hfnumba", "numpy", "scipy", "numba", "llvmlite", "dask", "distributed", "zarr")
_STEP = 1e-2
# float32 losses with a step of 1e-2 give directional derivatives to about 1e-4 of the gradient's length.
_TOLERANCE = 1e-3
_MIN_FREE = 1 << 30


class Check(NamedTuple):
    """Result of one check: its name, whether it passed, and what was found."""

    name: str
    ok: bool
    found: str


def checks(store_path: Path | None, cluster: str) -> Iterator[Check]:
    """Make one check after another; a check that raises has failed."""
    yield Check("versions", True, as_text(installed(_PACKAGES)))
    yield _checked("kernels", _kernels)
    yield _checked("threads", _threads)
    yield _checked("derivatives", _derivatives)
    yield _checked("disk", lambda: _disk(Path.cwd()))
    store = None
    if store_path is not None:
        yield _checked("store", lambda: _store(store_path))
        store = store_path
    if cluster != "none":
        yield _checked("cluster", lambda: _cluster(cluster, store))


def _checked(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(name, *check())
    except HfnumbaError as error:
        return Check(name, False, str(error))
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {sentence(error)}")


def _kernels() -> tuple[bool, str]:
    from hfnumba.kernels import cache  # noqa: PLC0415 - slow to import

    seconds = cache.warm_up()
    return True, f"ready after {seconds:.1f} s, cached in {cache.folder()}"


def _threads() -> tuple[bool, str]:
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    from hfnumba.kernels.blas import arithmetic, limit_blas_threads  # noqa: PLC0415
    from hfnumba.processors import available_processors  # noqa: PLC0415

    limit_blas_threads()
    inside = {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
    found = f"{available_processors()} for row blocks, {max(inside, default=0)} inside each BLAS; {arithmetic()}"
    return inside == {1}, found


def _derivatives() -> tuple[bool, str]:
    """Compare slope and curvature along a line with finite differences of the loss and the gradient."""
    from hfnumba.engine import ArrayObjective  # noqa: PLC0415

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 12), dtype=np.float32), rng.integers(0, 4, 600)
    network = Network([12, 10, 4])
    theta, v = network.initialize(0), rng.standard_normal(network.n_params, dtype=np.float32)
    v /= np.linalg.norm(v)
    with ArrayObjective(network, X, y) as f:
        point, ahead, behind = (f.linearize(theta + np.float32(s * _STEP) * v) for s in (0, 1, -1))
        slope = (ahead.value - behind.value) / (2 * _STEP)
        curved = (ahead.gradient - behind.gradient) / np.float32(2 * _STEP)
        product = point.hessian().matvec(v)
    first = abs(slope - float(point.gradient @ v)) / float(np.linalg.norm(point.gradient))
    second = float(np.linalg.norm(curved - product) / np.linalg.norm(product))
    return first < _TOLERANCE and second < _TOLERANCE, f"gradient to {first:.0e}, Hessian product to {second:.0e}"


def _disk(folder: Path) -> tuple[bool, str]:
    free = shutil.disk_usage(folder).free
    return free >= _MIN_FREE, f"{free / 1e9:.1f} GB free for runs in {folder}"


def _store(path: Path) -> tuple[bool, str]:
    from hfnumba.store import open_store  # noqa: PLC0415
    from hfnumba.store.verify import verify  # noqa: PLC0415

    store = open_store(path)
    faults = verify(store)
    if faults:
        return False, f"{len(faults)} faults, the first: {faults[0]}"
    return True, f"{path} is sound, digest {store.digest[:12]}"


def _cluster(spec: str, store_path: Path | None) -> tuple[bool, str]:
    """Start or reach the cluster; with a store, compare a gradient of the cluster with one of this process."""
    from hfnumba.launch import open_cluster  # noqa: PLC0415

    with open_cluster(spec) as placement:
        if store_path is None:
            return True, placement.description
        from hfnumba.store import open_store  # noqa: PLC0415

        return _same_gradient(placement, open_store(store_path))


def _same_gradient(placement: Placement, store: Store) -> tuple[bool, str]:
    from hfnumba.engine import DaskObjective, SplitObjective  # noqa: PLC0415
    from hfnumba.run.new import LOSS_OF_TASK  # noqa: PLC0415

    split = store["train"]
    network = Network([split.n_features, 8, split.n_outputs], loss=LOSS_OF_TASK[split.task])
    theta = network.initialize(0)
    assert placement.client is not None
    with DaskObjective(network, split, placement.client) as remote, SplitObjective(network, split) as local:
        same = np.array_equal(remote.value_and_gradient(theta)[1], local.value_and_gradient(theta)[1])
        n_sharing, n_workers = remote.sharing()
    equal = "results are equal to those of this process, to the bit"
    other = "results differ from this process in the last bits (different processors)"
    shared = f"{n_sharing} of {n_workers} workers share the memory of this process, others get vectors by the network"
    return same, f"{placement.description}; {shared}; {equal if same else other}"
