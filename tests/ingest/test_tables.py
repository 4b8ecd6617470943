import contextlib
import decimal
import gzip
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError
from hfnumba.ingest import build, finalise, init, sources, write_partition
from hfnumba.ingest.one_table import table_recipe
from hfnumba.ingest.recipes import find_recipe
from hfnumba.ingest.sources import csv, parquet, spool
from hfnumba.store.verify import verify
from tests.limits import LIMIT_S

HEAD = 'name = "t"\nformat = "{format}"\n{more}\n[table]\ntrain = ["{train}"]\n'


def recipe(root, format_name, train, *table, more=""):
    path = root / "t.toml"
    path.write_text(HEAD.format(format=format_name, train=train, more=more) + "\n".join(table) + "\n")
    return path


def rows_of(split):
    parts = [split.load(j) for j in range(split.n_partitions)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def all_rows(store):
    """Every row of every split, in the order of the first column."""
    X, y = (np.concatenate(arrays) for arrays in zip(*map(rows_of, store.splits.values()), strict=True))
    order = np.argsort(X[:, 0], kind="stable")
    return X[order], y[order]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


CSV = "id,size,colour,class\n" + "".join(
    f"{i},{i * 0.5},{'red' if i % 3 else 'blue'},{'ab'[i % 2]}\n" for i in range(40)
)


def test_csv_with_categories_and_names(root, tmp_path):
    (root / "a.csv").write_text(CSV)
    path = recipe(root, "csv", "a.csv", 'label = "class"', 'categorical = ["colour"]')
    store = build(path, root, tmp_path / "s.zarr", n_partitions=3)
    assert verify(store) == []
    assert {name: split.n_rows for name, split in store.splits.items()} == {"train": 32, "test": 8}
    X, y = all_rows(store)
    i = np.arange(40)
    np.testing.assert_array_equal(X, np.stack([i, i * 0.5, i % 3 == 0, i % 3 > 0], axis=1))
    np.testing.assert_array_equal(y, i % 2)
    assert store.manifest.header.classes == ("a", "b") and store["train"].n_classes == 2
    source = store.manifest.header.sources[0]
    assert (source.name, source.nbytes) == ("a.csv", len(CSV))


def test_csv_is_read_a_block_at_a_time(root, tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_NBYTES", 100)
    test_csv_with_categories_and_names(root, tmp_path)


@pytest.mark.parametrize("used", [True, False])
def test_line_breaks_within_quotes_wherever_blocks_end(root, tmp_path, monkeypatch, used):
    rows = [f'{i},"a {i % 2}\nsaid ""more""\r\n, and",{i % 2}\n' for i in range(60)]
    (root / "a.csv").write_bytes(("x,t,k\n" + "".join(rows)).encode())
    table = ['categorical = ["t"]'] if used else ['numeric = ["x"]']
    for size in range(64, 400, 48):
        monkeypatch.setattr(csv, "BLOCK_NBYTES", size)
        store = build(recipe(root, "csv", "a.csv", "label = 'k'", *table), root, tmp_path / f"{size}", n_partitions=1)
        X, y = all_rows(store)
        i = np.arange(60)
        np.testing.assert_array_equal(X, np.stack([i, i % 2 == 0, i % 2 > 0], axis=1) if used else i[:, None])
        np.testing.assert_array_equal(y, i % 2)


TABLES = {"csv": ["label = 'class'", "categorical = ['colour']"], "libsvm": []}


@pytest.mark.parametrize(("format_name", "text"), [("csv", CSV), ("libsvm", "0 1:3 4:5.5\n1 2:7\n" * 20)])
def test_tables_packed_with_gzip(root, tmp_path, format_name, text):
    (root / "a.txt").write_text(text)
    (root / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    expected, found = (
        build(recipe(root, format_name, name, *TABLES[format_name]), root, tmp_path / name)
        for name in ("a.txt", "a.txt.gz")
    )
    for split in ("train", "test"):
        for a, b in zip(rows_of(expected[split]), rows_of(found[split]), strict=True):
            np.testing.assert_array_equal(a, b)


def damaged(packed, place):
    return packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :]


@pytest.mark.parametrize("format_name", ["csv", "libsvm"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-20],
        lambda packed: damaged(packed, 0),
        lambda packed: damaged(packed, -6),
        lambda packed: damaged(packed, 12),
    ],
    ids=["cut", "another format", "checksum", "code"],
)
def test_damaged_gzip(root, tmp_path, format_name, damage):
    text = CSV if format_name == "csv" else "".join(f"{i % 2} 1:{i}\n" for i in range(40))
    (root / "a.gz").write_bytes(damage(gzip.compress(text.encode())))
    with pytest.raises(DataError, match=r"a\.gz (is not a complete gzip file|cannot be read as CSV)"):
        build(recipe(root, format_name, "a.gz", *TABLES[format_name]), root, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_splits_of_their_own_and_chosen_columns(root, tmp_path):
    (root / "a.csv").write_text("x;y;z;k\n1;2;3;0\n4;5;6;2\n")
    (root / "b.csv").write_text("k;z;x\n1;9;7\n")
    path = recipe(root, "csv", "a.csv", 'test = ["b.csv"]', 'label = "k"', 'numeric = ["z", "x"]', 'delimiter = ";"')
    store = build(path, root, tmp_path / "s.zarr", n_partitions=1)
    X, y = rows_of(store["train"])
    assert sorted(zip(X.tolist(), y.tolist(), strict=True)) == [([3, 1], 0), ([6, 4], 2)]
    X, y = rows_of(store["test"])
    assert X.tolist() == [[9, 7]] and y.tolist() == [1]
    assert store["train"].n_classes == 3 and store.manifest.header.classes == ()


def test_regression_on_several_columns(root, tmp_path):
    (root / "a.csv").write_text("x,u,v\n" + "".join(f"{i},{i + 0.5},{-i}\n" for i in range(10)))
    path = recipe(root, "csv", "a.csv", 'label = ["u", "v"]', more='task = "regression"\nstandardise = true')
    store = build(path, root, tmp_path / "s.zarr", n_partitions=2)
    _, y = all_rows(store)
    scaled = store["train"].target_standardisation
    np.testing.assert_allclose(scaled.undo(y), np.stack([np.arange(10) + 0.5, -np.arange(10)], axis=1), atol=1e-6)
    for values in rows_of(store["train"]):
        np.testing.assert_allclose(
            (values.mean(axis=0), values.std(axis=0)), (0 * values[0], 0 * values[0] + 1), atol=1e-6
        )


MISSING = "x,c,k\n1,r,0\n,r,1\n5,,0\n3,b,1\nNaN,b,0\n"


def test_missing_values_are_refused_with_count_and_place(root, tmp_path):
    (root / "a.csv").write_text(MISSING)
    path = recipe(root, "csv", "a.csv", 'label = "k"', 'categorical = ["c"]')
    with pytest.raises(DataError, match=r'3 values are missing; the first is in column x, row 1 .* "mean"'):
        build(path, root, tmp_path / "s.zarr")


def test_missing_values_are_replaced_if_asked(root, tmp_path):
    (root / "a.csv").write_text(MISSING)
    (root / "b.csv").write_text("x,c,k\n100,r,0\n,b,0\n")
    path = recipe(root, "csv", "a.csv", 'test = ["b.csv"]', 'label = "k"', 'categorical = ["c"]', 'missing = "mean"')
    store = build(path, root, tmp_path / "s.zarr", n_partitions=1)
    X, _ = rows_of(store["train"])
    # Columns: x, then blue, red and missing.
    expected = [[1, 0, 1, 0], [3, 0, 1, 0], [5, 0, 0, 1], [3, 1, 0, 0], [3, 1, 0, 0]]
    assert sorted(X.tolist()) == sorted(expected)
    # Replaced by the mean of the training rows in the test split too.
    assert sorted(rows_of(store["test"])[0].tolist()) == [[3, 1, 0, 0], [100, 0, 1, 0]]


def test_replaced_values_know_nothing_of_rows_held_out(root, tmp_path):
    """The value of every row is a power of two, so a mean identifies its rows."""
    (root / "a.csv").write_text("x,k\n" + "".join(f"{2**i},{i % 2}\n" for i in range(7)) + ",0\n")
    (root / "b.csv").write_text("x,k\n" + "".join(f"{2**i},{i % 2}\n" for i in range(7, 12)) + ",1\n")
    path = recipe(root, "csv", "a.csv", 'label = "k"', 'missing = "mean"')
    path.write_text("hold_out = 0.4\n" + path.read_text().replace('["a.csv"]', '["a.csv", "b.csv"]'))
    store = build(path, root, tmp_path / "s.zarr", n_partitions=1)
    parts = {name: rows_of(split)[0][:, 0] for name, split in store.splits.items()}
    powers = np.array([2.0**i for i in range(12)], np.float32)
    known = parts["train"][np.isin(parts["train"], powers)]
    replaced = np.concatenate([X[~np.isin(X, powers)] for X in parts.values()])
    assert len(parts["test"]) == 6 and len(replaced) == 2
    np.testing.assert_allclose(replaced, known.mean(), rtol=1e-6)


@pytest.mark.parametrize(("step", "refused"), [(30, True), (300, True), (3000, False)])
def test_columns_that_float32_rounds_away(root, tmp_path, step, refused):
    (root / "a.csv").write_text("x,k\n" + "".join(f"{1_700_000_000 + step * i},{i % 2}\n" for i in range(20)))
    path = recipe(root, "csv", "a.csv", 'label = "k"')
    if refused:
        with pytest.raises(DataError, match=r"column x goes from 1700000000 to 17\d+, where float32 has steps of 128"):
            build(path, root, tmp_path / "s.zarr")
    else:
        build(path, root, tmp_path / "s.zarr")


def test_nan_is_missing_in_a_category_too(root, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"c": [float("nan"), 2.0, 2.0], "k": [0, 1, 0]}), root / "a.parquet")
    with pytest.raises(DataError, match="1 values are missing; the first is in column c, row 0"):
        build(recipe(root, "parquet", "a.parquet", 'label = "k"', 'categorical = ["c"]'), root, tmp_path / "s.zarr")
    pq.write_table(pa.table({"c": [1.0, 2.0, 2.0], "k": [0.0, float("nan"), 1.0]}), root / "b.parquet")
    with pytest.raises(DataError, match="a label is missing in column k, row 1"):
        build(recipe(root, "parquet", "b.parquet", 'label = "k"'), root, tmp_path / "t.zarr")


@pytest.mark.parametrize(
    ("text", "table", "complaint"),
    [
        ("x,k\n1,0\n", ["label = 'nope'"], r"a.csv has no column nope; it has 'x', 'k'$"),
        ("x, k\n1,0\n", ["label = 'k'"], r"a.csv has no column k; it has 'x', ' k'$"),
        (
            ",".join(f"c{i}" for i in range(40)) + "\n",
            ["label = 'k'"],
            r"no column k; it has 'c0', .*'c9' and 30 more$",
        ),
        ("x,k\n1,0\n", [], "needs label"),
        ("x,k\n1,0\n", ["label = ['x', 'k']"], "several labels, which only regression has"),
        ("x,k\n1,0\n", ["label = 'k'", "numeric = ['x', 'k']"], "names a column twice"),
        ("x,x,k\n1,2,0\n", ["label = 'k'"], "2 columns of the name x"),
        ("x,k\nred,0\n", ["label = 'k'"], "CSV: column x: .*red.*; name columns of text in categorical"),
        ("k,y,z\n0,1,2\n1,3,#\n", ["label = 'k'", "numeric = ['z']"], "CSV: column z: Row #3: .*'#'"),
        ("x,k\n1,0\n2\n", ["label = 'k'"], "cannot be read as CSV"),
        ("", ["label = 'k'"], "cannot be read as CSV"),
        ("x,k\n", ["label = 'k'"], "no rows|no value|cannot be read"),
        ("x,k\n1,\n", ["label = 'k'"], "a label is missing in column k, row 0"),
        ("x,k\n1,0\n2,1.5\n", ["label = 'k'"], "a label is 1.5, expected whole numbers or names"),
        ("x,k\n1,0\n2,9007199254740993.0\n", ["label = 'k'"], "a label is 9007199254740993.0"),
        ("x,k\n1,red\n2,red\n", ["label = 'k'"], "all labels are red, expected at least 2 classes"),
        ("x,k\n1,0\n2,inf\n", ["label = 'k'"], "inf|cannot convert"),
        ("x,k\n1,0\n1e39,1\n3,1\n", ["label = 'k'"], "not finite in float32"),
        ("x,k\n1,0\n" + "9" * 20_000_000 + ",1\n", ["label = 'k'"], "cannot be read as CSV"),
        ("x,k\n1,0\n2,1\n", ["label = 'k'", "max_features = 1", "categorical = ['x']"], "2 features, expected 1 to 1"),
    ],
)
def test_faults_of_csv(root, tmp_path, text, table, complaint):
    (root / "a.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, "csv", "a.csv", *table), root, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1_0", "1_1", "2_0"], ("1_0", "1_1", "2_0")),
        (["9007199254740992", "9007199254740993", "-5"], ("-5", "9007199254740992", "9007199254740993")),
        (["01", "1.0", "2"], ()),
        (["0", "1", "99999"], ()),
        (["0", "100000", "1"], ("0", "1", "100000")),
    ],
)
def test_labels_are_numbers_or_words(root, tmp_path, labels, classes):
    (root / "a.csv").write_text("x,k\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    store = build(recipe(root, "csv", "a.csv", "label = 'k'"), root, tmp_path / "s.zarr", n_partitions=1)
    assert store.manifest.header.classes == classes
    _, y = all_rows(store)
    expected = [classes.index(label) if classes else int(float(label)) for label in labels]
    assert y.tolist() == expected


def test_names_that_are_more_than_the_classes_of_the_recipe(root, tmp_path):
    (root / "a.csv").write_text("x,k\n1,a\n2,b\n3,a\n")
    path = recipe(root, "csv", "a.csv", "label = 'k'")
    path.write_text("n_classes = 5\n" + path.read_text())
    with pytest.raises(DataError, match="the labels have 2 names, the recipe says n_classes = 5"):
        build(path, root, tmp_path / "s.zarr")


def test_too_many_categories(root, tmp_path, monkeypatch):
    from hfnumba.ingest.sources import survey

    monkeypatch.setattr(survey, "MAX_CATEGORIES", 5)
    (root / "a.csv").write_text("x,k\n" + "".join(f"v{i},0\n" for i in range(9)))
    with pytest.raises(DataError, match="column x has more than 5 categories"):
        build(recipe(root, "csv", "a.csv", "label = 'k'", "categorical = ['x']"), root, tmp_path / "s.zarr")
    monkeypatch.setattr(spool, "MAX_NAMES", 5)
    (root / "a.csv").write_text("x,k\n" + "".join(f"1,v{i}\n" for i in range(9)))
    with pytest.raises(DataError, match="more than 5 different labels"):
        build(recipe(root, "csv", "a.csv", "label = 'k'"), root, tmp_path / "s.zarr")


@pytest.mark.parametrize("name", ["../x.csv", "/etc/hostname", "link.csv", "folder", "none.csv"])
@pytest.mark.parametrize("format_name", ["csv", "parquet", "hdf5", "libsvm"])
def test_files_elsewhere_are_not_read(root, tmp_path, name, format_name):
    (tmp_path / "x.csv").write_text("x,k\n1,0\n")
    (root / "link.csv").symlink_to(tmp_path / "x.csv")
    (root / "folder").mkdir()
    with pytest.raises(DataError, match=r"leads out of|has no files; expected a file|there is no file"):
        build(recipe(root, format_name, name, "label = 'k'"), root, tmp_path / "s.zarr")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("n_rows", [3, 10_000], ids=["at the end", "while rows are written"])
def test_a_full_disk_for_the_rows(n_rows, monkeypatch):
    with contextlib.suppress(OSError), Path("/dev/full").open("r+b") as file:
        monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda prefix: file)
        rows = spool.Spool(2)
        with pytest.raises(DataError, match=r"could not be written .* full; name a folder with more space in TMPDIR"):
            rows.append(np.ones((n_rows, 2)))
            rows.array()


def test_a_table_built_in_steps(root, tmp_path, read_tree):
    (root / "a.csv").write_text(CSV)
    path = recipe(root, "csv", "a.csv", 'label = "class"', 'categorical = ["colour"]', more="standardise = true")
    out, n_partitions = init(path, root, tmp_path / "a.zarr", n_partitions=3, seed=2)
    for j in range(n_partitions):
        write_partition(out, j)
    whole = build(path, root, tmp_path / "b.zarr", n_partitions=3, seed=2)
    assert read_tree(finalise(out).path) == read_tree(whole.path)


def test_parquet_is_csv_in_another_form(root, tmp_path, read_tree):
    pa_csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
    (root / "a.csv").write_text(CSV)
    pq.write_table(pa_csv.read_csv(root / "a.csv"), root / "a.parquet", row_group_size=7)
    table = ('label = "class"', 'categorical = ["colour"]')
    stores = {
        kind: build(recipe(root, kind, f"a.{kind}", *table), root, tmp_path / f"{kind}.zarr", n_partitions=2)
        for kind in ("csv", "parquet")
    }
    one, other = (read_tree(store.path) for store in stores.values())
    assert one.pop("manifest.json") != other.pop("manifest.json")
    assert one == other


def write_parquet(path, **columns):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (["a", "b"], "column x has type string, expected numbers; say --categorical 'x' or --drop 'x'"),
        ([[1], [2]], "column x has type list"),
        ([b"a", b"b"], "column x has type binary"),
        ([1.0, None], "1 values are missing; the first is in column x, row 1"),
        ([1.0, float("nan")], "1 values are missing"),
    ],
)
def test_faults_of_parquet(root, tmp_path, column, complaint):
    write_parquet(root / "a.parquet", x=column, k=[0, 1])
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, "parquet", "a.parquet", "label = 'k'"), root, tmp_path / "s.zarr")


def test_parquet_labels_and_booleans(root, tmp_path):
    write_parquet(root / "a.parquet", x=[True, False, True], i=[1, 2, 3], k=[-1, 1, -1])
    store = build(recipe(root, "parquet", "a.parquet", "label = 'k'"), root, tmp_path / "s.zarr", n_partitions=1)
    assert store.manifest.header.classes == ("-1", "1")
    X, y = (np.concatenate(arrays) for arrays in zip(*map(rows_of, store.splits.values()), strict=True))
    assert sorted(zip(X.tolist(), y.tolist(), strict=True)) == [([0, 2], 1), ([1, 1], 0), ([1, 3], 0)]


@pytest.mark.parametrize("role", ["numeric", "categorical"])
def test_a_part_of_parquet_whose_values_are_all_missing(root, tmp_path, role):
    """A writer that infers types gives such a column the type null."""
    write_parquet(root / "a.parquet", x=[1, 2, 6], k=[0, 1, 0])
    write_parquet(root / "b.parquet", x=[None] * 3, k=[0, 1, 0])
    for files in (["a", "b"], ["b", "a"]):
        table = ['label = "k"', 'missing = "mean"', f'{role} = ["x"]']
        path = recipe(root, "parquet", "a.parquet", *table)
        text = path.read_text().replace('["a.parquet"]', str([f"{name}.parquet" for name in files]))
        path.write_text(text.replace("[table]", "hold_out = 0.01\n[table]"))
        store = build(path, root, tmp_path / f"{files[0]}.zarr", n_partitions=1)
        X, _ = all_rows(store)
        if role == "categorical":
            assert X.sum(axis=0).tolist() == [1, 1, 1, 3]
        else:
            mean = X[np.isin(X, [1, 2, 6], invert=True)]
            assert len(set(mean.tolist())) == 1 and 1 < mean[0] < 6
    with pytest.raises(DataError, match="3 values are missing"):
        build(recipe(root, "parquet", "b.parquet", "label = 'k'"), root, tmp_path / "s.zarr")
    with pytest.raises(DataError, match="column x has no value in the training rows"):
        build(recipe(root, "parquet", "b.parquet", "label = 'k'", 'missing = "mean"'), root, tmp_path / "s.zarr")
    write_parquet(root / "c.parquet", x=[1, 2, 6], k=[None] * 3)
    with pytest.raises(DataError, match="a label is missing in column k, row 0"):
        build(recipe(root, "parquet", "c.parquet", "label = 'k'"), root, tmp_path / "s.zarr")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_decimals_of_parquet_are_numbers(root, tmp_path, task):
    values = [decimal.Decimal("1.25"), decimal.Decimal("-3.50"), decimal.Decimal("100.00")]
    write_parquet(root / "a.parquet", x=values, k=[decimal.Decimal(f"{i}.0") for i in range(3)])
    path = recipe(root, "parquet", "a.parquet", "label = 'k'", more=f"task = '{task}'")
    X, y = all_rows(build(path, root, tmp_path / "s.zarr", n_partitions=1))
    assert X[:, 0].tolist() == [-3.5, 1.25, 100] and y.ravel().tolist() == [1, 0, 2]


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_two_columns_of_one_name_in_any_file(root, tmp_path, format_name):
    """Arrow finds no such column by its name, and counts columns from the end then."""
    pa, pa_csv, pq = (pytest.importorskip(f"pyarrow{name}") for name in ("", ".csv", ".parquet"))
    for name, titles in (("a", ["x", "z", "k"]), ("b", ["x", "x", "k"])):
        table = pa.table([[1.5, 2.5], [3.5, 4.5], [0, 1]], titles)
        write = pa_csv.write_csv if format_name == "csv" else pq.write_table
        write(table, root / f"{name}.{format_name}")
    path = recipe(
        root, format_name, f"a.{format_name}", f'test = ["b.{format_name}"]', "label = 'k'", "numeric = ['x']"
    )
    with pytest.raises(DataError, match=r"b\..* has 2 columns of the name x; give each a name of its own"):
        build(path, root, tmp_path / "s.zarr")
    with pytest.raises(DataError, match=r"b\..* has 2 columns of the name x; give each a name of its own"):
        table_recipe(root / f"b.{format_name}", ["k"])


def test_a_row_group_that_claims_much(root, tmp_path, monkeypatch):
    write_parquet(root / "a.parquet", x=np.arange(1000.0), k=np.zeros(1000, int))
    monkeypatch.setattr(parquet, "MAX_GROUP_NBYTES", 100)
    with pytest.raises(DataError, match=r"row group 0 claims \d+ bytes, more than 100"):
        build(recipe(root, "parquet", "a.parquet", "label = 'k'"), root, tmp_path / "s.zarr")


def test_a_parquet_file_that_claims_no_rows_and_holds_some(root, tmp_path):
    write_parquet(root / "a.parquet", x=[1.0, 2.0, 3.0, 4.0], k=[0, 1, 0, 1])
    pq = pytest.importorskip("pyarrow.parquet")
    content = (root / "a.parquet").read_bytes()

    def claimed_rows(damaged):
        (root / "a.parquet").write_bytes(damaged)
        with contextlib.suppress(Exception), pq.ParquetFile(root / "a.parquet") as file:
            return file.metadata.num_rows
        return None

    assert any(claimed_rows(content[:i] + b"\0" + content[i + 1 :]) == 0 for i in range(len(content)))
    with pytest.raises(DataError, match="claims 0 rows and holds more"):
        build(recipe(root, "parquet", "a.parquet", "label = 'k'"), root, tmp_path / "s.zarr")


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("format_name", ["csv", "parquet", "libsvm"])
def test_damaged_tables_are_read_or_refused_in_words(tmp_path, format_name, data):
    path = tmp_path / "a"
    if format_name == "parquet":
        write_parquet(path, x=[1.0, 2.0, 3.0, 4.0], k=[0, 1, 0, 1])
    else:
        path.write_text("x,k\n1,0\n2,1\n3,0\n4,1\n" if format_name == "csv" else "0 1:1\n1 2:2\n0 1:3\n1 1:4\n")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    held = find_recipe(recipe(tmp_path, format_name, "a", "label = 'k'" if format_name != "libsvm" else ""))
    with contextlib.suppress(DataError):
        X, y = sources.read(held, {"source": tmp_path}, 0).splits["train"]
        assert len(X) == len(y)


def write_hdf5(path, **datasets):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int16"])
def test_hdf5(root, tmp_path, dtype):
    X = np.arange(240).reshape(40, 3, 2).astype(dtype)
    write_hdf5(root / "a.h5", X=X, y=np.arange(40) % 4)
    store = build(recipe(root, "hdf5", "a.h5"), root, tmp_path / "s.zarr", n_partitions=2)
    found, y = all_rows(store)
    np.testing.assert_array_equal(found, X.reshape(40, 6))
    np.testing.assert_array_equal(y, np.arange(40) % 4)
    assert store["train"].layout.x_dtype == ("uint8" if dtype == "uint8" else "float32")


def test_hdf5_in_groups_and_for_regression(root, tmp_path):
    write_hdf5(root / "a.h5", **{"in/X": np.arange(20.0).reshape(10, 2), "in/t": np.arange(30.0).reshape(10, 3)})
    path = recipe(root, "hdf5", "a.h5", 'features = "in/X"', 'label = "in/t"', more='task = "regression"')
    _, y = all_rows(build(path, root, tmp_path / "s.zarr"))
    np.testing.assert_array_equal(y, np.arange(30.0).reshape(10, 3))


def hdf5_elsewhere(h5py, root, kind):
    with h5py.File(root.parent / "secret.h5", "w") as file:
        file["X"] = np.ones((4, 2))
    with h5py.File(root / "a.h5", "w") as file:
        file["y"] = np.arange(4) % 2
        if kind == "external link":
            file["X"] = h5py.ExternalLink(str(root.parent / "secret.h5"), "X")
        elif kind == "soft link":
            file["Z"] = np.ones((4, 2))
            file["X"] = h5py.SoftLink("/Z")
        elif kind == "linked group":
            file["X"] = np.ones((4, 2))
            file["g"] = h5py.ExternalLink(str(root.parent / "secret.h5"), "/")
        elif kind == "external storage":
            (root.parent / "raw").write_bytes(bytes(64))
            file.create_dataset("X", (4, 2), "f8", external=[(str(root.parent / "raw"), 0, 64)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 2), "f8")
            layout[:] = h5py.VirtualSource(str(root.parent / "secret.h5"), "X", (4, 2))
            file.create_virtual_dataset("X", layout)
        elif kind == "bomb":
            file.create_dataset("X", (2**40, 2), "f8", chunks=(1000, 2), compression="gzip")
        elif kind == "giant chunk":
            file.create_dataset("X", (2**40, 2), "f8", chunks=(2**27, 2))
        elif kind == "text":
            file["X"] = [["a", "b"]] * 4
        elif kind == "scalar":
            file["X"] = 1.0
        elif kind == "unequal":
            file["X"] = np.ones((5, 2))
        elif kind == "filter":
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_chunk((4, 2))
            created.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple((4, 2))
            h5py.h5d.create(file.id, b"X", h5py.h5t.IEEE_F64LE, space, created)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("external link", "X is a ExternalLink, which is never followed"),
        ("soft link", "X is a SoftLink, which is never followed"),
        ("linked group", "g/X is a|g is a|ExternalLink"),
        ("external storage", "stores its values in other files"),
        ("virtual", "stores its values in other files"),
        ("bomb", r"claims shape \(1099511627776, 2\)"),
        ("giant chunk", r"claims shape \(1099511627776, 2\)"),
        ("text", "no data set of numbers"),
        ("scalar", "no data set of numbers"),
        ("unequal", "expected the same number of rows"),
        ("filter", r"needs the filters \[305\]"),
        ("absent", "has no data set X; it has y"),
    ],
)
def test_hostile_hdf5(root, tmp_path, kind, complaint):
    h5py = pytest.importorskip("h5py")
    hdf5_elsewhere(h5py, root, kind)
    table = ['features = "g/X"'] if kind == "linked group" else []
    tracemalloc.start()
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, "hdf5", "a.h5", *table), root, tmp_path / "s.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_hdf5_files_of_different_kinds(root, tmp_path):
    write_hdf5(root / "a.h5", X=np.ones((4, 2), np.uint8), y=np.arange(4))
    write_hdf5(root / "b.h5", X=np.ones((4, 2)) * 0.5, y=np.arange(4))
    with pytest.raises(DataError, match="has dtype float64, which differs"):
        build(recipe(root, "hdf5", "a.h5", 'test = ["b.h5"]'), root, tmp_path / "s.zarr")
    (root / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        build(recipe(root, "hdf5", "c.h5"), root, tmp_path / "s.zarr")


def test_transposed_arrays_of_matlab(root, tmp_path):
    write_hdf5(root / "a.mat", X=np.ones((3, 40)), y=np.ones((1, 40)))
    with pytest.raises(DataError, match=r"shape \(3, 40\) and y \(1, 40\); .* MATLAB's files hold arrays transposed"):
        build(recipe(root, "hdf5", "a.mat"), root, tmp_path / "s.zarr")


def test_libsvm_is_what_scikit_learn_reads(root, tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 6)) * (rng.random((50, 6)) < 0.4)
    X[:, 0] = np.arange(50)
    y = np.where(np.arange(50) % 3, -1, 1)
    datasets.dump_svmlight_file(X, y, str(root / "a.svm"), zero_based=False, comment="made up")
    store = build(recipe(root, "libsvm", "a.svm"), root, tmp_path / "s.zarr", n_partitions=3)
    found, labels = all_rows(store)
    expected, _ = datasets.load_svmlight_file(str(root / "a.svm"), zero_based=False)
    np.testing.assert_allclose(found, expected.toarray(), rtol=1e-6)
    assert store.manifest.header.classes == ("-1", "1")
    np.testing.assert_array_equal(labels, (y + 1) // 2)


@pytest.mark.parametrize(
    ("text", "table", "complaint"),
    [
        ("1 1:1\n0 999999999:1\n", [], r"line 2: the feature number 999999999 is out of range \(1 to 100000\)"),
        ("1 " + "9" * 5000 + ":1\n", [], "expected a label and pairs|out of range"),
        ("1 0:1\n", [], "feature number 0 is out of range"),
        ("1 -5:1\n", ["zero_based = true"], "feature number -5 is out of range"),
        ("1 3:1\n", ["n_features = 2"], r"feature number 3 is out of range \(1 to 2\)"),
        ("1 1\n", [], "line 1: expected a label and pairs"),
        ("1 1:x\n", [], "line 1: expected a label and pairs"),
        ("red 1:1\n", [], "line 1: expected a label and pairs"),
        ("1_0 1:1\n", [], "line 1: expected a label and pairs"),
        ("1 1_0:1\n", [], "line 1: expected a label and pairs"),
        ("1 1:1_0\n", [], "line 1: expected a label and pairs"),
        ("1 1:1 1:2\n", [], "given twice"),
        ("2 qid:7 1:1\n", [], r"line 1: .* rows of queries \(qid\) are for ranking"),
        ("\xff\xfe", [], "the text is UTF-16, expected UTF-8"),
        ("\xff\xfd", [], "line 1: expected a label"),
        ("", [], "is empty"),
        ("# nothing\n", [], "0 features|no rows"),
        ("nan 1:1\n0 1:2\n", [], "a label is nan"),
        ("1 1:nan\n0 1:2\n", [], "not finite in float32"),
    ],
)
def test_faults_of_libsvm(root, tmp_path, text, table, complaint):
    (root / "a.svm").write_text(text, "latin-1")
    tracemalloc.start()
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, "libsvm", "a.svm", *table), root, tmp_path / "s.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_line_without_end(root, tmp_path):
    (root / "a.svm").write_bytes(b"1 1:1 " * (2**24 // 6 + 2))
    with pytest.raises(DataError, match="line 1 is longer than 16777216 bytes"):
        build(recipe(root, "libsvm", "a.svm"), root, tmp_path / "s.zarr")


@pytest.fixture
def bomb(root):
    """Writes a table whose last line has 256 MiB."""

    def write(start):
        with gzip.open(root / "a.gz", "wb", compresslevel=1) as file:
            file.write(start)
            for _ in range(256):
                file.write(b"1" * 2**20)

    return write


@pytest.mark.parametrize(("format_name", "start"), [("csv", b"x,y\n"), ("libsvm", b"1 1:")])
def test_a_line_without_end_in_a_gzip_bomb(root, tmp_path, bomb, format_name, start):
    bomb(start)
    path = recipe(root, format_name, "a.gz", *["label = 'y'"] * (format_name == "csv"))
    script = f"""
from hfnumba.ingest import build
from hfnumba.errors import DataError
try:
    build({str(path)!r}, {str(root)!r}, {str(tmp_path / "s.zarr")!r})
except DataError as error:
    print(error)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    complaint, peak_kib = done.stdout.splitlines()
    assert "longer than" in complaint or "block" in complaint
    # Includes the interpreter and its libraries, which take 60 to 100 MiB.
    assert int(peak_kib) < 192 * 1024


def test_a_process_that_refuses_a_table_ends_as_any_other(root, tmp_path, bomb):
    """The thread of Arrow is still reading when the process ends."""
    bomb(b"x,y\n")
    path = recipe(root, "csv", "a.gz", "label = 'y'")
    script = f"from hfnumba.ingest import build; build({str(path)!r}, {str(root)!r}, {str(tmp_path / 's.zarr')!r})"
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 1 and done.stderr.count("DataError: ") == 1, done.stderr


def test_a_table_takes_less_memory_than_its_rows(root, tmp_path):
    """Rows are on disk between the source and the store: 40 MB, of which little is in memory at a time."""
    n = 100_000
    rng = np.random.default_rng(0)
    write_hdf5(root / "a.h5", X=rng.random((n, 100), np.float32), y=np.arange(n) % 3)
    path = recipe(root, "hdf5", "a.h5", more="standardise = true")
    tracemalloc.start()
    store = build(path, root, tmp_path / "s.zarr", n_partitions=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * 2**20 < n * 100 * 4
    assert store["train"].n_rows == 80_000


def test_a_mark_of_utf8_before_libsvm_is_no_part_of_it(root, tmp_path):
    rows = "".join(f"{i % 2} 1:{i}\n" for i in range(20))
    (root / "a.svm").write_text("\ufeff" + rows, "utf-8")
    store = build(recipe(root, "libsvm", "a.svm"), root, tmp_path / "s.zarr")
    assert sum(split.n_rows for split in store.splits.values()) == 20
