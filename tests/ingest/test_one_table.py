"""A store from a single table, without a recipe."""

import csv
import gzip
import json
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
