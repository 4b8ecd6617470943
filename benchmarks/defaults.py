"""Compare the defaults of the estimators with those of scikit-learn's MLPClassifier and MLPRegressor.

    python benchmarks/defaults.py [--splits 5] [--first 100] [--sets digits,wine] [--write docs/estimators.md]
    python benchmarks/defaults.py --candidates          # other settings of ours, from which the defaults were chosen

All sets are inside scikit-learn or generated; california-like stands in for California housing, which would have to be
downloaded: eight skewed features, of income, age, rooms, population and place, a target with interactions and a bend,
noise, and the cap at 5. Each set is divided into training and test rows (a quarter) at random, several times, the same
for all models; models take turns. The comparison has other divisions than those by which the defaults were chosen.
Scores are accuracy or R² on the test rows. Seconds are those of the processor, in all threads together, which other
programs on the machine change little; one fit before warms up. Rounds are passes over the training rows or samples of
them, without those over validation rows.

A cell is level if the mean difference to the better of the two solvers of scikit-learn's networks is within twice its
standard error over the divisions. These share rows, so that the error is rather too small; five show large differences
only. scikit-learn's gradient-boosted trees stand beside them, for those who ask whether they need a network.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pages import insert
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from hfnumba import HessianFreeClassifier, HessianFreeRegressor

CLASSIFICATION = (MLPClassifier, HessianFreeClassifier, HistGradientBoostingClassifier)
REGRESSION = (MLPRegressor, HessianFreeRegressor, HistGradientBoostingRegressor)

# The defaults were chosen by divisions below this: the comparison has others.
FRESH = 100


def california_like(n_rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Return a stand-in for California housing."""
    rng = np.random.default_rng(0)
    skewed = np.exp(rng.normal(size=(n_rows, 6)) * [0.5, 0.6, 0.4, 0.3, 1.0, 0.7]) * [4, 25, 5, 1, 1200, 3]
    north, east = rng.uniform(32, 42, n_rows), rng.uniform(-124, -114, n_rows)
    income, age, rooms, _, _, occupants = skewed.T
    y = 0.45 * income + 0.01 * age - 0.3 * np.log(occupants) + 0.1 * income * np.tanh(rooms - 5)
    y += 0.5 * np.sin(0.9 * (north - 32)) * np.cos(0.7 * (east + 114)) + 0.3 * rng.normal(size=n_rows)
    return np.column_stack([skewed, north, east]), np.clip(y, 0.15, 5)


SETS: dict[str, tuple[Callable[[], tuple[Any, Any]], Any]] = {
    "digits": (partial(datasets.load_digits, return_X_y=True), CLASSIFICATION),
    "breast cancer": (partial(datasets.load_breast_cancer, return_X_y=True), CLASSIFICATION),
    "wine": (partial(datasets.load_wine, return_X_y=True), CLASSIFICATION),
    "iris": (partial(datasets.load_iris, return_X_y=True), CLASSIFICATION),
    "noisy classes": (
        partial(datasets.make_classification, 1000, n_informative=8, n_classes=3, flip_y=0.1, random_state=0),
        CLASSIFICATION,
    ),
    "moons": (partial(datasets.make_moons, 600, noise=0.25, random_state=0), CLASSIFICATION),
    "diabetes": (partial(datasets.load_diabetes, return_X_y=True), REGRESSION),
    "friedman1": (partial(datasets.make_friedman1, 1000, noise=1, random_state=0), REGRESSION),
    "friedman2": (partial(datasets.make_friedman2, 1000, noise=50, random_state=0), REGRESSION),
    "friedman3": (partial(datasets.make_friedman3, 1000, noise=0.1, random_state=0), REGRESSION),
    "linear": (partial(datasets.make_regression, 400, 20, noise=50, random_state=0), REGRESSION),
    "california-like": (california_like, REGRESSION),
}

CANDIDATES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "hf-bicgstab": {"method": "hf-bicgstab"},
    "gn-cg": {"method": "gn-cg"},
    "gn-cg, 512 rows": {"method": "gn-cg", "curvature_rows": 512},
    "gn-cg, preconditioner kfac": {"method": "gn-cg", "preconditioner": "kfac"},
    "kfac": {"method": "kfac", "max_iter": 200},
    "lbfgs": {"method": "lbfgs", "max_iter": 200},
    "lbfgs, relu": {"method": "lbfgs", "activation": "relu", "max_iter": 200},
    "l2 = 1e-4": {"l2": 1e-4},
    "l2 = 1e-2": {"l2": 1e-2},
    "relu": {"activation": "relu"},
    "features as they are": {"standardise": False},
    "patience 5": {"n_iter_no_change": 5},
    "patience 10": {"n_iter_no_change": 10},
    "patience 20": {"n_iter_no_change": 20},
    "tol = 1e-3": {"tol": 1e-3},
    "early stopping": {"early_stopping": True},
    "no early stopping": {"early_stopping": False},
}


@dataclass
class Results:
    """Scores, processor seconds and rounds of a model on a set, one for each split."""

    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.score:.3f} ({self.milliseconds:.0f} ms)"

    @property
    def score(self) -> float:
        """Mean score, rounded, so that sums of the same scores in another order are equal."""
        return round(float(np.mean(self.scores)), 9)

    @property
    def milliseconds(self) -> float:
        """Median time of a fit."""
        return 1000 * float(np.median(self.seconds))


def _counting(made: Any) -> Any:
    """Make an estimator keep the number of rounds of its fit in ``n_rounds``."""
    train = made._train

    def counted(training: Any, validation: Any, data: Any) -> Any:
        done = train(training, validation, data)
        made.n_rounds = training.counters.rounds
        return done

    made._train = counted
    return made


def measure(results: Results, model: Any, rows: tuple[Any, ...]) -> None:
    """Fit a model and add its score and cost."""
    X, X_test, y, y_test = rows
    start = time.process_time()
    model.fit(X, y)
    results.seconds.append(time.process_time() - start)
    results.scores.append(model.score(X_test, y_test))
    results.rounds.append(getattr(model, "n_rounds", model.n_iter_))


def compare(name: str, models: dict[str, Callable[[int], Any]], splits: range, *, scaled: bool) -> dict[str, Results]:
    """Return the results of all models on one set; the models take turns."""
    load, kind = SETS[name]
    X, y = load()
    results = {model: Results() for model in models}
    for split in splits:
        stratify = y if kind is CLASSIFICATION else None
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=split, stratify=stratify)
        if scaled:
            scaler = StandardScaler().fit(X_train)
            X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
        for model, make in models.items():
            measure(results[model], make(split), (X_train, X_test, y_train, y_test))
    return results


def peers(name: str) -> dict[str, Callable[[int], Any]]:
    """Return the makers of the models with their defaults."""
    theirs, ours, trees = SETS[name][1]
    return {
        "ours": lambda seed: _counting(ours(random_state=seed)),
        "adam": lambda seed: theirs(random_state=seed),
        "lbfgs": lambda seed: theirs(solver="lbfgs", random_state=seed),
        "trees": lambda seed: trees(random_state=seed),
    }


class Cell:
    """One set, raw or scaled: the results of all models, and ours beside the better of the others.

    That is the one with the higher score, or, if the scores are equal, the one that takes less time.
    """

    def __init__(self, found: dict[str, Results]) -> None:
        self.found = found
        better = max((found["adam"], found["lbfgs"]), key=lambda peer: (peer.score, -peer.milliseconds))
        self.differences = np.subtract(found["ours"].scores, better.scores)
        n = len(self.differences)
        self.error = float(self.differences.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
        self.ratio = found["ours"].milliseconds / better.milliseconds

    @property
    def word(self) -> str:
        """Whether ours is level with the better one."""
        mean = float(self.differences.mean())
        return "level" if abs(mean) <= 2 * self.error else "above" if mean > 0 else "below"

    def line(self, name: str, features: str) -> str:
        """Return the line of the table."""
        ours, adam, lbfgs, trees = (self.found[model] for model in ("ours", "adam", "lbfgs", "trees"))
        verdict = f"{self.word} ({self.differences.mean():+.3f} ± {self.error:.3f})"
        rounds = f"{np.median(ours.rounds):.0f}"
        cells = (name, features, ours, rounds, adam, lbfgs, verdict, f"{self.ratio:.2f}", trees)
        return f"| {' | '.join(map(str, cells))} |"


def summary(cells: list[Cell]) -> str:
    """Count the cells by their verdicts and times."""
    words = [cell.word for cell in cells]
    faster = sum(cell.ratio <= 1 for cell in cells)
    adam = sum(cell.found["ours"].milliseconds <= cell.found["adam"].milliseconds for cell in cells)
    trees = sum(cell.found["trees"].score > cell.found["ours"].score for cell in cells)
    return (
        f"Of the {len(cells)} cells {words.count('above')} are above, {words.count('level')} level and "
        f"{words.count('below')} below. Ours takes at most the time of the better solver in {faster}, and at most that "
        f"of `adam`, scikit-learn's default, in {adam}. Boosted trees have a higher score than ours in {trees}."
    )


def against_peers(names: list[str], splits: range) -> str:
    """Return the table against scikit-learn."""
    lines = [
        "| set | features | ours | rounds | MLP, adam | MLP, lbfgs | ours to the better | time | boosted trees |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    cells = []
    for name in names:
        for scaled in (False, True):
            cells.append(Cell(compare(name, peers(name), splits, scaled=scaled)))
            lines.append(cells[-1].line(name, "scaled" if scaled else "raw"))
            print(lines[-1], flush=True)
    return "\n".join([*lines, "", summary(cells)])


def candidate(name: str, settings: dict[str, Any]) -> Callable[[int], Any]:
    """Return the maker of our model for a set, with some settings."""
    return lambda seed: SETS[name][1][1](random_state=seed, **settings)


def of_candidates(names: list[str], splits: range) -> str:
    """Return the table of other settings."""
    lines = [f"| settings | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    columns = {}
    for name in names:
        models = {key: candidate(name, settings) for key, settings in CANDIDATES.items()}
        columns[name] = compare(name, models, splits, scaled=False)
        print(name, {key: str(results) for key, results in columns[name].items()}, flush=True)
    for key in CANDIDATES:
        lines.append(f"| {key} | " + " | ".join(str(columns[name][key]) for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument(
        "--first", type=int, help="number of the first division  [default: 0 with --candidates, else 100]"
    )
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    parser.add_argument("--candidates", action="store_true", help="compare other settings of ours")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.sets[:1]:
        compare(name, peers(name), range(1), scaled=True)
    first = options.first if options.first is not None else 0 if options.candidates else FRESH
    splits = range(first, first + options.splits)
    table = (of_candidates if options.candidates else against_peers)(options.sets, splits)
    print(table)
    if options.write:
        insert(options.write, "candidates" if options.candidates else "defaults", table)


if __name__ == "__main__":
    main()
