"""A store from a single table, without a recipe."""

import csv
import gzip
import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from hfnumba.errors import DataError, UsageError
from hfnumba.ingest import build
from hfnumba.ingest.one_table import table_recipe
from hfnumba.store import open_store
from tests.silent import Silent


def houses(n=60):
    """Columns by name; a number of rooms is missing."""
    rng = np.random.default_rng(0)
    area = (20.5 + 3 * rng.permutation(n)).tolist()
    rooms = [k % 5 + 1 for k in range(n)]
    return {
        "name": [f"house {i}" for i in range(n)],
        "area": area,
        "rooms": [*rooms[:4], None, *rooms[5:]],
        "town": [("Bonn", "Köln", "New York")[i % 3] for i in range(n)],
        "kind": [i % 2 for i in range(n)],
        "price": [2000.5 * one for one in area],
    }


def written(folder, suffix, columns=None):
    columns = houses() if columns is None else columns
    path = folder / f"houses{suffix}"
    if suffix in {".parquet", ".pq"}:
        pq.write_table(pa.table(columns), path)
        return path
    delimiter = "\t" if "tsv" in suffix else ";" if suffix == ".csv.gz" else ","
    with gzip.open(path, "wt") if suffix.endswith(".gz") else path.open("w") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ".pq"])
def test_all_forms_give_the_same_rows(tmp_path, suffix):
    recipe = table_recipe(written(tmp_path, suffix), ["price"], categorical=["kind"], drop=["name"])
    assert (recipe.name, recipe.task, recipe.standardise) == ("houses", "regression", True)
    assert (recipe.table.numeric, recipe.table.categorical) == (("area", "rooms"), ("town", "kind"))
    store = build(recipe, tmp_path, tmp_path / "s.zarr", n_partitions=2)
    split, columns = store["train"], houses()
    assert (split.targets, split.n_features) == (("price",), 7)
    parts = [split.load_stored(j) for j in range(2)]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    rows = dict(zip(np.array(columns["price"], np.float32), zip(*columns.values(), strict=True), strict=True))
    for x, (price,) in zip(X, y, strict=True):
        _, area, rooms, town, kind, _ = rows[price]
        assert x[0] == np.float32(area)
        if rooms is not None:
            assert x[1] == rooms
        assert x[2:].tolist() == [town == "Bonn", town == "Köln", town == "New York", kind == 0, kind == 1]
    # Mean and deviation of the targets are those of the training rows.
    assert split.target_standardisation.mean == pytest.approx([y.mean(dtype=np.float64)], rel=1e-6)
    assert split.target_standardisation.deviation == pytest.approx([y.std(dtype=np.float64)], rel=1e-6)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_every_kind_of_text_in_parquet_is_categories(tmp_path, kind):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"town": pa.array(20 * ["Bonn", "Köln"], kind), "y": 10 * [0, 1, 1, 0]}), path)
    recipe = table_recipe(path, ["y"])
    assert recipe.table.categorical == ("town",)
    (column,) = build(recipe, tmp_path, tmp_path / "s.zarr")["train"].columns
    assert column.categories == ("Bonn", "Köln")


def test_the_task_follows_the_label(tmp_path):
    path = written(tmp_path, ".csv", houses(80) | {"year": range(1900, 1980)})
    tasks = {"price": "regression", "town": "classification", "kind": "classification"}
    for label, task in tasks.items():
        assert table_recipe(path, [label], drop=["name"]).task == task
    assert table_recipe(path, ["kind", "rooms"], drop=["name"]).task == "regression"
    with pytest.raises(UsageError, match=r"column year has 80 different whole numbers, .* say --task regression or"):
        table_recipe(path, ["year"], drop=["name"])
    assert table_recipe(path, ["year"], task="regression", drop=["name"]).task == "regression"


def test_faults_are_named(tmp_path):
    path = written(tmp_path, ".csv")
    with pytest.raises(DataError, match=r"no column 'prize'; it has name, area, .*; do you mean price\?"):
        table_recipe(path, ["prize"])
    with pytest.raises(DataError, match=r"no column 'towm'.* do you mean town"):
        table_recipe(path, ["price"], drop=["towm"])
    with pytest.raises(DataError, match=r"column name has 60 different texts in 60 rows, .* --drop 'name'"):
        table_recipe(path, ["price"])
    with pytest.raises(DataError, match="is not a table"):
        table_recipe(tmp_path / "houses.xlsx", ["price"])
    with pytest.raises(DataError, match=r"there is no file .*typo.csv"):
        table_recipe(tmp_path / "typo.csv", ["price"])
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="has no rows"):
        table_recipe(tmp_path / "empty.csv", ["a"])
    dates = tmp_path / "dates.parquet"
    pq.write_table(pa.table({"day": pa.array([0, 1], pa.date32()), "y": [0.5, 1.5]}), dates)
    with pytest.raises(DataError, match=r"column day has type date32.*; leave it out with --drop 'day'"):
        table_recipe(dates, ["y"])
    assert table_recipe(written(tmp_path, ".pq"), ["price"], drop=["name"]).format == "parquet"


def hf(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_line(tmp_path):
    path, out = written(tmp_path, ".csv"), tmp_path / "s.zarr"
    result = hf("data", "build", path, "--label", "price", "--drop", "name", "--out", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.output
    assert "The task is regression with 1 output" in result.stderr
    found = json.loads(hf("data", "info", out, "--json").stdout)
    assert [target["name"] for target in found["targets"]] == ["price"]
    assert hf("data", "info", out).exit_code == 0
    begun = hf("data", "init", path, "--label", "price", "--drop", "name", "--out", tmp_path / "t.zarr")
    for j in range(int(begun.stdout)):
        assert hf("data", "partition", tmp_path / "t.zarr", j).exit_code == 0
    assert hf("data", "finalise", tmp_path / "t.zarr").exit_code == 0
    assert (tmp_path / "t.zarr" / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["houses.csv"], "houses.csv is a single table; give --label"),
        (["digits", "--label", "y"], "--label is for a .csv or .parquet file"),
        (["houses.csv", "--label", "price", "--source", "."], "leave it out for the single table"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, ".csv")
    result = hf("data", "build", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("values", "odd"),
    [
        (["?", *map(str, range(20))], "?"),
        ([f"{1000 * k:,}" for k in range(21)], "1,000"),
        ([f"{k}%" for k in range(21)], "0%"),
        ([f"${k}" for k in range(21)], "$0"),
        ([f"{k},5" for k in range(21)], "0,5"),
        (["x", *map(str, range(20))], "x"),
    ],
)
def test_numbers_that_are_written_as_text_are_no_categories(tmp_path, suffix, values, odd):
    columns = {"size": 3 * values, "x": [0.5 * i for i in range(63)], "y": 21 * ["a", "b", "a"]}
    path = written(tmp_path, suffix, columns)
    why = f"size is text because of values such as {re.escape(repr(odd))}, but others are numbers; .* say "
    with pytest.raises(DataError, match=f"column {why}--categorical 'size' if they"):
        table_recipe(path, ["y"])
    assert table_recipe(path, ["y"], categorical=["size"]).table.categorical == ("size",)
    assert table_recipe(path, ["y"], drop=["size"]).table.numeric == ("x",)
    with pytest.raises(DataError, match=f"the label {why}--task classification"):
        table_recipe(path, ["size"])
    assert table_recipe(path, ["size"], task="classification").task == "classification"


def test_text_after_a_block_of_numbers_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("hfnumba.ingest.sources.csv.BLOCK_NBYTES", 300)
    columns = {"size": [*map(str, range(200)), "unknown", "none"], "y": 101 * [0, 1]}
    with pytest.raises(DataError, match="column size is text because of values such as 'none', but others are numbers"):
        table_recipe(written(tmp_path, ".csv", columns), ["y"])


@pytest.mark.parametrize(
    "values", [["1", "none", None], ["2024-01-01", "2024-01-02"], ["12:30", "5"], ["a1", "1", "b2"]]
)
def test_text_with_few_numbers_is_categories(tmp_path, values):
    path = written(tmp_path, ".csv", {"kind": 20 * values, "y": [i % 2 for i in range(20 * len(values))]})
    assert table_recipe(path, ["y"]).table.categorical == ("kind",)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_index_that_is_left_out_is_named(tmp_path, suffix):
    name = "__index_level_0__" if suffix == ".parquet" else "Unnamed: 0"
    columns = {name: [3 * i + 1 for i in range(40)], "x": [i % 7 / 2 for i in range(40)], "y": 20 * [0, 1]}
    result = hf("data", "build", written(tmp_path, suffix, columns), "--label", "y", "--out", tmp_path / "s.zarr")
    assert result.exit_code == 0 and "an index of rows as pandas writes it" in result.stderr, result.output
    result = hf("data", "build", written(tmp_path, suffix, {name: columns[name], "y": columns["y"]}), "--label", "y")
    assert result.exit_code == 1 and "no column for a feature besides the index of rows" in result.stderr


CODES = ["0", "1", "2", "3+"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("values", "odd"),
    [
        (CODES, "3+"),
        (["1", "2", "3", "other"], "other"),
        (["0", "1", "2", ">2"], ">2"),
        (["1-4", "5", "6", "7"], "1-4"),
    ],
)
def test_whole_numbers_with_a_word_are_categories_and_that_is_said(tmp_path, suffix, values, odd):
    columns = {"children": 15 * values, "x": [0.5 * i for i in range(60)], "y": 20 * ["a", "b", "a"]}
    reporter, path = Silent(), written(tmp_path, suffix, columns)
    recipe = table_recipe(path, ["y"], reporter=reporter)
    assert (recipe.table.numeric, recipe.table.categorical) == (("x",), ("children",))
    (said,) = reporter.notes
    assert f"Column children has whole numbers and {odd!r}; its values are treated as categories, which have no" in said
    split = build(recipe, tmp_path, tmp_path / "s.zarr", n_partitions=1)["train"]
    assert split.columns[1].categories == tuple(sorted(values))
    X, _ = split.load_stored(0)
    assert {(round(2 * x[0]) % 4, values.index(sorted(values)[int(x[1:].argmax())])) for x in X} == {
        (k, k) for k in range(4)
    }
    assert table_recipe(path, ["children"]).task == "classification"
    result = hf("data", "build", path, "--label", "y", "--out", tmp_path / "t.zarr")
    assert (result.exit_code, said in result.stderr) == (0, True), result.output


@pytest.mark.parametrize("odd", ["?", "-", "unknown", "#DIV/0!", "$3", "3-", "1,000", "5%", "(3)", "2.5x"])
def test_amounts_and_marks_of_missing_numbers_are_no_categories(tmp_path, odd):
    numbers = ["0.5", "1", "2"] if odd == "2.5x" else ["0", "1", "2"]
    columns = {"n": 15 * [*numbers, odd], "x": [0.5 * i for i in range(60)], "y": 20 * ["a", "b", "a"]}
    with pytest.raises(DataError, match=f"column n is text because of values such as {re.escape(repr(odd))}"):
        table_recipe(written(tmp_path, ".csv", columns), ["y"])


def test_new_rows_with_a_word_among_numbers(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 200)
    columns = {"children": [CODES[k] for k in codes], "x": rng.normal(size=200).tolist(), "y": (codes == 3) * 1}
    written(tmp_path, ".csv", columns | {"y": ["many" if k == 3 else "few" for k in codes]})
    run = tmp_path / "run"
    assert hf("data", "build", tmp_path / "houses.csv", "--label", "y", "--out", tmp_path / "s.zarr").exit_code == 0
    train = hf("train", tmp_path / "s.zarr", "--hidden", 4, "--max-iterations", 10, "--threads", 1, "--run", run)
    assert train.exit_code == 0, train.output
    (tmp_path / "new.csv").write_text("x,children\n0.5,3+\n0.5,2\n0.5,2.0\n")
    found = [json.loads(line)["name"] for line in hf("predict", run, tmp_path / "new.csv").stdout.splitlines()]
    assert found == ["many", "few", "few"]
    (tmp_path / "new.csv").write_text("x,children\n0.5,3\n")
    result = hf("predict", run, tmp_path / "new.csv")
    assert (result.exit_code, "column children has '3' in row 0" in result.stderr) == (1, True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_folder_of_parts_is_a_table(tmp_path, suffix):
    """As Spark writes it."""
    (folder := tmp_path / f"parts{suffix}").mkdir()
    columns = houses()
    for j, name in enumerate(("part-00001", "part-00000")):
        part = {key: values[j::2] for key, values in columns.items()}
        written(tmp_path, suffix, part).rename(folder / f"{name}{suffix}")
    (folder / "_SUCCESS").touch()
    written(tmp_path, suffix, columns)
    stores = [
        build(table_recipe(path, ["price"], drop=["name"]), tmp_path, tmp_path / f"{i}.zarr", n_partitions=1)
        for i, path in enumerate((folder, tmp_path / f"houses{suffix}"))
    ]
    found, expected = (sorted(rows(store)) for store in stores)
    assert [columns for columns, _ in found] == [columns for columns, _ in expected]
    result = hf("data", "build", folder, "--label", "price", "--drop", "name", "--out", tmp_path / "t.zarr")
    assert result.exit_code == 0, result.output
    written(tmp_path, suffix, {"name": ["h"], "price": [1.5]}).rename(folder / f"part-2{suffix}")
    with pytest.raises(DataError, match=r"part-2.* has no column 'area'; it has name, price"):
        table_recipe(folder, ["price"])


def rows(store):
    """All rows as pairs of town's categories with kind, and target; areas are no part, whose fills differ."""
    for split in store.splits.values():
        for x, y in zip(*split.load_stored(0), strict=True):
            yield (float(y[0]), x[0], *x[2:].tolist()), y


def test_numbers_that_pandas_calls_categories_are_categories(tmp_path):
    """Parquet has such columns as numbers; that they are categories stands in the metadata."""
    columns = [{"name": "kind", "pandas_type": "categorical", "numpy_type": "int8"}]
    described = json.dumps({"index_columns": [], "columns": columns, "pandas_version": "2.2.0"})
    table = pa.table({"kind": 20 * [3, 1, 3], "x": [0.5 * i for i in range(60)], "y": 20 * ["a", "b", "a"]})
    pq.write_table(table.replace_schema_metadata({"pandas": described}), tmp_path / "a.pq")
    recipe = table_recipe(tmp_path / "a.pq", ["y"])
    assert recipe.table.categorical == ("kind",)
    split = build(recipe, tmp_path, tmp_path / "s.zarr", n_partitions=1)["train"]
    assert split.columns[1].categories == ("1", "3")
    X, _ = split.load_stored(0)
    assert all(x[1] == (round(2 * x[0]) % 3 == 1) == 1 - x[2] for x in X)


def test_delimiters_within_quoted_names_do_not_count(tmp_path):
    lines = ['"area, in m2, of all";"price, EUR";kind', *(f"{i}.5;{2 * i};{'ab'[i % 2]}" for i in range(40))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    recipe = table_recipe(tmp_path / "a.csv", ["kind"])
    assert recipe.table.numeric == ("area, in m2, of all", "price, EUR")


@pytest.mark.parametrize("n", [1, 3])
def test_empty_columns_at_the_end_of_lines_are_no_features(tmp_path, n):
    """As spreadsheets write them."""
    lines = [f"x,y{n * ','}", *(f"{i}.5,{'ab'[i % 2]}{n * ','}" for i in range(40))]
    (tmp_path / "a.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n")
    result = hf("data", "build", tmp_path / "a.csv", "--label", "y", "--out", tmp_path / "s.zarr")
    assert result.exit_code == 0, result.output
    what = "a column" if n == 1 else "3 columns"
    assert f"Left out: {what} without a name at the end of the lines" in result.stderr
    assert open_store(tmp_path / "s.zarr")["train"].n_features == 1
    assert table_recipe(tmp_path / "a.csv", ["y"]).table.numeric == ("x",)


def test_a_file_without_a_header_is_named(tmp_path):
    lines = [f"{5.1 + i / 7:.2f},{3.5 - i / 9:.2f},{1 + i % 4},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"it has 5.10, 3.50, 1, a; if there is no header line, set header = false"):
        table_recipe(tmp_path / "a.csv", ["species"])
    result = hf("data", "build", tmp_path / "a.csv", "--label", "a", "--out", tmp_path / "s.zarr")
    warned = "Warning: columns are called '5.10', '3.50', '1', 'a'; if there is no header line, set header = false"
    assert (result.exit_code, warned in result.stderr) == (0, True), result.output
    (tmp_path / "a.csv").write_text("\n".join(["0,1,2,label", *lines]) + "\n")
    result = hf("data", "build", tmp_path / "a.csv", "--label", "label", "--out", tmp_path / "t.zarr")
    assert (result.exit_code, "columns are called" in result.stderr) == (0, False), result.output


@pytest.mark.parametrize(
    ("prices", "warned"),
    [
        (["950", "1.200", "2.450", "0"], True),
        (["950", "1.2", "2.450", "7"], False),
        (["0.950", "1.200", "2.450", "7"], False),
        (["5.950", "1.200", "2.450", "7.125"], False),
        (["1200", "1.200", "2.450", "7"], False),
        (["950", "-1.200", "12.450", ""], True),
    ],
)
def test_points_that_may_separate_thousands_are_named(tmp_path, prices, warned):
    reporter, columns = Silent(), {"price": 10 * prices, "y": 20 * ["a", "b"]}
    table_recipe(written(tmp_path, ".csv", columns), ["y"], reporter=reporter)
    assert (
        any("Warning: the numbers of column price have three digits after a point" in n for n in reporter.notes)
        == warned
    )


def test_points_between_all_thousands_are_no_categories(tmp_path):
    columns = {"price": 10 * ["1.250.000", "1.000.000", "950.000", "7"], "y": 20 * ["a", "b"]}
    with pytest.raises(DataError, match=r"column price is text because of values such as '1.000.000', but others are"):
        table_recipe(written(tmp_path, ".csv", columns), ["y"])


@pytest.mark.parametrize("name", ["link.csv", os.fsdecode(b"caf\xe9.csv")])
def test_links_and_names_that_are_not_utf8(tmp_path, name):
    columns = {"x": [(7 * i) % 60 + 0.5 for i in range(60)], "y": 30 * ["a", "b"]}
    (tmp_path / "elsewhere").mkdir()
    path = written(tmp_path / "elsewhere", ".csv", columns)
    if name == "link.csv":
        (tmp_path / name).symlink_to(path)
    else:
        path.rename(tmp_path / name)
    result = hf("data", "build", tmp_path / name, "--label", "y", "--out", tmp_path / "s.zarr")
    assert result.exit_code == 0, result.output
    assert open_store(tmp_path / "s.zarr")["train"].n_rows == 48
