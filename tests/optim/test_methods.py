from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.lbfgs import LBFGS
from hfnumba.optim.methods import METHODS, Method, optimizer, settings_of
from hfnumba.optim.paper import paper
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES, UpdateRule, descend


def test_the_methods():
    assert (
        *("sgd", "momentum", "asgd", "mvasgd", "adam", "kfac", "lbfgs"),
        *("hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab", "hf-minres", "hf-steihaug", "hf-lanczos"),
    ) == tuple(METHODS)
    assert optimizer("lbfgs", history=5) == LBFGS(history=5)
    for method in UPDATE_RULES:
        assert optimizer(method, momentum=0.5) == SGD(method=method, momentum=0.5)
    for method in SECOND_ORDER_METHODS:
        assert optimizer(method, seed=3) == HessianFree(method=method, seed=3)


def test_a_name_stands_in_one_table_and_has_a_line_for_help():
    for table, make in ((UPDATE_RULES, SGD), (SECOND_ORDER_METHODS, HessianFree)):
        assert all(METHODS[name].make is make for name in table)
    summaries = [row.summary for row in METHODS.values()]
    assert len(set(summaries)) == len(METHODS)
    assert all(0 < len(summary) < 90 and "\n" not in summary for summary in summaries)
    assert [name for name, row in METHODS.items() if row.in_paper] == ["hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab"]


def test_settings_that_mean_nothing_to_a_method_are_refused():
    for method, name in [
        ("hf-cg", "radius"),
        ("hf-steihaug", "damping"),
        ("hf-lanczos", "backtracking_ratio"),
        ("hf-lanczos", "candidates"),
        ("adam", "preconditioner"),
        ("hf-minres", "paper"),
        ("adam", "paper"),
        ("lbfgs", "batch_rows"),
    ]:
        assert name not in settings_of(method)
        with pytest.raises(UsageError, match=rf"settings of {method}.*got {name}"):
            optimizer(method, **{name: 1})
    assert "radius" in settings_of("hf-steihaug")


def test_a_method_says_why_it_cannot_have_a_setting():
    with pytest.raises(UsageError, match=r"got damping; no damping, as its steps are bounded by a trust radius"):
        optimizer("hf-steihaug", damping=1.0)


def test_a_row_of_a_table_says_which_settings_it_has_not(monkeypatch):
    for table in (UPDATE_RULES, SECOND_ORDER_METHODS):
        assert all(METHODS[name].without is row.without for name, row in table.items())
    rule = UpdateRule("a rule of this test", descend, without={"momentum": "its steps have no velocity"})
    monkeypatch.setitem(METHODS, "plain", Method(SGD, rule.summary, {"method": "plain"}, rule.without))
    assert "momentum" not in settings_of("plain")
    with pytest.raises(UsageError, match=r"got momentum; no momentum, as its steps have no velocity"):
        optimizer("plain", momentum=0.5)


def test_every_setting_of_every_method_can_be_given():
    values = {"max_iterations": 3, "target_error": 0.5, "seed": 1, "curvature_rows": 9, "krylov_iterations": 2}
    values |= {
        "candidates": "last",
        "line_search": "backtracking",
        "batch_rows": 3,
        "history": 2,
        "record_every": 2,
        "backtracking_ratio": 2.0,
    }
    values |= {"preconditioner": "fisher", "line_rows": 8}
    values |= dict.fromkeys(("damping", "radius", "warm_start", "learning_rate", "momentum"), 0.5)
    for method in METHODS:
        given = {name: values[name] for name in settings_of(method) if name != "paper"}
        made = optimizer(method, **given)
        assert {name: getattr(made, name) for name in given} == given


def test_the_literal_reading_of_the_paper():
    literal = optimizer("hf-bicgstab", paper=True, curvature_rows=2048)
    assert literal == HessianFree(
        krylov_iterations=10,
        warm_start=0.0,
        line_search="backtracking",
        preconditioner="none",
        line_rows=None,
        curvature_rows=2048,
    )
    assert optimizer("hf-cg", paper=True).krylov_iterations == 20
    assert optimizer("gn-cg", paper=True, warm_start=0.5) == paper("gn-cg", warm_start=0.5)
    assert paper("gn-cg", warm_start=0.5).warm_start == 0.5
    assert optimizer("hf-cg", paper=False) == HessianFree("hf-cg")
    with pytest.raises(UsageError, match=r"of the paper \(hf-cg.*got 'hf-minres'"):
        paper("hf-minres")


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
        ("hf-cg", "backtracking_ratio", 1.0),
        ("hf-cg", "backtracking_ratio", float("inf")),
        ("hf-cg", "seed", -1),
        ("hf-cg", "max_iterations", -1),
        ("hf-cg", "target_error", 2),
        ("sgd", "learning_rate", 0),
        ("sgd", "learning_rate", float("inf")),
        ("sgd", "batch_rows", 0),
        ("sgd", "momentum", 1.0),
        ("sgd", "momentum", float("nan")),
        ("adam", "learning_rate", 0.0),
        ("lbfgs", "history", 0),
        ("lbfgs", "seed", -1),
        ("lbfgs", "target_error", 2),
        ("hf-steihaug", "radius", 0.0),
        ("hf-steihaug", "radius", float("inf")),
        ("hf-cg", "candidates", "first"),
        ("hf-cg", "line_search", "wolfe"),
        ("hf-cg", "line_rows", 0),
        ("hf-cg", "preconditioner", "jacobi"),
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
