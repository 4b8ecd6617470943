from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from hfnumba.engine.rows import sample_indices
from hfnumba.errors import NumericalError, UsageError
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.objective import RowSample
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import MAX_REJECTED
from hfnumba.optim.methods import METHODS as ALL
from hfnumba.optim.methods import optimizer
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from tests.optim.toys import Network, Quadratic, Rosenbrock, Saddle

METHODS = list(SECOND_ORDER_METHODS)
EXACT = [method for method in METHODS if method != "gn-cg"]
# A method, and settings beside the defaults of a test.
VARIANTS = [(method, {"preconditioner": name}) for method in METHODS for name in ("none", *PRECONDITIONERS)]


def run(method, toy, theta, n=15, **settings):
    """Iterations without a preconditioner, so that the solvers meet the toy's own matrix."""
    made = HessianFree(method, **({"preconditioner": "none"} | settings))
    return list(islice(made.iterate(toy, theta), n + 1))


def toys():
    return [
        (Network(), Network().start(), 48),
        (Rosenbrock(), [-1.2, 1.0], None),
        (Saddle(), [0.9, 0.01], None),
        (Quadratic(np.diag([1.0, 10.0, 100.0]), [1, 1, 1], 3.0), [1.0, 2.0, 3.0], None),
    ]


@pytest.mark.parametrize(("method", "settings"), VARIANTS)
@pytest.mark.parametrize("which", range(4))
def test_loss_never_rises_and_is_that_of_the_state(method, settings, which):
    toy, theta, rows = toys()[which]
    its = run(method, toy, theta, curvature_rows=rows, **settings)
    assert its[-1].loss < its[0].loss - 0.05
    for before, after in pairwise(its):
        assert after.iteration == before.iteration + 1
        if after.alpha:
            assert after.loss < before.loss
        else:
            assert after.loss == before.loss
            np.testing.assert_array_equal(after.state.theta, before.state.theta)
    for it in its:
        assert it.loss == toy.f(it.state.theta.astype(float), toy.rows(None))
        g = toy.g(it.state.theta.astype(float), toy.rows(None))
        assert it.grad_norm == pytest.approx(np.linalg.norm(g), rel=1e-5, abs=1e-7)
        assert it.state.theta.dtype == np.float32


@pytest.mark.parametrize(("method", "settings"), [*VARIANTS, *((m, {"warm_start": 0.0}) for m in METHODS)])
@pytest.mark.parametrize("which", range(4))
def test_rounds_follow_the_closed_form_call_by_call(method, settings, which):
    toy, theta, rows = toys()[which]
    optimiser = HessianFree(method, curvature_rows=rows, **settings).iterate(toy, theta)
    before = next(optimiser)
    assert toy.spy.calls == ["linearize"]
    for it in islice(optimiser, 15):
        calls = toy.spy.calls[before.rounds :]
        along = len(calls) - it.n_matvec - 1
        assert calls == ["product"] * it.n_matvec + ["along"] * along + ["linearize"]
        rejected, tried = it.alpha == 0, it.direction is not None
        fallback = it.direction == "gradient" or (rejected and "steepest descent" in it.note)
        assert along == (2 + fallback if tried else 0)
        assert it.rounds == toy.counters.rounds
        before = it


@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_is_solved_in_two_iterations(method):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    A, b = Q @ np.diag([1, 2, 3, 4, 5, 6.0]) @ Q.T, rng.standard_normal(6)
    toy = Quadratic(A, b, 1.0)
    its = run(method, toy, np.zeros(6), 2, damping=1e-6, krylov_iterations=12)
    np.testing.assert_allclose(its[-1].state.theta, np.linalg.solve(A, b), rtol=1e-4, atol=1e-5)
    assert its[1].rho == pytest.approx(1, abs=1e-4)
    assert its[1].direction == "newton"


@pytest.mark.parametrize("method", METHODS)
def test_rosenbrock_is_minimised_and_the_end_is_explained(method):
    its = run(method, Rosenbrock(), [-1.2, 1.0], 80)
    assert its[-1].loss == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(its[-1].state.theta, [1, 1], atol=2e-2)
    assert len(its) < 80
    assert "training is complete" in its[-1].note
    assert its[-1].state.stopped


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("start", [[1.0, 0.0], [0.0, 0.0]], ids=["ridge", "saddle"])
def test_saddle_is_left_by_negative_curvature_from_where_the_gradient_cannot_see_it(method, start):
    its = run(method, Saddle(), start, 40)
    np.testing.assert_allclose(np.abs(its[-1].state.theta), [0, np.sqrt(0.5)], atol=1e-3)
    escape = next(it for it in its if it.direction == "negative_curvature")
    assert escape.curvature < 0
    assert escape.n_negative_curvature > 0
    assert -2 - 1e-5 <= escape.lowest_rayleigh < 0
    assert escape.alpha > 2
    assert "training is complete" in its[-1].note


def test_gauss_newton_stays_on_the_saddle_and_says_what_it_cannot_tell():
    its = run("gn-cg", Saddle(), [1.0, 0.0], 40)
    assert its[-1].loss == pytest.approx(1, abs=1e-6)
    assert "hf method" in its[-1].note
    assert all(it.n_negative_curvature == 0 for it in its)
    (only,) = run("gn-cg", Saddle(), [0.0, 0.0])
    assert "hf method" in only.note


@pytest.mark.parametrize("method", EXACT)
def test_a_minimum_is_told_from_a_saddle_by_one_probe(method):
    first, last = run(method, Quadratic(np.eye(3), [0, 0, 0], 1.0), [0, 0, 0])
    assert first.note == ""
    assert last.direction is None
    assert last.rounds == 2 + last.n_matvec
    assert "no negative curvature" in last.note


def test_hybrid_takes_one_gauss_newton_iteration_after_each_that_met_negative_curvature():
    toy = Network(n_rows=150, n_in=6, n_hidden=8, n_out=4)
    its = run("hybrid-cg", toy, toy.start(), 14)
    expected, after_curvature = [], False
    for it in its[1:]:
        expected.append("gauss_newton" if after_curvature else "hessian")
        after_curvature = expected[-1] == "hessian" and it.krylov_status == "NONPOSITIVE_CURVATURE"
    assert toy.spy.matrices == expected
    assert {"gauss_newton", "hessian"} == set(expected[2:])


def test_hybrid_looks_for_a_saddle_with_the_hessian():
    toy = Saddle()
    theta = np.zeros(2, np.float32)
    state = OptimizerState(theta, iteration=3, damping=0.1, gauss_newton_next=True, probe_next=True)
    it = next(HessianFree("hybrid-cg").iterate(toy, state=state))
    assert toy.spy.matrices == ["hessian"]
    assert it.direction == "negative_curvature"


def test_the_matrix_of_each_method():
    for method, matrix in [("hf-cg", "hessian"), ("gn-cg", "gauss_newton"), ("hf-bicgstab", "hessian")]:
        toy = Network()
        run(method, toy, toy.start(), 4)
        assert set(toy.spy.matrices) == {matrix}


def test_the_default_budget_is_about_ten_products():
    for method in METHODS:
        # Gauss–Newton matrices and damped Hessians of this network: some solve goes to the end.
        its = run(method, Network(), Network().start(), 12, warm_start=0.0, damping=3.0, radius=1e3)
        its += run(method, Quadratic(np.diag(np.geomspace(1, 1e4, 40)), np.ones(40), 1.0), np.zeros(40), 1)
        assert max(it.n_matvec for it in its) == (12 if method == "hf-lanczos" else 10)


def test_curvature_sample_is_new_in_each_iteration_and_ranks_its_candidates():
    toy = Network()
    run("hf-bicgstab", toy, toy.start(), 3, curvature_rows=48, seed=5)
    # The linearisation and the ranking of each iteration, then the linearisation after the last.
    draws = [1, 1, 2, 2, 3, 3, 4]
    assert toy.spy.samples == [RowSample(48, seed=5, draw=draw) for draw in draws]


def test_a_sample_of_all_rows_is_no_sample():
    toy = Network()
    run("hf-bicgstab", toy, toy.start(), 2, curvature_rows=10**6)
    assert toy.spy.samples == []


def test_one_linearization_at_a_time():
    toy = Network()
    run("hf-bicgstab", toy, toy.start(), 5)
    assert toy.spy.calls.count("linearize") == 6
    assert toy.spy.most_alive == 1


def test_epochs_are_row_reads_over_rows():
    toy = Network()
    its = run("hf-bicgstab", toy, toy.start(), 3, curvature_rows=48)
    for before, it in pairwise(its):
        # Products and ranking read half the rows, line search and linearisation all of them.
        assert it.epoch - before.epoch == pytest.approx((it.n_matvec + 1) / 2 + 2)


def test_test_objective_is_recorded_and_not_counted():
    toy, test = Network(), Network(n_rows=40, seed=0)
    its = list(HessianFree(max_iterations=3).iterate(toy, toy.start(), test=test))
    assert test.counters.rounds == 4
    for it in its:
        expected = test.value_and_error(it.state.theta)
        assert (it.test_loss, it.test_error) == expected
    assert its[-1].rounds == toy.counters.rounds
    assert run("hf-cg", toy, toy.start(), 1)[0].test_loss is None


def test_a_run_counts_from_its_own_beginning():
    toy = Network()
    first = run("hf-cg", toy, toy.start(), 3)
    again = run("hf-cg", toy, toy.start(), 3)
    assert [it.rounds for it in first] == [it.rounds for it in again]
    assert [it.nbytes for it in first] == [it.nbytes for it in again]


def test_clock_stands_between_yields(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    toy = Network()
    linearize = toy.linearize

    def slow(*args, **settings):
        now[0] += 1.0
        return linearize(*args, **settings)

    toy.linearize = slow
    for it in HessianFree(max_iterations=3).iterate(toy, toy.start()):
        now[0] += 1000.0
        assert it.elapsed_s == it.iteration + 1


def test_limits():
    toy = Network()
    assert [it.iteration for it in HessianFree(max_iterations=2).iterate(toy, toy.start())] == [0, 1, 2]
    its = list(HessianFree(target_error=0.2).iterate(toy, toy.start()))
    assert its[-1].error <= 0.2 < its[-2].error
    assert list(HessianFree(target_error=0.2).iterate(toy, state=its[-1].state)) == []


class Liar(Quadratic):
    """Claims a gradient that points the wrong way, so that no step lowers the loss."""

    def g(self, t, rows):
        return -super().g(t, rows)


@pytest.mark.parametrize("method", METHODS)
def test_ends_after_enough_rejections_with_theta_untouched(method):
    toy = Liar(np.eye(2), [0, 0], 1.0)
    its = run(method, toy, [3.0, 4.0], 50)
    assert len(its) == MAX_REJECTED + 1
    assert "stopped" in its[-1].note
    assert "curvature rows" in its[-1].note
    for i, it in enumerate(its[1:]):
        np.testing.assert_array_equal(it.state.theta, [3, 4])
        assert it.alpha == 0
        if method == "hf-steihaug":
            assert (it.damping, it.radius) == (0, pytest.approx(0.25**i, abs=1e-6))
        else:
            assert (it.damping, it.radius) == (pytest.approx(0.1 * 1.5**i), None)
        assert it.note.startswith("step rejected")


class Optimist(Network):
    """Reports values along a direction that fall with the step length."""

    def values_along(self, theta, directions, alphas, rows=None):
        super().values_along(theta, directions, alphas, rows)
        return np.tile(-np.asarray(alphas), (len(np.atleast_2d(directions)), 1))


def test_a_step_whose_true_loss_is_higher_is_taken_back():
    toy = Optimist()
    optimiser = HessianFree("gn-cg", damping=1e-3).iterate(toy, toy.start())
    before = next(optimiser)
    taken_back = 0
    for it in islice(optimiser, 12):
        assert it.loss <= before.loss
        extra = it.rounds - before.rounds - it.n_matvec - 3
        assert extra in (0, 1)
        if extra:
            taken_back += 1
            assert it.alpha == 0
            assert "higher" in it.note
            np.testing.assert_array_equal(it.state.theta, before.state.theta)
            assert it.state.damping > it.damping
        before = it
    assert taken_back


@pytest.mark.parametrize("method", METHODS)
def test_step_lengths_evaluated_on_a_sample_are_confirmed_over_all_rows(method):
    toy, every = Network(n_rows=200), Network(n_rows=200)
    its = run(method, toy, toy.start(), 12, line_rows=3, curvature_rows=20)
    taken_back = 0
    for before, it in pairwise(its):
        assert it.loss <= before.loss
        taken_back += "the loss at the new point" in it.note
    # A decrease on three rows is not always one on all rows.
    assert 0 < taken_back < 12
    assert its[-1].loss < its[0].loss / 2
    read = its[-1].state.row_reads
    assert read == toy.counters.row_reads
    run(method, every, every.start(), 12, curvature_rows=20)
    assert read < every.counters.row_reads


class Listener(Network):
    """Records the rows of each evaluation along directions."""

    def values_along(self, theta, directions, alphas, rows=None):
        self.asked = [*getattr(self, "asked", ()), rows]
        return super().values_along(theta, directions, alphas, rows)


@pytest.mark.parametrize(("curvature_rows", "line_rows"), [(40, 40), (40, 60), (50, 13)])
def test_step_lengths_are_not_evaluated_on_the_rows_of_the_curvature_sample(curvature_rows, line_rows):
    toy = Listener(n_rows=200)
    run("gn-cg", toy, toy.start(), 4, curvature_rows=curvature_rows, line_rows=line_rows)
    drawn = [set(sample_indices(rows, 0, 200, 200)) for rows in toy.asked]
    ranked, searched = drawn[::2], drawn[1::2]
    assert len(ranked) == len(searched) == 4
    for mine, others in zip(ranked, searched, strict=True):
        assert (len(mine), len(others), len(mine & others)) == (curvature_rows, line_rows, 0)
    assert len({frozenset(rows) for rows in drawn}) == 8


def test_a_line_sample_of_all_rows_is_all_rows():
    one, other = Network(), Network()
    its = run("hf-bicgstab", one, one.start(), 6, line_rows=one.n_rows)
    same = run("hf-bicgstab", other, other.start(), 6)
    assert [it.as_ledger_line() | {"elapsed_s": 0} for it in its] == [
        it.as_ledger_line() | {"elapsed_s": 0} for it in same
    ]


class NoProducts(Network):
    def hvp(self, t, v, rows):
        return np.full(self.n_params, np.nan)

    gnvp = hvp


@pytest.mark.parametrize("method", METHODS)
def test_without_a_usable_product_steepest_descent_goes_on(method):
    toy = NoProducts()
    its = run(method, toy, toy.start(), 5)
    assert {it.direction for it in its[1:]} == {"gradient"}
    assert {it.krylov_status for it in its[1:]} == {"NONFINITE"}
    assert its[-1].loss < its[0].loss
    assert its[1].rounds == 1 + 1 + 1 + 1  # linearise, product, search, linearise


@pytest.mark.parametrize("method", METHODS)
def test_theta_is_copied_and_states_are_not_overwritten(method):
    toy, theta = Network(), Network().start()
    copy = theta.copy()
    its = run(method, toy, theta, 6, preconditioner="kfac")
    np.testing.assert_array_equal(theta, copy)
    snapshots = [it.state.theta.copy() for it in islice(HessianFree(method).iterate(toy, theta), 7)]
    for it, snapshot in zip(its, snapshots, strict=True):
        np.testing.assert_array_equal(it.state.theta, snapshot)


def test_wrong_starts():
    toy = Network()
    with pytest.raises(UsageError, match="shape"):
        HessianFree().iterate(toy, np.zeros(3))
    with pytest.raises(UsageError, match="neither"):
        HessianFree().iterate(toy)
    with pytest.raises(NumericalError, match="initialise"):
        HessianFree().iterate(toy, np.full(toy.n_params, np.nan))
    with pytest.raises(NumericalError, match="initialise"):
        HessianFree().iterate(toy, np.full(toy.n_params, 1e300))


@pytest.mark.parametrize("method", METHODS)
def test_negative_curvature_is_recorded_and_is_that_of_the_hessian(method):
    toy = Network(n_rows=150, n_in=6, n_hidden=8, n_out=4)
    before, *its = run(method, toy, toy.start(), 10)
    seen = 0
    for it in its:
        t, rows = before.state.theta.astype(float), toy.rows(None)
        product = toy.gnvp if toy.spy.matrices[it.iteration - 1] == "gauss_newton" else toy.hvp
        B = np.stack([product(t, e, rows) for e in np.eye(toy.n_params)])
        lowest = np.linalg.eigvalsh((B + B.T) / 2)[0]
        assert it.lowest_rayleigh >= lowest - 1e-4
        if it.n_negative_curvature:
            seen += 1
            assert it.lowest_rayleigh < 0
        if it.alpha:
            d = (it.state.theta.astype(float) - t) / it.alpha
            assert it.curvature is None or it.curvature == pytest.approx(d @ B @ d, rel=0.05, abs=1e-3 * (d @ d))
        before = it
    assert (seen > 0) == (method != "gn-cg")


BREAKDOWNS = {
    "exchange": ([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0]),
    "plus and minus": ([[1.0, 0.0], [0.0, -1.0]], [1.0, 1.0]),
    "rotation": ([[0.0, -1.0], [1.0, 0.0]], [1.0, 1.0]),
    "no gradient": ([[1.0, 0.0], [0.0, -1.0]], [0.0, 0.0]),
}


@pytest.mark.parametrize("name", BREAKDOWNS)
@pytest.mark.parametrize(
    ("method", "settings"), [*VARIANTS, *((method, {}) for method in ALL if method not in METHODS)]
)
@pytest.mark.filterwarnings("error")
def test_no_method_gives_nan_on_a_breakdown_input(method, settings, name):
    A, b = BREAKDOWNS[name]
    toy = Quadratic(A, b, 1.0)
    its = list(islice(optimizer(method, **settings).iterate(toy, np.zeros(2)), 6))
    for it in its:
        assert np.isfinite(it.loss)
        assert all(np.isfinite(vector).all() for vector in it.state.tensors().values())
    if method in EXACT and name != "rotation":
        assert its[-1].loss < its[0].loss - 1e-3


def test_a_trust_radius_is_recorded_and_bounds_the_candidates():
    toy = Network()
    before, *its = run("hf-steihaug", toy, toy.start(), 12, radius=0.25)
    radii = set()
    for it in its:
        assert it.radius == before.state.radius
        radii.add(it.radius)
        if it.alpha and it.direction == "newton":
            length = np.linalg.norm(it.state.theta.astype(float) - before.state.theta.astype(float))
            assert length <= it.alpha * it.radius * 1.001
        before = it
    assert len(radii) > 2


def test_a_state_of_another_kind_of_trust_is_refused():
    toy = Network()
    damped = next(HessianFree("hf-cg").iterate(toy, toy.start())).state
    with pytest.raises(UsageError, match=r"state of hf-steihaug.*resume with its own method"):
        HessianFree("hf-steihaug").iterate(toy, state=damped)


def test_backtracking_never_takes_a_long_step():
    toy = Network()
    its = run("hf-bicgstab", toy, toy.start(), 12, line_search="backtracking")
    assert max(it.alpha for it in its[1:]) == 1
    assert max(it.alpha for it in run("hf-bicgstab", Network(), toy.start(), 12)[1:]) > 1


def test_what_was_taken_and_why_is_in_the_note():
    toy = Network(n_rows=150, n_in=6, n_hidden=8, n_out=4)
    its = run("hf-bicgstab", toy, toy.start(), 12, krylov_iterations=2)[1:]
    taken = [it for it in its if it.direction == "negative_curvature"]
    assert taken
    assert all("lowest loss of" in it.note and it.curvature < 0 < it.n_negative_curvature for it in taken)
