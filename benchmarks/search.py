"""Time of a grid search over a pipeline on digits, beside scikit-learn's MLPClassifier in its place.

    python benchmarks/search.py [--n-jobs 2] [--write docs/estimators.md]

StandardScaler and a classifier with default settings; three penalties and two widths, five folds: 31 fits of 1,438
rows, the last one of 1,797. The first search of a kind includes the start of its processes. With --write the
table replaces the text between the markers of that page.
"""

import os
import time
import warnings
from pathlib import Path

import click
import numpy as np
from joblib.externals.loky import get_reusable_executor
from pages import publish
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from hfnumba import HessianFreeClassifier
from hfnumba.figures.summary import markdown

WIDTHS, PENALTIES = [(50,), (100,)], [1e-4, 1e-3, 1e-2]
CLASSIFIERS = {HessianFreeClassifier: "l2", MLPClassifier: "alpha"}


def search(kind, n_jobs):
    """Row of the table: seconds of the search, median seconds of a fit in it, and the best score."""
    X, y = load_digits(return_X_y=True)
    pipeline = Pipeline([("scale", StandardScaler()), ("network", kind(random_state=0))])
    grid = {"network__hidden_layer_sizes": WIDTHS, f"network__{CLASSIFIERS[kind]}": PENALTIES}
    begin = time.perf_counter()
    found = GridSearchCV(pipeline, grid, n_jobs=n_jobs).fit(X, y)
    seconds = time.perf_counter() - begin
    fit = np.median(found.cv_results_["mean_fit_time"])
    return [f"`{kind.__name__}`", f"{seconds:.1f} s", f"{fit:.2f} s", f"{found.best_score_:.3f}"]


@click.command()
@click.option("--n-jobs", type=click.IntRange(1), default=2, show_default=True, help="Number of processes.")
@click.option("--write", type=click.Path(path_type=Path), help="A Markdown file with the markers.")
def main(n_jobs, write):
    """Measure both."""
    # Processes of the search warn by themselves.
    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    rows = []
    for kind in CLASSIFIERS:
        get_reusable_executor().shutdown()
        rows.append(search(kind, n_jobs))
    header = [f"`n_jobs={n_jobs}`", "search", "median fit", "best accuracy"]
    publish(markdown(header, rows), write, "search")


if __name__ == "__main__":
    main()
