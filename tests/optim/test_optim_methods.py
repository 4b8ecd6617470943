from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.methods import METHODS, optimizer, settings_of


def test_the_five_methods():
    assert METHODS == ("sgd", "hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab")
    assert optimizer("sgd", momentum=0.5) == SGD(momentum=0.5)
    for method in METHODS[1:]:
        assert optimizer(method, seed=3) == HessianFree(method=method, seed=3)


def test_unknown_names_list_the_known_ones():
    for make in (optimizer, settings_of, HessianFree):
        with pytest.raises(UsageError, match=r"hf-bicgstab.*'newton'"):
            make("newton")
    with pytest.raises(UsageError, match=r"curvature_rows.*got batch_rows"):
        optimizer("hf-cg", batch_rows=3)
    with pytest.raises(UsageError, match=r"batch_rows.*got curvature_rows"):
        optimizer("sgd", curvature_rows=3)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("hf-cg", "curvature_rows", 0),
        ("hf-cg", "curvature_rows", 1.5),
        ("hf-cg", "curvature_rows", True),
        ("hf-cg", "damping", 0.0),
        ("hf-cg", "damping", float("nan")),
        ("hf-cg", "damping", "0.1"),
        ("hf-cg", "krylov_iterations", 0),
        ("hf-cg", "warm_start", 1.1),
        ("hf-cg", "warm_start", -0.1),
        ("hf-cg", "keep", 1.0),
        ("hf-cg", "keep", float("inf")),
        ("hf-cg", "seed", -1),
        ("hf-cg", "max_iterations", -1),
        ("hf-cg", "target_error", 2),
        ("sgd", "learning_rate", 0),
        ("sgd", "learning_rate", float("inf")),
        ("sgd", "batch_rows", 0),
        ("sgd", "momentum", 1.5),
        ("sgd", "seed", 0.5),
        ("sgd", "max_iterations", 1.5),
        ("sgd", "target_error", -1),
    ],
)
def test_bad_settings_are_refused_by_name_with_a_remedy(method, name, value):
    with pytest.raises(UsageError, match=rf"expected {name} .*got .*; \w+"):
        optimizer(method, **{name: value})


def test_numpy_numbers_are_numbers():
    made = optimizer("hf-cg", curvature_rows=np.int64(5), damping=np.float32(0.5), seed=np.uint32(1))
    assert made.curvature_rows == 5


def test_import_is_light():
    heavy = "[m for m in ('numba', 'dask', 'scipy') if m in sys.modules]"
    code = f"import hfnumba.optim.methods, sys; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
