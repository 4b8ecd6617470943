"""Predictions for tables, utterances and stores, and the files they are written to."""

import csv
import json
import re
import shutil
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, root_mean_squared_error

from hfnumba.cli import main
from hfnumba.errors import ClusterError, StoreError
from hfnumba.formats.ark import archive, read_matrix
from hfnumba.ingest import write_frames
from hfnumba.launch.pool import Pool, open_pool
from hfnumba.launch.spec import Placement
from hfnumba.run.model import load_model
from hfnumba.run.predictions import predictions
from hfnumba.store import open_store
from tests.silent import Silent


def hf(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


TOWNS = ("Bonn", "Köln", "New York")


def houses(n, seed):
    """Areas, of which some are missing, towns, ages, and prices that they determine but for noise."""
    rng = np.random.default_rng(seed)
    area, town, age = rng.uniform(20, 200, n).round(2), rng.integers(0, 3, n), rng.integers(0, 99, n)
    price = 300_000 + 2500 * area + 80_000 * town - 900 * age + rng.normal(0, 5000, n)
    known = rng.random(n) > 0.1
    return {
        "area": [a if k else None for a, k in zip(area.tolist(), known, strict=True)],
        "town": [TOWNS[k] for k in town],
        "age": age.tolist(),
        "price": price.round(2).tolist(),
    }


def written(path, columns):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    with path.open("w") as file:
        writer = csv.writer(file, delimiter=";" if path.stem.endswith("semicolons") else ",")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def encoded(columns, fill):
    """Features in plain NumPy."""
    area = [fill if a is None else a for a in columns["area"]]
    return np.column_stack([area, columns["age"], *([t == name for t in columns["town"]] for name in TOWNS)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run for prices, and one for towns."""
    folder = tmp_path_factory.mktemp("houses")
    table = written(folder / "houses.csv", houses(600, 0))
    for label in ("price", "town"):
        assert hf("data", "build", table, "--label", label, "--out", folder / f"{label}.zarr").exit_code == 0
        run = ("--hidden", "10", "--max-iterations", 12, "--threads", 1, "--run", folder / label)
        assert hf("train", folder / f"{label}.zarr", *run).exit_code == 0
    return folder


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["new.csv", "semicolons.csv", "new.parquet"])
def test_new_rows_of_a_table_are_predicted_in_the_units_of_the_target(folder, tmp_path, name):
    new = houses(300, 1)
    new["age"][7] = None
    price = np.array(new.pop("price"))
    # In another order, and with a column more.
    source = written(tmp_path / name, {"id": [f"h{i}" for i in range(300)]} | dict(reversed(new.items())))
    result = hf("predict", folder / "price", source, "--out", tmp_path / "p.csv")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert f"id of {source}: ignored, no feature of the run" in result.stderr
    found = np.array([float(row["price"]) for row in read(tmp_path / "p.csv")])
    model, train = load_model(folder / "price"), houses(600, 0)
    fill, age = (column.fill for column in model.record.store.columns[:2])
    new["age"][7] = age
    np.testing.assert_allclose(found, model.predict(encoded(new, fill))[:, 0], rtol=1e-6)
    # As good as the model that made the prices, but for missing areas.
    linear = LinearRegression().fit(encoded(train, fill), train["price"]).predict(encoded(new, fill))
    assert r2_score(price, found) > r2_score(price, linear) - 0.01
    assert root_mean_squared_error(price, found) < 1.1 * root_mean_squared_error(price, linear)


def test_all_formats_hold_the_same_predictions(folder, tmp_path):
    source = written(tmp_path / "new.csv", {k: v for k, v in houses(50, 2).items() if k != "price"})
    for suffix in (".csv", ".parquet", ".npy", ".ark"):
        assert hf("predict", folder / "price", source, "-o", tmp_path / f"p{suffix}").exit_code == 0
    p = np.load(tmp_path / "p.npy")
    assert (p.shape, p.dtype) == ((50, 1), np.float32)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["price"]
    np.testing.assert_array_equal(table["price"].to_numpy(), p[:, 0])
    np.testing.assert_array_equal(np.float32([row["price"] for row in read(tmp_path / "p.csv")]), p[:, 0])
    ((key, entry),) = archive(tmp_path / "p.ark")
    assert key == "rows"
    np.testing.assert_array_equal(read_matrix(entry), p)
    lines = [json.loads(line) for line in hf("predict", folder / "price", source).stdout.splitlines()]
    assert [line["outputs"] for line in lines] == p.tolist()


def test_classes_come_with_their_names_and_probabilities(folder, tmp_path):
    source = written(tmp_path / "new.csv", {k: v for k, v in houses(40, 3).items() if k != "town"})
    for suffix in (".csv", ".parquet", ".npy"):
        assert hf("predict", folder / "town", source, "-o", tmp_path / f"p{suffix}").exit_code == 0
    p, rows = np.load(tmp_path / "p.npy"), read(tmp_path / "p.csv")
    assert [row["class"] for row in rows] == [TOWNS[k] for k in p.argmax(axis=1)]
    np.testing.assert_array_equal(np.float32([row["probability"] for row in rows]), p.max(axis=1))
    for k, town in enumerate(TOWNS):
        np.testing.assert_array_equal(np.float32([row[f"probability of {town}"] for row in rows]), p[:, k])
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["class"].to_pylist() == [row["class"] for row in rows]
    assert table.column_names == list(rows[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"town": None}, "it has no column town"),
        ({"town": ["Bonn"] * 11 + ["Paris"]}, "column town has 'Paris' in row 11 (counted from 0)"),
        ({"town": ["Bonn"] * 11 + [""]}, "column town has no value in row 11 (counted from 0)"),
        ({"age": ["1"] * 11 + ["young"]}, "column age: Row #13: CSV conversion error to double: invalid value 'young'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(folder, tmp_path, change, message):
    columns = {k: v for k, v in (houses(12, 4) | change).items() if v is not None and k != "price"}
    source, out = written(tmp_path / "new.csv", columns), tmp_path / "p.csv"
    out.write_text("before")
    result = hf("predict", folder / "price", source, "--out", out)
    assert (result.exit_code, message in result.stderr) == (1, True), result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert (out.read_text(), len(list(tmp_path.iterdir()))) == ("before", 2)


def test_the_row_is_named_beyond_the_first_block(folder, tmp_path):
    n = 9000
    columns = {k: v for k, v in houses(n, 5).items() if k != "price"}
    columns["town"][8500] = "Paris"
    source = written(tmp_path / "new.parquet", columns)
    result = hf("predict", folder / "price", source, "--out", tmp_path / "p.csv")
    assert "column town has 'Paris' in row 8500 (counted from 0)" in result.stderr


def test_the_recipe_of_the_training_rows_says_how_to_read(tmp_path):
    """A decimal comma, and a mark of missing values."""
    rows = [f"{i},5;{i % 3};{2 * i},25" if i % 4 else f"?;{i % 3};{2 * i},25" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a;b;y", *rows]) + "\n")
    (tmp_path / "t.toml").write_text(
        'name = "t"\nformat = "csv"\ntask = "regression"\nstandardise = true\n[table]\ntrain = ["t.csv"]\n'
        'label = "y"\ndelimiter = ";"\ndecimal = ","\nmissing = "mean"\nmissing_values = ["?"]\n'
    )
    assert hf("data", "build", tmp_path / "t.toml", "--source", tmp_path, "--out", tmp_path / "t.zarr").exit_code == 0
    hf("train", tmp_path / "t.zarr", "--hidden", 4, "--max-iterations", 2, "--threads", 1, "--run", tmp_path / "run")
    (tmp_path / "new.csv").write_text("b;a\n1;3,5\n2;?\n")
    result = hf("predict", tmp_path / "run", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "run")
    fill = model.record.store.columns[0].fill
    expected = model.predict(np.array([[3.5, 1], [fill, 2]]))
    np.testing.assert_array_equal(np.float32([[row["y"]] for row in read(tmp_path / "p.csv")]), expected)
    # Marks of missing values are those of other forms of the rows, too.
    pq.write_table(pa.table({"a": ["3,5", "?"], "b": [1, 2]}), tmp_path / "new.parquet")
    assert (
        "column a has type string, expected numbers" in hf("predict", tmp_path / "run", tmp_path / "new.parquet").stderr
    )
    # The run records it, so it does not need the store.
    shutil.rmtree(tmp_path / "t.zarr")
    assert hf("predict", tmp_path / "run", tmp_path / "new.csv", "--out", tmp_path / "q.csv").exit_code == 0
    assert (tmp_path / "q.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


def test_rows_of_a_store_come_in_its_order(folder, tmp_path):
    store = open_store(folder / "price.zarr")
    result = hf("predict", folder / "price", store.path, "--split", "train", "--out", tmp_path / "p.npy")
    assert "in the order in which the store has them" in result.stderr
    split = store["train"]
    y = np.concatenate([split.load_labels(j)[0] for j in range(split.n_partitions)])
    p = np.load(tmp_path / "p.npy")
    measured = load_model(folder / "price").measure(split)
    assert root_mean_squared_error(y, p) == pytest.approx(measured.rmse, rel=1e-5)


def test_a_table_needs_a_run_with_names(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.normal(size=(n, 3)).astype(np.float32), np.arange(n) % 2) for n in (9, 14, 11)]
    store = write_frames(tmp_path / "f.zarr", {"train": utterances}, context=2, n_partitions=2)
    run = tmp_path / "run"
    hf("train", store.path, "--hidden", 4, "--max-iterations", 2, "--threads", 1, "--run", run)
    source = written(tmp_path / "new.csv", {"a": [1.0]})
    assert "the run has no names of columns" in hf("predict", run, source).stderr
    assert f"there is no file {tmp_path / 'none.csv'}" in hf("predict", run, tmp_path / "none.csv").stderr
    # Utterances are spliced each for itself.
    with (tmp_path / "u.ark").open("wb") as file:
        for k, (X, _) in enumerate(utterances):
            file.write(b"u%d \0BFM \4%s\4%s" % (k, *(int(n).to_bytes(4, "little") for n in X.shape)) + X.tobytes())
    for suffix in (".csv", ".ark", ".npy", ".parquet"):
        result = hf("predict", run, tmp_path / "u.ark", "--out", tmp_path / f"p{suffix}")
        assert result.exit_code == 0, result.output
    found = {key: read_matrix(entry) for key, entry in archive(tmp_path / "p.ark")}
    for k, (X, _) in enumerate(utterances):
        np.testing.assert_array_equal(found[f"u{k}"], load_model(run).predict(X))
    together = np.concatenate(list(found.values()))
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), together)
    names = ["u0"] * 9 + ["u1"] * 14 + ["u2"] * 11
    assert [row["utterance"] for row in read(tmp_path / "p.csv")] == names
    assert pq.read_table(tmp_path / "p.parquet")["utterance"].to_pylist() == names
    lines = [json.loads(line) for line in hf("predict", run, tmp_path / "u.ark").stdout.splitlines()]
    assert ([line["utterance"] for line in lines], lines[-1]["row"]) == (names, 33)


class _Worker:
    """Executor whose tasks fail as those of a cluster without workers."""

    def submit(self, function, *arguments):
        future = Future()
        future.cancel()
        return future


def test_answers_come_in_order_and_few_wait(folder):
    read_, taken = [], []

    def arguments():
        for k in range(50):
            read_.append(k)
            yield (k,)

    def square(model, k):
        return np.array([k * k])

    with ThreadPoolExecutor(3) as threads:
        for answer in Pool(threads, None, 6).map(square, arguments()):
            taken.append(int(answer[0]))
            assert len(read_) - len(taken) <= 6
    assert taken == [k * k for k in range(50)]
    with pytest.raises(ClusterError, match=r"are lost .*without --cluster"):
        list(Pool(_Worker(), None, 2, (CancelledError,)).map(square, [(1,)]))


def test_a_cluster_predicts_the_same_bits(folder, tmp_path, client):
    source = written(tmp_path / "new.csv", {k: v for k, v in houses(50, 2).items() if k != "price"})
    address = client.scheduler.address
    for rows, suffix in ((source, ".npy"), (folder / "price.zarr", ".csv")):
        for name, where in (("one", "none"), ("many", address)):
            result = hf("predict", folder / "price", rows, "--cluster", where, "-o", tmp_path / f"{name}{suffix}")
            assert result.exit_code == 0, result.output
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"many{suffix}").read_bytes()
    columns = houses(5, 2) | {"town": ["Paris"] * 5}
    result = hf("predict", folder / "price", written(tmp_path / "bad.csv", columns), "--cluster", address)
    assert (result.exit_code, "'Paris' in row 0" in result.stderr) == (1, True)


def test_a_worker_that_cannot_see_the_store_is_named(folder, tmp_path, client):
    model = load_model(folder / "price")
    at = r"\(on worker \S+ at tcp://127\.0\.0\.1:\d+; every worker must be able to read the store at the same path\)"
    for where, named in ((client, True), (None, False)):
        path = shutil.copytree(folder / "price.zarr", tmp_path / f"{named}.zarr")
        with open_pool(model, Placement(where, ""), 1) as pool:
            (part,) = predictions(model, path, "test", pool, Silent())
            path.rename(tmp_path / f"{named}.elsewhere")
            with pytest.raises(StoreError, match=f"{named}.zarr") as caught:
                list(part.blocks)
        assert bool(re.search(at, str(caught.value))) == named


def test_numbers_that_stand_for_missing_ones_do_so_in_every_form_of_new_rows(tmp_path):
    rows = [f"{-999 if i % 4 == 0 else i},{['u', 'v', 'none'][i % 3]},{2 * i}.25" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    (tmp_path / "t.toml").write_text(
        'name = "t"\nformat = "csv"\ntask = "regression"\nstandardise = true\n[table]\ntrain = ["t.csv"]\n'
        'label = "y"\ncategorical = ["b"]\nmissing = "mean"\nmissing_values = ["-999", "none"]\n'
    )
    assert hf("data", "build", tmp_path / "t.toml", "--source", tmp_path, "--out", tmp_path / "t.zarr").exit_code == 0
    hf("train", tmp_path / "t.zarr", "--hidden", 4, "--max-iterations", 2, "--threads", 1, "--run", tmp_path / "run")
    shutil.rmtree(tmp_path / "t.zarr")
    model = load_model(tmp_path / "run")
    a, b = model.record.store.columns
    assert (b.categories, b.missing) == (("u", "v"), True)
    expected = model.predict(np.array([[a.fill, 1, 0, 0], [7, 0, 0, 1]], np.float32))
    new = {"a": [-999.0, 7.0], "b": ["u", "none"]}
    for name in ("new.csv", "new.parquet"):
        assert hf("predict", tmp_path / "run", written(tmp_path / name, new), "-o", tmp_path / "p.npy").exit_code == 0
        np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)
    np.testing.assert_array_equal(model.predict(pd_like(new)), expected)


def pd_like(columns):
    """What predict needs of a data frame."""
    frame = {
        name: np.array(values, object if isinstance(values[0], str) else float) for name, values in columns.items()
    }
    return type("Frame", (dict,), {"columns": property(list)})(frame)


def test_a_folder_of_parts_is_predicted_in_the_order_of_names(folder, tmp_path):
    new = {k: v for k, v in houses(40, 4).items() if k != "price"}
    written(tmp_path / "whole.parquet", new)
    (tmp_path / "parts.parquet").mkdir()
    for j in (1, 0):
        part = {k: v[j * 20 : j * 20 + 20] for k, v in new.items()}
        written(tmp_path / "parts.parquet" / f"part-{j}.parquet", part)
    (tmp_path / "parts.parquet" / "_SUCCESS").touch()
    found = [hf("predict", folder / "price", tmp_path / f"{name}.parquet").stdout for name in ("whole", "parts")]
    assert len(found[0].splitlines()) == 40 and found[0] == found[1]


def test_files_of_other_kinds_are_told_what_is_read(folder, tmp_path):
    (tmp_path / "new.svm").write_text("1 1:2\n")
    result = hf("predict", folder / "price", tmp_path / "new.svm")
    assert result.exit_code == 1 and "rows are read from tables (.csv, .tsv, .parquet), .npy, .npz," in result.stderr
