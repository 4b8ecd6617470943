"""Distributed Hessian-free optimization for fully connected neural networks.

The public names are loaded when they are first used, so that ``import hfnumba`` takes neither Numba nor Dask.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfnumba.engine import ArrayObjective as ArrayObjective
    from hfnumba.engine import DaskObjective as DaskObjective
    from hfnumba.engine import SplitObjective as SplitObjective
    from hfnumba.errors import HfnumbaError as HfnumbaError
    from hfnumba.estimator import HessianFreeClassifier as HessianFreeClassifier
    from hfnumba.estimator import HessianFreeRegressor as HessianFreeRegressor
    from hfnumba.estimator import from_sklearn as from_sklearn
    from hfnumba.ingest import write_store as write_store
    from hfnumba.krylov.bicgstab import bicgstab as bicgstab
    from hfnumba.krylov.cg import cg as cg
    from hfnumba.krylov.lanczos import lanczos as lanczos
    from hfnumba.krylov.minres import minres as minres
    from hfnumba.krylov.spectrum import spectrum as spectrum
    from hfnumba.krylov.steihaug import steihaug as steihaug
    from hfnumba.network import Network as Network
    from hfnumba.objective import RowSample as RowSample
    from hfnumba.optim.first_order import SGD as SGD
    from hfnumba.optim.hessian_free import HessianFree as HessianFree
    from hfnumba.optim.lbfgs import LBFGS as LBFGS
    from hfnumba.optim.methods import optimizer as optimizer
    from hfnumba.run.model import load_model as load_model
    from hfnumba.store import open_store as open_store

    __version__: str

_HOME = {
    "ArrayObjective": "hfnumba.engine",
    "DaskObjective": "hfnumba.engine",
    "HessianFree": "hfnumba.optim.hessian_free",
    "HessianFreeClassifier": "hfnumba.estimator",
    "HessianFreeRegressor": "hfnumba.estimator",
    "HfnumbaError": "hfnumba.errors",
    "Network": "hfnumba.network",
    "RowSample": "hfnumba.objective",
    "SGD": "hfnumba.optim.first_order",
    "SplitObjective": "hfnumba.engine",
    "bicgstab": "hfnumba.krylov.bicgstab",
    "LBFGS": "hfnumba.optim.lbfgs",
    "cg": "hfnumba.krylov.cg",
    "from_sklearn": "hfnumba.estimator",
    "lanczos": "hfnumba.krylov.lanczos",
    "minres": "hfnumba.krylov.minres",
    "load_model": "hfnumba.run.model",
    "spectrum": "hfnumba.krylov.spectrum",
    "steihaug": "hfnumba.krylov.steihaug",
    "open_store": "hfnumba.store",
    "optimizer": "hfnumba.optim.methods",
    "write_store": "hfnumba.ingest",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("hfnumba")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        # A room of the package, so that hfnumba.launch.local(4) needs no import of its own.
        return import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
