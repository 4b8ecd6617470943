"""A value, a gradient or a product that is not finite, at every call there is."""

from __future__ import annotations

import warnings
from itertools import islice, pairwise

import numpy as np
import pytest

from hfnumba.errors import NumericalError
from hfnumba.optim.methods import METHODS, optimizer
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES
from tests.optim.toys import Network

N = 3
STOCHASTIC = (*UPDATE_RULES, "kfac")


def settings_of(method):
    if method in STOCHASTIC:
        return {"batch_rows": 10}
    return {"curvature_rows": 30} if method in SECOND_ORDER_METHODS else {}


def poisoned(method, kind, call):
    toy = Network(n_rows=40, n_hidden=3)
    toy.spy.poison = (kind, call)
    theta = toy.start()
    its, error = [], None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            for it in islice(optimizer(method, **settings_of(method)).iterate(toy, theta), N + 1):
                its.append(it)
        except NumericalError as raised:
            error = str(raised)
    return toy, its, error


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["loss", "gradient", "product"])
def test_never_reaches_theta(method, kind):
    clean = Network(n_rows=40, n_hidden=3)
    expected = list(islice(optimizer(method, **settings_of(method)).iterate(clean, clean.start()), N + 1))
    calls = clean.spy.seen.get(kind, 0)
    assert calls > 0 or (method not in (*SECOND_ORDER_METHODS, "kfac") and kind == "product")
    errors = changed = 0
    for call in range(1, calls + 1):
        toy, its, error = poisoned(method, kind, call)
        assert all(np.isfinite(theta).all() for theta in toy.spy.thetas)
        for it in its:
            assert np.isfinite(it.state.theta).all()
            assert np.isfinite(it.loss)
            assert all(np.isfinite(v).all() for v in it.state.tensors().values())
        if method not in STOCHASTIC:
            assert all(after.loss <= before.loss for before, after in pairwise(its))
        if error:
            errors += 1
            assert "; " in error
        else:
            assert len(its) == N + 1
        changed += error is not None or [i.loss for i in its] != [i.loss for i in expected]
    if method in UPDATE_RULES:
        assert errors == calls
    elif method == "kfac":
        # A step is taken back; a loss over all rows, and the first step, have no other point to go to.
        assert errors == {"loss": 1 + 1 + N, "gradient": 1, "product": 0}[kind]
        assert changed > errors
    elif kind == "product" and method not in SECOND_ORDER_METHODS:
        assert calls == 0
    elif kind == "product":
        assert errors == 0
        assert changed > 0
    else:
        # Only at the very start is there no point to go back to.
        assert errors == 1


def test_a_gradient_lost_on_the_way_is_a_rejected_step():
    _, its, error = poisoned("hf-bicgstab", "gradient", 2)
    assert error is None
    assert "not finite" in its[1].note
    assert its[1].alpha == 0
    assert its[1].rounds == its[0].rounds + its[1].n_matvec + 4
    np.testing.assert_array_equal(its[1].state.theta, its[0].state.theta)


def test_a_point_that_is_lost_where_it_was_finite_is_an_error_with_a_remedy():
    toy = Network()
    linearize = toy.linearize

    def spoiled(*args, **settings):
        late, lin = toy.counters.rounds > 0, linearize(*args, **settings)
        if late:
            lin.gradient[:] = np.nan
        return lin

    toy.linearize = spoiled

    iterations = optimizer("hf-cg").iterate(toy, toy.start())
    assert next(iterations).iteration == 0
    with pytest.raises(NumericalError, match="resume from the last checkpoint"):
        next(iterations)
