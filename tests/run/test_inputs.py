"""A model treats the rows of any store as its training rows: by name, and with the numbers of the run."""

import dataclasses
import json
import re
import shutil
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from hfnumba.errors import CheckpointError, DataError, NumericalError
from hfnumba.ingest import build, write_frames, write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from hfnumba.store.manifest import sealed
from tests.silent import Silent


def trained(store, path, **more):
    train(store, RunDirectory(path), {"hidden": [6], "max_iterations": 4, "threads": 1} | more, Silent())
    return load_model(path)


def outputs(model, X):
    """Forward pass in plain NumPy, for inputs as the network sees them."""
    a = np.asarray(X, np.float64)
    layers = list(model.network.layers(model.theta))
    for i, (W, b) in enumerate(layers):
        z = a @ W + b
        a = z if i == len(layers) - 1 else np.tanh(z)
    return a


def expected(model, X, y):
    """Loss and error of labels."""
    z = outputs(model, X)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(y)), y].mean(), (z.argmax(axis=1) != y).mean()


def clouds(n=240, seed=0, shift=0.0):
    """Three classes of four features of unequal size."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0, 10, 1, 0], [3, 0, 2, 0], [0, 0, 0, 5.0]])
    return (centres[y] + rng.normal(size=(n, 4)) * [1, 2, 0.3, 1] + shift).astype(np.float32), y


def test_rows_of_a_shifted_store_are_standardised_by_the_runs_numbers(tmp_path):
    X, y = clouds()
    write_store(tmp_path / "a.zarr", {"train": (X, y)}, standardise=True, n_partitions=2)
    model = trained(tmp_path / "a.zarr", tmp_path / "run")
    moved, labels = clouds(seed=1, shift=2.0)
    write_store(tmp_path / "b.zarr", {"train": (moved, labels)}, standardise=True, n_partitions=3)
    reporter = Silent()
    found = model.evaluate(open_store(tmp_path / "b.zarr")["train"], reporter)
    X64 = X.astype(np.float64)
    loss, error = expected(model, (moved - X64.mean(0)) / X64.std(0), labels)
    assert found == (pytest.approx(loss, rel=1e-5), error)
    assert error == (model.predict(moved).argmax(1) != labels).mean()
    assert reporter.notes == [
        f"features get mean and deviation of the run's training rows, not those of {tmp_path}/b.zarr"
    ]
    # In the store's own numbers the shift would have disappeared.
    assert error > 0.1


def test_bytes_without_a_scale_get_the_runs(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = (rng.integers(0, 200, (200, 6)) + 25 * y[:, None]).astype(np.uint8)
    write_store(tmp_path / "a.zarr", {"train": (X, y)}, scale=1 / 255, offset=-0.5, n_partitions=2)
    model = trained(tmp_path / "a.zarr", tmp_path / "run")
    np.savez(tmp_path / "b.npz", X_train=X, y_train=y)
    store = build(tmp_path / "b.npz", out=tmp_path / "b.zarr", n_partitions=2)
    assert store["train"].scale == 1
    found = model.evaluate(store["train"])
    loss, error = expected(model, X / 255 - 0.5, y)
    assert found == (pytest.approx(loss, rel=1e-5), error)
    # Near numbers in float32, which their store standardises, are near rows.
    write_store(tmp_path / "c.zarr", {"train": (X + np.float32(0.25), y)}, standardise=True)
    loss, error = expected(model, (X + 0.25) / 255 - 0.5, y)
    assert model.evaluate(open_store(tmp_path / "c.zarr")["train"]) == (pytest.approx(loss, rel=1e-5), error)


def test_bytes_for_a_run_that_standardises(tmp_path):
    X, y = clouds()
    X = np.abs(X).astype(np.float32)
    write_store(tmp_path / "a.zarr", {"train": (X, y)}, standardise=True)
    model = trained(tmp_path / "a.zarr", tmp_path / "run")
    whole = np.rint(X).astype(np.uint8)
    write_store(tmp_path / "b.zarr", {"train": (whole, y)}, n_partitions=2)
    X64 = X.astype(np.float64)
    loss, error = expected(model, (whole - X64.mean(0)) / X64.std(0), y)
    found = model.evaluate(open_store(tmp_path / "b.zarr")["train"])
    assert found == (pytest.approx(loss, rel=1e-5), error)


def test_a_loss_that_is_not_finite_is_no_result(tmp_path):
    X, y = clouds()
    write_store(tmp_path / "a.zarr", {"train": (X, y)}, scale=1e3)
    model = trained(tmp_path / "a.zarr", tmp_path / "run")
    X[7, 1:3] = 3e38
    write_store(tmp_path / "b.zarr", {"train": (X, y)})
    with pytest.raises(NumericalError, match=r"the loss on split 'train' of .*b.zarr is nan: features"):
        model.evaluate(open_store(tmp_path / "b.zarr")["train"])


def test_frames_get_the_runs_context(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.normal(5, 3, (n, 4)).astype(np.float32), rng.integers(0, 3, n)) for n in (30, 50, 20)]
    write_frames(tmp_path / "a.zarr", {"train": utterances}, context=2, n_partitions=2)
    write_frames(tmp_path / "b.zarr", {"train": utterances}, context=1, standardise=False, n_partitions=2)
    model = trained(tmp_path / "a.zarr", tmp_path / "run")
    a, b = (open_store(tmp_path / name)["train"] for name in ("a.zarr", "b.zarr"))
    assert model.evaluate(b) == model.evaluate(a)
    X = np.concatenate([X for X, _ in utterances])
    write_store(tmp_path / "c.zarr", {"train": (X, np.concatenate([y for _, y in utterances]))})
    with pytest.raises(DataError, match=r"frames of 4 features with 2 neighbours on each side .* no frames"):
        model.evaluate(open_store(tmp_path / "c.zarr")["train"])


TABLE = """name = "t"
format = "csv"
standardise = true
{more}
[table]
train = ["{file}"]
label = "{label}"
{table}
"""


def table(folder, name, rows, more="", table="", label="kind"):
    """Build a store from rows, which are dicts of columns."""
    names = list(rows[0])
    lines = [",".join(names), *(",".join("" if row[n] is None else str(row[n]) for n in names) for row in rows)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.toml").write_text(TABLE.format(file=f"{name}.csv", more=more, table=table, label=label))
    return build(folder / f"{name}.toml", folder, folder / f"{name}.zarr", n_partitions=2)


TOWNS, KINDS = ("Bonn", "Kiel", "Ulm"), ("ash", "elm", "oak")


def rows_of(n=240, seed=0, shift=0.0):
    X, y = clouds(n, seed, shift)
    rng = np.random.default_rng(seed + 100)
    towns = [TOWNS[k] if rng.random() < 0.8 else TOWNS[0] for k in y]
    return [
        {"a": a, "b": b, "c": c, "town": town, "kind": KINDS[k]}
        for (a, b, c, _), town, k in zip(X.tolist(), towns, y, strict=True)
    ]


CATEGORIES = 'categorical = ["town"]'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    table(folder, "first", rows_of(), table=CATEGORIES)
    return trained(folder / "first.zarr", folder / "run")


def inputs(model, rows):
    """Rows as the network sees them, computed from the first table by hand."""

    def raw(rows):
        return np.array([[r["a"], r["b"], r["c"], *(r["town"] == t for t in TOWNS)] for r in rows], np.float64)

    store = open_store(model.record.store.path)
    stored = np.concatenate([store["train"].load_stored(j)[0] for j in range(store["train"].n_partitions)])
    return (raw(rows) - stored.mean(0, dtype=np.float64)) / stored.std(0, dtype=np.float64)


def whole(store):
    return [store[name] for name in ("train", "test")]


def check(model, store, rows, note=None):
    """Compare both splits of a store, together, with the forward pass over the rows."""
    reporter = Silent()
    parts = [(split.n_rows, *model.evaluate(split, reporter)) for split in whole(store)]
    n = sum(rows for rows, _, _ in parts)
    loss, error = (sum(part[0] * part[i] for part in parts) / n for i in (1, 2))
    wanted = expected(model, inputs(model, rows), np.array([KINDS.index(row["kind"]) for row in rows]))
    assert (loss, error) == (pytest.approx(wanted[0], rel=1e-4), pytest.approx(wanted[1]))
    assert note is None or any(re.search(note, text) for text in reporter.notes)


def reordered(rows, names):
    return [{name: row[name] for name in names} for row in rows]


def test_columns_in_another_order_are_matched_by_name(run, tmp_path):
    rows = rows_of(seed=3, shift=0.5)
    store = table(tmp_path, "other", reordered(rows, ["c", "kind", "town", "b", "a"]), table=CATEGORIES)
    assert [column.name for column in store["train"].columns] == ["c", "b", "a", "town"]
    check(run, store, rows)


def test_categories_and_classes_that_are_not_there_leave_no_gap(run, tmp_path):
    """Of two classes and two towns, whose numbers differ from those of the run."""
    rows = [row for row in rows_of(seed=4) if row["kind"] != "ash" and row["town"] != "Bonn"]
    store = table(tmp_path, "other", rows, table=CATEGORIES)
    assert store["train"].classes == ("elm", "oak")
    check(run, store, rows)


def renamed(old, new):
    return [{new if name == old else name: value for name, value in row.items()} for row in rows_of(seed=5)]


@pytest.mark.parametrize(
    ("rows", "categories", "complaint"),
    [
        (renamed("b", "B"), CATEGORIES, "it has no column b; the run was trained without its column B"),
        ([row | {"id": i} for i, row in enumerate(rows_of())], CATEGORIES, "was trained without its column id"),
        (
            [row | {"a": "x", "town": i} for i, row in enumerate(rows_of())],
            'categorical = ["a"]',
            r"column 'a' of .* has categories, in the run it has numbers",
        ),
        (
            [row | ({"town": "Jena"} if i < 7 else {}) for i, row in enumerate(rows_of())],
            CATEGORIES,
            r"has town = Jena \(\d rows\), which the run does not have",
        ),
        (
            [row | ({"kind": "yew"} if i % 6 == 0 else {}) for i, row in enumerate(rows_of())],
            CATEGORIES,
            r"has class yew \(\d+ rows\), which the run does not have",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(run, tmp_path, rows, categories, complaint):
    store = table(tmp_path, "other", rows, table=categories)
    with pytest.raises(DataError, match=complaint):
        for split in whole(store):
            run.evaluate(split)


def test_features_without_names_are_taken_in_order_with_a_note(run, tmp_path):
    rows = rows_of(seed=6)
    store = open_store(table(tmp_path, "named", rows, table=CATEGORIES).path)
    X = np.array([[r["a"], r["b"], r["c"], *(r["town"] == t for t in TOWNS)] for r in rows], np.float32)
    y = np.array([KINDS.index(row["kind"]) for row in rows])
    write_store(tmp_path / "plain.zarr", {"train": (X[:200], y[:200]), "test": (X[200:], y[200:])}, n_partitions=2)
    plain = open_store(tmp_path / "plain.zarr")
    note = "has no names of features; they are taken in the order a, b, c, town = Bonn, town = Kiel, town = Ulm"
    check(run, plain, rows, note)
    check(run, plain, rows, "has no names of classes; its numbers are taken for 0 = ash to 2 = oak")
    # A run on rows without names takes those of a table in their order, too, but its classes have no such names.
    model = trained(tmp_path / "plain.zarr", tmp_path / "run")
    with pytest.raises(DataError, match=r"has class ash \(\d+ rows\), class elm .*, which the run does not have"):
        model.evaluate(store["train"])


def test_a_run_records_names(run):
    data = run.record.store
    assert [(c.name, c.categories) for c in data.columns] == [("a", None), ("b", None), ("c", None), ("town", TOWNS)]
    assert data.classes == KINDS and data.targets == ()


def test_any_names_can_be_recorded(tmp_path):
    odd = ["ä = 'x', \\", "[a]", " ", "\x7f", 'q"']
    rows = [[*odd, "kind"], *([*((i * 7 + k) % 11 for k in range(len(odd))), KINDS[i % 2]] for i in range(40))]
    quoted = [",".join('"' + str(value).replace('"', '""') + '"' for value in row) for row in rows]
    (tmp_path / "t.csv").write_text("\n".join(quoted) + "\n")
    recipe = TABLE.format(file="t.csv", more="", table=f"categorical = {json.dumps(odd[:1])}", label="kind")
    (tmp_path / "t.toml").write_text(recipe)
    store = build(tmp_path / "t.toml", tmp_path, tmp_path / "t.zarr", n_partitions=2)
    model = trained(store.path, tmp_path / "run")
    assert model.record.store.columns == store["train"].columns
    assert [column.name for column in model.record.store.columns] == [*odd[1:], odd[0]]


def without_names(run, path):
    """Copy a run as an earlier version wrote it."""
    shutil.copytree(run, path)
    lines = (path / "config.toml").read_text().splitlines(keepends=True)
    left = [line for line in lines if not line.startswith(("columns", "classes", "targets"))]
    del left[left.index("[digests]\n") :]
    (path / "config.toml").write_text("".join(left))
    assert len(lines) - len(left) == len(["columns", "classes", "targets", "[digests]", "network_and_store"])
    return path


def test_runs_of_earlier_versions_take_names_from_their_store(tmp_path):
    table(tmp_path, "first", rows_of(), table=CATEGORIES)
    model = trained(tmp_path / "first.zarr", tmp_path / "run")
    old = load_model(without_names(tmp_path / "run", tmp_path / "old"))
    assert old.record == model.record
    rows = rows_of(seed=3)
    store = table(tmp_path, "other", reordered(rows, ["c", "kind", "town", "b", "a"]), table=CATEGORIES)
    check(model, store, rows)
    # Without it nothing is known of names, which is said.
    (tmp_path / "first.zarr").rename(tmp_path / "moved.zarr")
    old, reporter = load_model(tmp_path / "old"), Silent()
    assert old.record.store.classes is msgspec.UNSET
    moved = open_store(tmp_path / "moved.zarr")["test"]
    assert old.evaluate(moved, reporter) == model.evaluate(moved)
    assert reporter.notes == []
    old.evaluate(table(tmp_path, "third", rows, table=CATEGORIES)["train"], reporter)
    for what in ("is of an earlier version and has no names of columns", "has no record of its classes' names"):
        assert any(what in note for note in reporter.notes)
    with pytest.raises(DataError, match="has no names of columns to compare those of the data frame with"):
        old.predict(Frame(a=[1.0], b=[1.0], c=[1.0], town=["Ulm"]))
    np.save(tmp_path / "x.npy", np.ones((1, 6)))
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "old"), str(tmp_path / "x.npy")])
    assert "the run has no record of its columns" in result.stderr and json.loads(result.stdout)["class"] in (0, 1, 2)


def test_tables_of_earlier_versions_are_read_with_a_note(run, tmp_path):
    rows = rows_of(seed=7)
    store = table(tmp_path, "t", rows, table=CATEGORIES)
    header = msgspec.structs.replace(store.manifest.header, columns=msgspec.UNSET)
    (store.path / "manifest.json").write_bytes(sealed(header, store.manifest.files))
    old = open_store(store.path)
    assert old["train"].columns is None
    check(run, old, rows, "t.zarr is of an earlier version and has no names of columns")
    # It is still the store of its recipe.
    assert build(tmp_path / "t.toml", tmp_path, store.path, n_partitions=2).digest == old.digest


def test_targets_are_matched_by_name(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2)).tolist()
    found = {}
    for names in (["u", "v"], ["v", "u"]):
        values = [(a, b, *((a + b, -a) if names[0] == "u" else (-a, a + b))) for a, b in x]
        lines = [",".join(["x", "y", *names]), *(",".join(map(str, row)) for row in values)]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        recipe = 'name = "t"\nformat = "csv"\ntask = "regression"\n[table]\ntrain = ["t.csv"]\nlabel = '
        (tmp_path / "t.toml").write_text(recipe + json.dumps(names))
        name = "".join(names)
        found[name] = build(tmp_path / "t.toml", tmp_path, tmp_path / f"{name}.zarr", n_partitions=2)["train"]
    model = trained(tmp_path / "uv.zarr", tmp_path / "run")
    assert found["vu"].targets == ("v", "u")
    assert model.evaluate(found["vu"]) == model.evaluate(found["uv"])


class Frame:
    """What is used of a data frame."""

    def __init__(self, **columns):
        self.columns, self.values = list(columns), columns

    def __getitem__(self, name):
        return self.values[name]


class NAType:
    """What pandas has for a missing value."""


def test_data_frames_are_matched_by_name_and_encoded(run):
    rows = rows_of(seed=8)
    columns = {name: np.array([row[name] for row in rows]) for name in ("town", "c", "a", "b")}
    found = run.predict(Frame(**columns))
    z = outputs(run, inputs(run, rows))
    np.testing.assert_allclose(found, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
    objects = columns | {"a": columns["a"].astype(object), "town": columns["town"].astype(object)}
    np.testing.assert_array_equal(run.predict(Frame(**objects)), found)
    # As pandas has decimals of Parquet.
    decimals = columns | {"a": np.array([Decimal(value) for value in columns["a"].tolist()], object)}
    np.testing.assert_array_equal(run.predict(Frame(**decimals)), found)
    for other, message in (
        ({"a": np.array([None, 1.0]), "b": [1, 2], "c": [1, 2], "town": TOWNS[:2]}, "column a has no value in row 0"),
        ({"a": np.array(["1", "2"]), "b": [1, 2], "c": [1, 2], "town": TOWNS[:2]}, "holds <U1, expected numbers"),
        (
            {"a": [1, 2], "b": [1, 2], "c": [1, 2], "town": ["Ulm", "Jena"]},
            "column town has 'Jena' in row 1 .*= Ulm",
        ),
        ({"a": [1], "b": [1], "c": [1], "town": [NAType()]}, "column town has no value in row 0"),
        ({"a": [1], "b": [1], "c": [1], "city": ["Ulm"]}, "the data frame does not fit the run: it has no column town"),
    ):
        with pytest.raises(DataError, match=message):
            run.predict(Frame(**other))


def test_missing_values_are_replaced_as_in_the_training_rows(tmp_path):
    """And numbers that are categories are the words that a file has for them."""
    rng = np.random.default_rng(0)
    rows = [{"a": rng.normal(), "k": [1, 2, None][i % 3], "kind": KINDS[i % 2]} for i in range(90)]
    for row in rows[:20]:
        row["a"] = None
    store = table(tmp_path, "t", rows, table='categorical = ["k"]\nmissing = "mean"')
    a, k = store["train"].columns
    assert (k.categories, k.missing) == (("1", "2"), True)
    model = trained(store.path, tmp_path / "run")
    split = store["train"]
    stored = np.concatenate([split.load_stored(j)[0] for j in range(split.n_partitions)])
    assert np.isclose(stored[:, 0], a.fill).any()
    frame = Frame(k=np.array([1.0, 2.0, np.nan]), a=np.array([np.nan, 0.5, np.nan]))
    plain = np.array([[a.fill, 1, 0, 0], [0.5, 0, 1, 0], [a.fill, 0, 0, 1]], np.float32)
    np.testing.assert_array_equal(model.predict(frame), model.predict(plain))
    # Another store has put its own mean in their place.
    other, reporter = table(tmp_path, "u", rows[5:], table='categorical = ["k"]\nmissing = "mean"'), Silent()
    model.evaluate(other["train"], reporter)
    assert any("missing values of a, if there were any, have the means of" in note for note in reporter.notes)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("mean = [1.0, 2.0]", "as many means as deviations"),
        ("deviation = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]", "positive finite deviations"),
        ("context = 4", "6 inputs are no frames with 4 neighbours on each side"),
        ('classes = ["a"]', "expected 3 names of classes for this network, got 1"),
        ('columns = [{name = "a"}]', "expected 6 features of columns for this network, got 1"),
        ("scale = nan", "expected finite numbers"),
        ("columns = " + "[" * 5000 + "]" * 5000, "is damaged"),
    ],
)
def test_a_record_that_does_not_fit_its_network_is_damaged(run, tmp_path, line, fault):
    name = line.split(" ")[0]
    path = tmp_path / "run"
    shutil.copytree(Path(run.record.store.path).with_name("run"), path)
    # Without its digest, as an earlier version wrote it.
    lines = (path / "config.toml").read_text().split("[digests]")[0].splitlines()
    assert sum(old.startswith(f"{name} = ") for old in lines) == 1
    (path / "config.toml").write_text("\n".join(line if old.startswith(f"{name} = ") else old for old in lines) + "\n")
    with pytest.raises(CheckpointError, match=fault):
        load_model(path)


def test_classes_have_other_spellings_in_stores_of_earlier_versions(tmp_path):
    X, y = clouds()
    (tmp_path / "a.csv").write_text("x,k\n" + "".join(f"{x},{bool(k)}\n" for x, k in zip(X[:, 0], y, strict=True)))
    (tmp_path / "t.toml").write_text('name = "t"\nformat = "csv"\n[table]\ntrain = ["a.csv"]\nlabel = "k"\n')
    store = build(tmp_path / "t.toml", tmp_path, tmp_path / "a.zarr")
    assert store.manifest.header.classes == ("false", "true")
    model = trained(store.path, tmp_path / "run")
    found = model.evaluate(store["train"])
    for classes, error in ((("False", "True"), found[1]), (("TRUE", "FALSE"), 1 - found[1])):
        data = msgspec.structs.replace(model.record.store, classes=classes)
        earlier = dataclasses.replace(model, record=msgspec.structs.replace(model.record, store=data))
        assert np.isclose(earlier.evaluate(store["train"])[1], error)
