"""Which columns of a table become features, what `build` says about them, and which words are the same category."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hfnumba.cli import main
from hfnumba.errors import DataError
from hfnumba.ingest import build, init, write_partition
from hfnumba.store.columns import canonical
from tests.silent import Silent
from tests.tables import cells

N = 40


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def recipe(root, format_name, *table, more=""):
    lines = ['name = "t"', f'format = "{format_name}"', more, "[table]", 'train = ["a"]', 'label = "k"', *table]
    (root / "t.toml").write_text("\n".join(lines) + "\n")
    return root / "t.toml"


def built(root, format_name, *table, **options):
    reporter = Silent()
    out = root.parent / f"{len(list(root.parent.iterdir()))}.zarr"
    store = build(recipe(root, format_name, *table, **options), root, out, n_partitions=1, reporter=reporter)
    return store, "\n".join(reporter.notes)


def rows_of_split(split):
    return np.concatenate([split.load(j)[0] for j in range(split.n_partitions)])


def rows_of(store):
    parts = [split.load(0) for split in store.splits.values()]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort(X.T[::-1])
    return X[order], y[order]


def write_csv(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [list(columns), *rows]) + "\n")


def write_pandas(path, columns, index):
    """Write Parquet as pandas does: the columns of its index are named in the metadata."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    described = {"index_columns": index, "columns": [], "column_indexes": [], "pandas_version": "2.2.0"}
    table = pa.table(columns).replace_schema_metadata({"pandas": json.dumps(described)})
    pq.write_table(table, path)


X = np.random.default_rng(0).normal(size=N).round(3)
LABELS = np.sort(np.arange(N) % 2)


@pytest.mark.parametrize("names", [[""], ["Unnamed: 0"], ["Unnamed: 0.1", "Unnamed: 0"], ["", "Unnamed: 0"]])
def test_an_unnamed_first_column_of_csv_is_no_feature(root, names):
    write_csv(root / "a", dict.fromkeys(names, range(N)) | {"x": X, "k": LABELS})
    store, said = built(root, "csv")
    assert store["train"].n_features == 1
    np.testing.assert_array_equal(rows_of(store)[0][:, 0], np.sort(X).astype("f4"))
    shown = ", ".join(name if name and " " not in name else repr(name) for name in names)
    assert f"No feature is {shown}, an index of rows as pandas writes it" in said and "running" not in said


@pytest.mark.parametrize("n", [2, 3])
def test_an_index_of_several_levels_is_no_feature(root, n):
    """pandas writes as many columns without a name."""
    lines = [",".join([*[""] * n, "x", "k"]), *(",".join([*["7"] * n, str(x), str(i % 2)]) for i, x in enumerate(X))]
    (root / "a").write_text("\n".join(lines))
    store, said = built(root, "csv")
    np.testing.assert_array_equal(rows_of(store)[0][:, 0], np.sort(X).astype("f4"))
    assert f"No feature is '' ({n} columns without a name), an index of rows of several levels" in said
    with pytest.raises(DataError, match=f"{n} columns of the name ''"):
        built(root, "csv", 'numeric = ["", "x"]')
    (root / "a").write_text("x,,,k\n1,2,3,0\n")
    with pytest.raises(DataError, match="2 columns of the name ''"):
        built(root, "csv")


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_categories_that_name_the_rows_are_named(root, format_name):
    for names, unique in (([f"u{i}" for i in range(N)], True), ([f"u{i // 2}" for i in range(N)], False)):
        columns = {"x": X, "c": names, "k": LABELS}
        write_csv(root / "a", columns) if format_name == "csv" else write_pandas(root / "a", columns, [])
        _, said = built(root, format_name, 'categorical = ["c"]')
        assert ("Warning: column c has another category in each row" in said) == unique


def test_names_of_rows_in_the_first_column_are_no_feature(root):
    write_csv(root / "a", {'""': [f"row {i}" for i in range(N)], "x": X, "k": LABELS})
    assert built(root, "csv")[0]["train"].n_features == 1


@pytest.mark.parametrize(
    ("name", "index"), [("__index_level_0__", ["__index_level_0__"]), ("__index_level_0__", []), ("id", ["id"])]
)
def test_the_index_of_pandas_in_parquet_is_no_feature(root, name, index):
    write_pandas(root / "a", {"x": X, "k": LABELS, name: np.arange(N)}, index)
    store, said = built(root, "parquet")
    assert store["train"].n_features == 1 and f"No feature is {name}, an index" in said


@pytest.mark.parametrize("index", [[{"kind": "range", "name": None, "start": 0, "stop": N, "step": 1}], {}, 7, [7]])
def test_an_index_without_a_column(root, index):
    write_pandas(root / "a", {"x": X, "k": LABELS}, index)
    store, said = built(root, "parquet")
    assert store["train"].n_features == 1 and "No feature" not in said


def test_an_index_is_a_feature_if_it_is_named(root):
    write_csv(root / "a", {"": range(N), "x": X, "k": LABELS})
    store, said = built(root, "csv", 'numeric = ["", "x"]')
    assert store["train"].n_features == 2
    assert "Feature '': whole number from 0 to 39" in said and "Warning: column '' is a running number" in said
    write_pandas(root / "a", {"x": X, "k": LABELS}, ["k"])
    assert built(root, "parquet")[0]["train"].n_features == 1


RUNNING = {
    "from 7": (np.arange(7, 7 + N), True),
    "backwards": (np.arange(N)[::-1], True),
    "shuffled": (np.random.default_rng(1).permutation(N) + 100, True),
    "one twice": (np.r_[np.arange(N - 1), 3], False),
    "a gap": (np.r_[np.arange(N - 1), N], False),
    "steps of two": (np.arange(N) * 2, False),
    "fractions": (np.arange(N) + 0.5, False),
    "counts": (np.arange(N) % 20, False),
    "constant": (np.full(N, 3), False),
}


@pytest.mark.parametrize("kind", RUNNING)
def test_running_numbers_are_named(root, kind):
    values, running = RUNNING[kind]
    write_csv(root / "a", {"x": X, "no": values, "k": LABELS})
    _, said = built(root, "csv")
    assert ("Warning: column no is a running number" in said) == running and "column x" not in said


@pytest.mark.parametrize("kind", RUNNING)
def test_numbers_that_give_the_order_of_rows_are_named(root, kind):
    values, running = RUNNING[kind]
    write_csv(root / "a", {"x": X, "no": values, "k": LABELS})
    _, said = built(root, "csv")
    assert ("Warning: column no" in said) == (running or kind in {"a gap", "steps of two", "fractions"})


@pytest.mark.parametrize("kind", RUNNING)
@pytest.mark.parametrize("format_name", ["npz", "npy", "hdf5", "libsvm"])
def test_features_of_arrays_that_number_the_rows_are_named(root, kind, format_name):
    values, running = RUNNING[kind]
    for times, dtype in ((1, float), (400, np.float32)):  # the second has more rows than are compared at first
        more = np.arange(times)[:, None] * (values.max() - values.min() + 1) if running else np.zeros((times, 1))
        column = (values + more).reshape(-1)
        rows = np.c_[np.tile(X, times), column].astype(dtype)
        said = built_arrays(root, format_name, rows, np.tile(LABELS, times))
        consecutive = running or (times == 1 and kind == "fractions")
        assert ("Warning: feature 1 (counted from 0) is a running number" in said) == consecutive
        ordered = times == 1 and kind in {"a gap", "steps of two"}
        assert ("Warning: feature 1 (counted from 0) has a larger" in said) == ordered
        assert "feature 0" not in said and "features" not in said


def built_arrays(root, format_name, rows, labels):
    path, table = root / "t.toml", "[table]\ntrain = ['a']"
    if format_name == "npz":
        path = root / "t.npz"
        np.savez(path, X=rows, y=labels)
    elif format_name == "npy":
        np.save(root / "X.npy", rows)
        np.save(root / "y.npy", labels)
        table = "[arrays.train]\nfeatures = ['X.npy']\nlabels = ['y.npy']"
    elif format_name == "hdf5":
        with pytest.importorskip("h5py").File(root / "a", "w") as file:
            file["X"], file["y"] = rows, labels
    else:
        lines = zip(labels, rows.tolist(), strict=True)
        (root / "a").write_text("".join(f"{y} 1:{row[0]!r} 2:{row[1]!r}\n" for y, row in lines))
    if format_name != "npz":
        path.write_text(f'name = "t"\nformat = "{format_name}"\n{table}\n')
    reporter = Silent()
    shutil.rmtree(root.parent / "arrays.zarr", ignore_errors=True)
    build(path, None if format_name == "npz" else root, root.parent / "arrays.zarr", reporter=reporter)
    return "\n".join(reporter.notes)


def test_categories_of_the_test_rows_alone_are_named(root):
    write_csv(root / "a", {"c": ["1", "2"] * (N // 2), "k": LABELS})
    write_csv(root / "b", {"c": ["1.0", "two", "2", "two"], "k": LABELS[:4]})
    path = recipe(root, "csv", 'categorical = ["c"]')
    path.write_text(path.read_text().replace("[table]", '[table]\ntest = ["b"]'))
    reporter = Silent()
    build(path, root, root.parent / "s.zarr", reporter=reporter)
    said = "\n".join(reporter.notes)
    assert "2 of 4 rows of test have a category of column c that no row of train has: 'two'; is it" in said


def test_running_numbers_of_several_files(root, monkeypatch):
    from hfnumba.ingest.sources import csv

    monkeypatch.setattr(csv, "BLOCK_NBYTES", 64)
    for name, start in (("a", 0), ("b", 0), ("c", N)):
        write_csv(root / name, {"x": X, "no": np.arange(start, start + N), "k": LABELS})
    path = recipe(root, "csv")
    path.write_text(path.read_text().replace('["a"]', '["a", "b", "c"]'))
    reporter = Silent()
    build(path, root, root.parent / "s.zarr", reporter=reporter)
    assert any(note.startswith("Warning: column no is a running number") for note in reporter.notes)


def test_build_says_what_the_features_are(root, tmp_path):
    columns = {"size": [*X[:-1], ""], "n": range(100, 100 + N), "colour": ["red", "blue"] * (N // 2), "k": LABELS}
    write_csv(root / "a", columns | {"old\x1b[31m": ["a", *"bcdefg" * 6, "h", "i", "j"]})
    path = recipe(root, "csv", 'categorical = ["colour", "old\\u001b[31m"]', 'missing = "mean"')
    done = CliRunner().invoke(main, ["data", "build", str(path), "--source", str(root), "--out", str(tmp_path / "s")])
    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert said[0].startswith("Feature size: number from -") and "1 missing (now the mean " in said[0]
    assert said[1:4] == [
        "Feature n: whole number from 100 to 139",
        "Feature colour: 2 categories (blue, red)",
        "Feature 'old\\x1b[31m': 10 categories (a, b, c, d, e, …)",
    ]


def test_a_partition_does_not_say_it_again(root, tmp_path):
    write_csv(root / "a", {"x": X, "k": LABELS})
    begun, written = Silent(), Silent()
    out, _ = init(recipe(root, "csv"), root, tmp_path / "s.zarr", reporter=begun)
    write_partition(out, 0, reporter=written)
    assert begun.notes[0].startswith("Feature x: number") and written.notes == []


def test_info_lists_the_columns(root, tmp_path):
    write_csv(root / "a", {"size": [*X[:-1], ""], "colour": ["red", "blue"] * (N // 2), "n": range(N), "k": LABELS})
    path = recipe(root, "csv", 'categorical = ["colour"]', 'missing = "mean"')
    store = build(path, root, tmp_path / "s.zarr")
    (size, colour), train = (store.manifest.header.columns[i] for i in (0, 2)), rows_of_split(store["train"])
    for more in ([], ["--quick"]):
        done = CliRunner().invoke(main, ["data", "info", str(store.path), *more])
        said = [cells(line) for line in done.output.splitlines()]
        at = said.index(["feature's column", "type", "values in train"])
        # As they were given, not as float32 has them.
        ends = "" if more else " to ".join(f"{float(end):.4g}" for end in (train[:, 0].min(), train[:, 0].max()))
        assert said[at + 1] == ["size", "number", f"{ends} (missing: {size.fill:.10g})".strip()]
        assert said[at + 3] == ["colour", "2 categories", "blue, red"]
    told = json.loads(CliRunner().invoke(main, ["data", "info", str(store.path), "--quick", "--json"]).stdout)
    assert told["columns"][2] == {"name": "colour", "categories": ["blue", "red"], "missing": False, "fill": None}
    assert colour.categories == ("blue", "red")


def test_many_columns_are_not_all_listed(root):
    write_csv(root / "a", {f"c{j}": X for j in range(100)} | {"k": LABELS})
    assert "Features are also 70 more columns, see hfnumba data info" in built(root, "csv")[1].splitlines()


SAME = [["1", "1.0", "01", " 1", "1e0", "+1"], ["True", "TRUE", "true "], ["-0.5", "-.5", " -0.50"], ["a b", " a b "]]
DIFFERENT = ["1", "1.5", "a", "A", "1_0", "10", "inf", "nan", "yes", "9007199254740993", "9007199254740992", "1a", "-1"]


def test_spellings_of_one_category():
    for words in SAME:
        assert len(set(map(canonical, words))) == 1
    assert len(set(map(canonical, DIFFERENT))) == len(DIFFERENT)
    assert canonical("9007199254740993.0") == "9007199254740993.0"


@given(st.one_of(st.text(), st.integers().map(str), st.floats().map(str)))
def test_one_spelling_is_its_own(word):
    assert canonical(canonical(word)) == canonical(word)


@given(st.integers(-(2**52), 2**52))
def test_whole_numbers_are_floats_too(number):
    assert canonical(str(number)) == canonical(str(float(number)))


@pytest.mark.parametrize("role", ["category", "label"])
def test_a_file_of_integers_and_one_of_floats(root, role):
    """Pandas makes floats of integers where a value is missing."""
    values = np.arange(N) % 3
    for name, form in (("a", "{}"), ("b", "{}.0")):
        write_csv(root / name, {"x": X, "c": map(form.format, values), "k": values if role == "category" else LABELS})
    path = recipe(root, "csv", 'test = ["b"]', 'categorical = ["c"]' if role == "category" else 'numeric = ["x"]')
    if role == "label":
        path.write_text(path.read_text().replace('label = "k"', 'label = "c"'))
    reporter = Silent()
    store = build(path, root, root.parent / "s.zarr", n_partitions=1, reporter=reporter)
    assert store["train"].n_features == (4 if role == "category" else 1)
    for split in ("train", "test"):
        found, y = store[split].load(0)
        order = np.argsort(found[:, 0])
        if role == "category":
            np.testing.assert_array_equal(found[order, 1:], np.eye(3)[values[np.argsort(X)]])
        np.testing.assert_array_equal(y[order], values[np.argsort(X)])
    assert any("Column c spells values in several ways: 0 and 0.0 are taken for the same" in n for n in reporter.notes)


@pytest.mark.parametrize("words", [["yes ", "yes", "no"], ["TRUE", "true", "False"], ["1.0", "1", "red"]])
def test_labels_in_several_spellings(root, words):
    write_csv(root / "a", {"x": range(6), "k": words * 2})
    store, said = built(root, "csv", 'categorical = ["x"]')
    assert store["train"].n_classes == 2 and set(store.manifest.header.classes) == set(map(canonical, words))
    assert "Column k spells values in several ways" in said


@pytest.mark.parametrize("role", ["category", "label"])
def test_values_that_differ_in_capitals_are_named(root, role):
    column, other = ("c", "k") if role == "category" else ("k", "c")
    for words, warned in ((["Yes", "no", "yes", "no"], True), (["YES", "no", "Maybe", "no"], False)):
        write_csv(root / "a", {"x": X, column: words * (N // 4), other: LABELS})
        _, said = built(root, "csv", 'categorical = ["c"]')
        assert (f"Warning: column {column} has Yes and yes, two values" in said) == warned


def test_categories_of_parquet_are_those_of_csv(root):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = np.arange(N) % 12
    write_csv(root / "a", {"c": values, "k": LABELS})
    expected, _ = built(root, "csv", 'categorical = ["c"]')
    decimals = pa.array(values).cast(pa.decimal128(21, 2))
    for column in (values, values.astype("f8"), values.astype("f4"), values.astype(str), decimals):
        pq.write_table(pa.table({"c": column, "k": LABELS}), root / "a")
        found, _ = built(root, "parquet", 'categorical = ["c"]')
        for a, b in zip(rows_of(found), rows_of(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_blank_words_of_csv_are_missing(root):
    write_csv(root / "a", {"c": ["a", "  ", "b", ""] * 10, "k": LABELS})
    with pytest.raises(DataError, match="20 values are missing; the first is in column c, row 1"):
        built(root, "csv", 'categorical = ["c"]')
    store, said = built(root, "csv", 'categorical = ["c"]', 'missing = "mean"')
    assert store["train"].n_features == 3 and "c: 2 categories (a, b), 20 missing" in said
