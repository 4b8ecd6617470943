"""Comparisons: all runners on a tiny problem, targets, grids, files of results that are continued, summaries."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hfnumba.bench.quality.contest import Contest, carry_out, setting
from hfnumba.bench.quality.course import NOT_FINITE, OUT_OF_TIME, REACHED, Arena, Course, Limits, RunOver
from hfnumba.bench.quality.data import Data
from hfnumba.bench.quality.meter import CountedObjective, Meter
from hfnumba.bench.quality.methods import CONTESTANTS, checked_methods, default_methods
from hfnumba.bench.quality.operations import gradient_operations
from hfnumba.bench.quality.problems import PROBLEMS, Problem, Target
from hfnumba.bench.quality.records import Point, Record, Result, Run, read_lines
from hfnumba.bench.quality.summary import best_trial, summarise
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.progress import SILENT
from tests.limits import LIMIT_S

TOY = Problem("toy", lambda request: data(), (8,), (Target("loss", 0.3),), 1.0, 1.0, "tanh", "softmax_cross_entropy")
REGRESSION = replace(TOY, loss="squared_error", targets=(Target("error", 0.05),))


def data(n=120):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2 * n, 4)).astype(np.float32)
    y = X[:, :3].argmax(axis=1).astype(np.int32)
    return Data(X[:n], y[:n], X[n:], y[n:], 3)


def regression_data(n=120):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2 * n, 4)).astype(np.float32)
    y = np.stack([np.tanh(X[:, 0]), X[:, 1]], axis=1)
    return Data(X[:n], y[:n], X[n:], y[n:], 2)


@pytest.fixture
def arena():
    one = Arena(TOY, data())
    yield one
    one.close()


def run_of(name, **more):
    given = {"batch_rows": 30, "learning_rate": 0.05} if CONTESTANTS[name].rates else {}
    return Run(name, **(given | more))


def points_of(arena, run, limits):
    points = []
    with pytest.raises(RunOver) as over:
        CONTESTANTS[run.method].run(Course(arena, run, limits, points.append))
    return points, str(over.value)


class Watched(Course):
    """Keeps the last theta that is reported, of at most 60."""

    n_reports = 0

    def report(self, theta, known=None):
        super().report(theta, known)
        self.last, self.n_reports = theta.copy(), self.n_reports + 1
        if self.n_reports == 60:
            raise RunOver("enough")


def needs(name):
    for library in CONTESTANTS[name].libraries:
        pytest.importorskip(library)


@pytest.mark.parametrize("name", sorted(CONTESTANTS))
def test_every_method_runs_to_its_target(arena, name):
    needs(name)
    points, ending = points_of(arena, run_of(name), Limits([("loss", 0.6)], LIMIT_S))
    assert ending == REACHED
    assert points[-1].loss <= 0.6 < min(point.loss for point in points[:-1])
    for cost in ("rounds", "passes", "gflop", "seconds"):
        values = [getattr(point, cost) for point in points]
        assert all(a <= b for a, b in pairwise(values)) and values[-1] > 0
    assert all(0 <= point.error <= 1 and 0 <= point.test_error <= 1 and point.test_loss > 0 for point in points)


@pytest.mark.parametrize("name", ["kfac", "sklearn", "optax-adam", "torch-momentum", "scipy-lbfgs", "momentum"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_regression(name, activation):
    needs(name)
    one = Arena(replace(REGRESSION, activation=activation), regression_data())
    points, ending = points_of(one, run_of(name), Limits([("error", 0.5)], LIMIT_S))
    one.close()
    assert ending == REACHED and points[-1].error <= 0.5
    assert points[-1].loss == pytest.approx(points[-1].error)  # half the squares of two outputs


@pytest.mark.parametrize("name", ["adam", "torch-adam", "optax-adam"])
def test_minibatches_are_counted_alike(arena, name):
    needs(name)
    points, _ = points_of(arena, run_of(name), Limits([("loss", 0.6)], LIMIT_S))
    epochs = len(points) - 1
    assert points[0].rounds == 0 and points[-1].rounds == 4 * epochs and points[-1].passes == epochs
    assert points[-1].gflop == pytest.approx(epochs * 120 * gradient_operations(arena.network.sizes) / 1e9)


@pytest.mark.parametrize("pair", [("adam", "torch-adam"), ("adam", "optax-adam"), ("momentum", "torch-momentum")])
def test_peers_make_the_steps_that_this_package_makes(arena, pair):
    """With all rows in a minibatch nothing is drawn, so that each step is the same."""
    needs(pair[1])
    found = [points_of(arena, Run(name, 120, 0.01), Limits([("loss", 0.9)], LIMIT_S))[0] for name in pair]
    assert len(found[0]) == len(found[1]) > 3
    np.testing.assert_allclose(*([point.loss for point in points] for points in found), rtol=1e-4)


@pytest.mark.parametrize("peer", ["torch-adam", "optax-adam"])
def test_peers_have_the_penalty_of_this_package_and_points_are_without_it(peer):
    needs(peer)
    one = Arena(replace(TOY, l2=0.05), data())
    limits = Limits([("loss", 0.9)], LIMIT_S)
    found = [points_of(one, Run(name, 120, 0.01), limits)[0] for name in ("adam", peer)]
    one.close()
    assert found[0][0].loss == pytest.approx(found[1][0].loss, rel=1e-6)
    assert len(found[0]) == len(found[1]) > 3
    np.testing.assert_allclose(*([point.loss for point in points] for points in found), rtol=1e-4)
    with CountedObjective(one.network, one.data.X, one.data.y, Meter()) as without:
        assert found[0][0].loss == pytest.approx(without.value_and_error(one.network.initialize(0))[0], rel=1e-6)


@pytest.mark.parametrize("penalised", ["sklearn", "scipy-lbfgs", "kfac", "gn-cg"])
def test_a_penalty_keeps_weights_small(penalised):
    needs(penalised)
    norms = []
    for l2 in (0.0, 0.3):
        one = Arena(replace(TOY, l2=l2), data())
        course = Watched(one, run_of(penalised), Limits([], LIMIT_S), lambda point: None)
        with pytest.raises(RunOver):
            CONTESTANTS[penalised].run(course)
        one.close()
        norms.append(np.linalg.norm(one.network.weights_only(course.last)))
    assert norms[1] < 0.95 * norms[0]


@pytest.mark.parametrize("peer", ["torch-adam", "optax-adam"])
def test_peers_have_activations_by_layer_and_sigmoid_cross_entropy(peer):
    """Their steps are those of this package, on a small autoencoder."""
    needs(peer)
    X = data().X
    rows = Data(*[1 / (1 + np.exp(-X))] * 4, 4)
    autoencoder = replace(
        TOY, hidden=(6, 2, 6), activation=("sigmoid", "identity", "tanh"), loss="sigmoid_cross_entropy"
    )
    one = Arena(autoencoder, rows)
    found = [points_of(one, Run(name, 120, 0.02), Limits([("loss", 2.74)], LIMIT_S))[0] for name in ("adam", peer)]
    one.close()
    assert len(found[0]) == len(found[1]) > 3
    np.testing.assert_allclose(*([point.loss for point in points] for points in found), rtol=1e-4)


def test_optax_momentum_makes_the_steps_of_this_package(arena):
    needs("optax-momentum")
    found = [
        points_of(arena, Run(name, 120, 0.01), Limits([("loss", 0.9)], LIMIT_S))[0]
        for name in ("momentum", "optax-momentum")
    ]
    np.testing.assert_allclose(*([point.loss for point in points] for points in found), rtol=1e-4)


def test_kfac_ends_between_two_points_when_its_time_is_over(monkeypatch):
    arena = Arena(replace(TOY, interval=100.0), data())
    monkeypatch.setattr(Course, "is_out_of_time", lambda course: True)
    points, _ = points_of(arena, run_of("kfac"), Limits([("loss", 0.0)], LIMIT_S))
    arena.close()
    assert [point.rounds for point in points] == [0, 1]


@pytest.mark.parametrize("name", ["optax-adam", "torch-adam"])
def test_a_run_ends_between_two_points_when_its_time_is_over(name):
    needs(name)
    arena = Arena(replace(TOY, interval=100.0), data())
    points, ending = points_of(arena, run_of(name), Limits([("loss", 0.0)], 1e-9))
    arena.close()
    assert ending == OUT_OF_TIME and points[-1].rounds == 1


def test_a_run_ends_at_its_time(arena):
    assert points_of(arena, run_of("adam"), Limits([("loss", 0.0)], 1e-9))[1] == OUT_OF_TIME


@pytest.mark.parametrize("name", ["optax-momentum", "torch-momentum", "momentum"])
def test_a_run_ends_where_the_loss_overflows(name):
    needs(name)
    one = Arena(REGRESSION, regression_data())
    points, ending = points_of(one, run_of(name, learning_rate=1e10), Limits([("loss", 0.0)], LIMIT_S))
    one.close()
    assert ending == NOT_FINITE or "learning rate" in ending
    assert len(points) < 30


def test_seeds_draw_other_parameters_and_minibatches(arena):
    limits = Limits([("loss", 0.6)], LIMIT_S)
    first, again, other = (points_of(arena, run_of("adam", seed=seed), limits)[0] for seed in (0, 0, 1))
    assert [p.loss for p in first] == [p.loss for p in again]
    assert first[0].loss != other[0].loss


def contest(methods=("adam", "kfac"), problem=TOY, grid=((30, 0.05), (60, 0.05)), seeds=2):
    return Contest(problem, methods, seeds, LIMIT_S / 60, {"adam": grid})


def carried_out(arena, path, one):
    record = Record(path, setting("toy", one, arena))
    carry_out(one, arena, record, SILENT)
    return record


def test_a_comparison_is_written_as_it_is_made_and_continued(arena, tmp_path):
    path, one = tmp_path / "results.jsonl", contest()
    record = carried_out(arena, path, one)
    lines = read_lines(path)
    assert [line["kind"] for line in lines[:3]] == ["setting", "start", "point"]
    assert {"machine", "processors", "versions", "sizes", "rows", "targets"} <= lines[0].keys()
    starts = [
        (line["method"], line["batch_rows"], line["seed"], line["is_trial"])
        for line in lines
        if line["kind"] == "start"
    ]
    best = starts[2][1]
    assert starts == [
        ("adam", 30, 0, True),
        ("adam", 60, 0, True),
        *((name, rows, seed, False) for seed in (0, 1) for name, rows in (("adam", best), ("kfac", None))),
    ]
    assert [line["ending"] for line in lines if line["kind"] == "end"][2:] == [REACHED] * 4
    # The last run and a torn line are lost; they are made again, and nothing else.
    kept = [i for i, line in enumerate(lines) if line["kind"] == "start"][-1]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines[: kept + 2]) + '{"kind": "poi')
    again = carried_out(arena, path, one)
    assert list(again.results)[:-1] == list(record.results)[:-1]
    assert [line["kind"] for line in read_lines(path)].count("start") == len(starts) + 1
    last = list(record.results.values())[-1]
    assert [p.loss for p in list(again.results.values())[-1].points] == [p.loss for p in last.points]
    assert len(carried_out(arena, path, one).results) == len(starts)


@pytest.mark.parametrize("text", ["nothing\n", "nothing", "[]\n", '{"kind": "other"}\n', '{"kind": "setting"}\n3\n'])
def test_other_files_are_refused_and_left_as_they_are(tmp_path, text):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="name another file"):
        Record(path, {"problem": "toy"})
    assert path.read_text() == text


def test_results_of_another_setting_are_refused(tmp_path):
    path = tmp_path / "file"
    Record(path, {"problem": "toy", "rows": 3})
    with pytest.raises(CheckpointError, match="results of another rows;"):
        Record(path, {"problem": "toy", "rows": 4})


def test_a_point_that_lacks_something_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text('{"kind": "setting"}\n{"kind": "point", "seconds": 1}\n')
    with pytest.raises(CheckpointError, match="lacks something"):
        Record(path, {})


def test_what_adam_reaches_is_the_target_of_others(arena, tmp_path):
    problem = replace(TOY, targets=(Target("test_loss", None),))
    one = contest(problem=problem, grid=((30, 0.05),), seeds=1)
    one = replace(one, minutes=0.005)
    record = carried_out(arena, tmp_path / "f", one)
    adam, kfac = record.results.values()
    assert adam.ending == OUT_OF_TIME
    (summary,) = summarise(problem, one.methods, record.results.values())
    assert summary.values == (adam.lowest("test_loss"),) and summary.is_reference
    assert kfac.ending == OUT_OF_TIME or kfac.points[-1].test_loss <= adam.lowest("test_loss")


def point(seconds, rounds, loss):
    return Point(seconds, rounds, float(rounds), 2.0 * rounds, loss, 0.5, loss, 0.5)


def result(method, *points, seed=0, rate=None, is_trial=False):
    return Result(Run(method, None, rate, seed, is_trial), points, REACHED, 0.0)


def test_a_summary_has_medians_over_the_seeds_and_ratios_to_the_best_first_order_method():
    problem = replace(TOY, targets=(Target("loss", 0.3),))
    results = [
        *(result("kfac", point(1, 5, 0.5), point(2 + s, 10 + s, 0.2), point(9, 90, 0.1), seed=s) for s in range(3)),
        *(result("adam", point(10 * (s + 1), 100, 0.3), seed=s) for s in range(3)),
        *(result("momentum", point(90, 40 + s, 0.1), seed=s) for s in range(3)),
        *(result("sgd", point(1, 1, 0.3 if s else 0.4), seed=s) for s in range(3)),
        result("adam", point(0.1, 1, 0.3), is_trial=True),
    ]
    (summary,) = summarise(problem, ("adam", "momentum", "sgd", "kfac"), results)
    found = summary.as_dict()
    kfac = found["methods"]["kfac"]
    assert (kfac["seconds"], kfac["rounds"], kfac["gflop"], kfac["lowest"]) == (3, 11, 22.0, 0.1)
    assert found["best_first_order"] == {
        "rounds": "momentum",
        "passes": "momentum",
        "gflop": "momentum",
        "seconds": "adam",
    }
    assert kfac["ratios"] == {"rounds": 41 / 11, "passes": 41 / 11, "gflop": 41 / 11, "seconds": 20 / 3}
    assert found["methods"]["sgd"]["reached"] == 2 and found["methods"]["sgd"]["seconds"] is None
    assert found["methods"]["adam"]["ratios"]["seconds"] is None


def test_the_best_of_a_grid_reaches_the_target_first_and_else_gets_lowest():
    slow, fast = result("adam", point(3, 1, 0.1)), result("adam", point(2, 9, 0.3))
    near, far = result("adam", point(1, 1, 0.4)), result("adam", point(1, 1, 0.5))
    assert best_trial([near, slow, fast, far], Target("loss", 0.3)) is fast
    assert best_trial([far, near], Target("loss", 0.3)) is near
    assert best_trial([near, slow], Target("loss", None)) is slow


def test_methods_are_checked_and_first_order_ones_come_first():
    assert checked_methods(("kfac", "momentum", "adam")) == ("adam", "momentum", "kfac")
    assert set(default_methods()) <= set(CONTESTANTS)
    with pytest.raises(UsageError, match="unknown method 'newton'"):
        checked_methods(("newton",))
    with pytest.raises(UsageError, match="different methods"):
        checked_methods(("kfac", "kfac"))


@pytest.mark.parametrize("problem", PROBLEMS.values())
def test_problems_have_networks_and_targets(problem):
    network = problem.network(data())
    assert network.sizes == (4, *problem.hidden, 3) and problem.targets
