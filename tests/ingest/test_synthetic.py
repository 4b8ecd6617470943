import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.ingest import build
from hfnumba.ingest.recipe_tables import SyntheticOptions
from hfnumba.ingest.recipes import find_recipe
from hfnumba.ingest.sources.synthetic import SyntheticCorpus
from hfnumba.store.verify import verify

RECIPE = """
name = "s"
format = "synthetic"
context = 1
note = "synthetic"
[synthetic]
train_rows = 2050
test_rows = 310
n_features = 6
n_classes = 40
seed = 3
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(RECIPE)
    return path


def test_a_store_of_made_up_rows(recipe, tmp_path, read_tree):
    store = build(recipe, out=tmp_path / "a.zarr", n_partitions=3)
    assert verify(store) == []
    train, test = store["train"], store["test"]
    assert (train.n_rows, test.n_rows, train.n_features, train.n_classes) == (2050, 310, 18, 40)
    assert store.manifest.header.note == "synthetic" and store.manifest.header.sources[0].name == "synthetic"
    again = build(recipe, out=tmp_path / "b.zarr", n_partitions=3)
    assert read_tree(again.path) == read_tree(store.path)
    some = build(recipe, out=tmp_path / "c.zarr", rows=1000)
    assert 700 < some["train"].n_rows <= 1000
    with pytest.raises(UsageError, match="reads no files"):
        build(recipe, tmp_path, tmp_path / "d.zarr")


def test_the_recipe_has_the_shape_of_timit_and_says_what_it_is():
    recipe = find_recipe("synthetic-speech")
    options = recipe.synthetic
    assert (options.train_rows, options.n_classes, options.n_features * (2 * recipe.context + 1)) == (
        1_013_950,
        1973,
        360,
    )
    assert "SYNTHETIC" in recipe.title and "synthetic" in recipe.note


def test_rows_are_smooth_imbalanced_and_learnable():
    corpus = SyntheticCorpus(SyntheticOptions(train_rows=30_000, n_classes=50, n_features=8), 1)
    held = [corpus.load(name) for name in corpus.names["train"]]
    X, y = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
    assert np.abs(X.mean(axis=0)).max() < 0.2 and np.abs(X.std(axis=0) - 1).max() < 0.1
    neighbours = np.mean([np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1] for u, _ in held[:50]])
    assert neighbours == pytest.approx(0.9, abs=0.05)
    counts = np.sort(np.bincount(y, minlength=50))[::-1]
    assert counts[0] > 5 * counts[25] and (counts > 0).sum() > 35
    # The classes depend on the features: a linear model (least squares on indicators) is better than the largest class.
    design = np.concatenate([np.concatenate([u, np.ones((len(u), 1))], axis=1) for u, _ in held])
    weights = np.linalg.lstsq(design[:20_000], np.eye(50)[y[:20_000]], rcond=None)[0]
    accuracy = (np.argmax(design[20_000:] @ weights, axis=1) == y[20_000:]).mean()
    assert accuracy > 1.5 * counts[0] / len(y)


def test_utterances_depend_on_their_number_only():
    small, large = (SyntheticCorpus(SyntheticOptions(train_rows=n), 4) for n in (900, 10**10))
    for one, other in zip(small.load("train-000000002"), large.load("train-000000002"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(small.load("train-000000001")[0], small.load("train-000000002")[0])
    assert not np.array_equal(small.load("train-000000001")[0], small.load("test-000000001")[0])
    last = SyntheticCorpus(SyntheticOptions(train_rows=650), 0).load("train-000000002")
    assert len(last[0]) == len(last[1]) == 50
