"""Forms of CSV files that options of `[table]` describe, and names of many files."""

import gzip
import json

import numpy as np
import pytest

from hfnumba.errors import DataError
from hfnumba.ingest import build
from hfnumba.ingest.one_table import table_recipe
from tests.ingest.test_columns import rows_of
from tests.silent import Silent

N = 20


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def built(root, *table, train="a.csv", format_name="csv", more=""):
    lines = ['name = "t"', f'format = "{format_name}"', more, "[table]", f'train = ["{train}"]', *table]
    (root / "t.toml").write_text("\n".join(lines) + "\n")
    reporter = Silent()
    out = root.parent / f"{len(list(root.parent.iterdir()))}.zarr"
    return build(root / "t.toml", root, out, n_partitions=1, reporter=reporter), "\n".join(reporter.notes)


def expected(X, y):
    order = np.lexsort(np.array(X, "f4").T[::-1])
    return np.array(X, "f4")[order], np.array(y)[order]


X = np.stack([np.arange(N) * 0.5, np.arange(N) ** 2], axis=1)
Y = np.arange(N) % 2
PLAIN = ["x,z,k", *(f"{a},{b},{k}" for (a, b), k in zip(X.tolist(), Y.tolist(), strict=True))]


def check(store):
    found, y = rows_of(store)
    np.testing.assert_array_equal(found, expected(X, Y)[0])
    np.testing.assert_array_equal(y, expected(X, Y)[1])


def test_a_file_without_a_header(root):
    (root / "a.csv").write_text("\n".join(PLAIN[1:]) + "\n")
    store, said = built(root, 'label = "f2"', "header = false")
    check(store)
    assert "f0: number from 0 to 9.5" in said
    with pytest.raises(DataError, match=r"2 columns of the name .*; if there is no header .* header = false"):
        built(root, 'label = "k"')
    (root / "a.csv").write_text("\n".join(PLAIN[2:]) + "\n")
    with pytest.raises(DataError, match=r"it has '0.5', '1.0', '1'; if there is no header .* header = false"):
        built(root, 'label = "k"')


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_comment_lines(root, monkeypatch, name):
    text = "\ufeff" + "\n".join(["# made up", "#", *PLAIN[:5], "# more, of, it", *PLAIN[5:], "# end"]) + "\n"
    (root / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    check(built(root, 'label = "k"', 'comment = "#"', train=name)[0])
    with pytest.raises(DataError, match="cannot be read as CSV"):
        built(root, 'label = "k"', train=name)
    (root / name).write_bytes(gzip.compress(b"x,k\n" + b"1" * 2**23) if name.endswith(".gz") else b"1" * 2**23)
    with pytest.raises(DataError, match="a line longer than"):
        built(root, 'label = "k"', 'comment = "#"', train=name)


def test_a_decimal_comma(root):
    (root / "a.csv").write_text("\n".join(PLAIN).replace(",", ";").replace(".", ",") + "\n")
    check(built(root, 'label = "k"', 'decimal = ","', 'delimiter = ";"')[0])
    with pytest.raises(DataError, match=r"'0,0'.*a decimal comma in decimal = "):
        built(root, 'label = "k"', 'delimiter = ";"')
    with pytest.raises(DataError, match=r"Expected 1 columns, got 3.*; delimiter and comment in .table. say"):
        built(root, 'label = "k"')
    (root / "a.csv").write_text("\n".join(PLAIN).replace(",", ";") + "\n")
    with pytest.raises(DataError, match="has no column k; it has 'x;z;k'; if columns are separated by ';'"):
        built(root, 'label = "k"')
    with pytest.raises(DataError, match="decimal and delimiter are both ','"):
        built(root, 'label = "k"', 'decimal = ","')


@pytest.mark.parametrize("space", ["", " "])
def test_a_question_mark_for_missing_values(root, space):
    rows = ["x,c,k", f"1,{space}a,0", f"{space}?,{space}a,1", f"3,{space}?,0", f"2,{space}NA,1"]
    (root / "a.csv").write_text("\n".join(rows) + "\n")
    table = ['label = "k"', 'categorical = ["c"]', 'missing_values = ["?"]', 'test = ["b.csv"]']
    (root / "b.csv").write_text("x,c,k\n7,a,0\n")
    with pytest.raises(DataError, match="2 values are missing; the first is in column x, row 1"):
        built(root, *table)
    store, said = built(root, *table, 'missing = "mean"')
    assert sorted(store["train"].load(0)[0].tolist()) == [[1, 0, 1, 0], [2, 0, 1, 0], [2, 1, 0, 0], [3, 0, 0, 1]]
    assert "x: whole number from 1 to 7, 1 missing" not in said and "c: 2 categories (NA, a), 1 missing" in said
    with pytest.raises(DataError, match=r"\?.*texts that stand for missing values are named in missing_values"):
        built(root, 'label = "k"', 'categorical = ["c"]')


@pytest.mark.parametrize("blank", [" ", "  ", 16 * " ", '" "', " NA ", "NaN "])
def test_fields_of_spaces_have_no_number(root, blank):
    (root / "a.csv").write_text(f"x,k\n1,0\n{blank},1\n3,0\n")
    (root / "b.csv").write_text("x,k\n7,0\n")
    store, _ = built(root, 'label = "k"', 'missing = "mean"', 'test = ["b.csv"]')
    assert sorted(store["train"].load(0)[0][:, 0].tolist()) == [1, 2, 3]
    recipe = table_recipe(root / "a.csv", ["k"])
    assert (recipe.table.numeric, recipe.table.categorical) == (("x",), ())
    assert build(recipe, root, root / "s.zarr")["train"].columns[0].fill is not None


@pytest.mark.parametrize(("mark", "written"), [("-999", "-999.0"), ("-999.0", "-999"), ("-9.99e2", " -999 ")])
def test_numbers_for_missing_values_in_any_spelling(root, mark, written):
    (root / "a.csv").write_text(f"x,c,k\n1,1,0\n{written},{written},1\n3,1.0,0\n2,1,1\n")
    (root / "b.csv").write_text("x,c,k\n7,1,0\n")
    table = ['label = "k"', 'categorical = ["c"]', f'missing_values = ["{mark}"]', 'test = ["b.csv"]']
    with pytest.raises(DataError, match="2 values are missing; the first is in column x, row 1"):
        built(root, *table)
    store, _ = built(root, *table, 'missing = "mean"')
    assert sorted(store["train"].load(0)[0].tolist()) == [[1, 1, 0], [2, 0, 1], [2, 1, 0], [3, 1, 0]]


def test_a_class_that_is_called_na(root):
    (root / "a.csv").write_text("x,k\n1,NA\n2,DE\n3,NA\n4,DE\n")
    with pytest.raises(DataError, match=r"a label is missing in column k, row 0 .*: it is empty, or a text such as NA"):
        built(root, 'label = "k"')
    store, _ = built(root, 'label = "k"', "missing_values = []")
    assert store.manifest.header.classes == ("DE", "NA") and rows_of(store)[1].tolist() == [1, 0, 1, 0]
    (root / "a.csv").write_text("x,k\n1,NA\n2,DE\n3,\n4,DE\n")
    with pytest.raises(DataError, match="a label is missing in column k, row 2"):
        built(root, 'label = "k"', "missing_values = []")


@pytest.mark.parametrize("option", ["header = false", 'comment = "#"', 'decimal = ","', 'missing_values = ["?"]'])
def test_options_for_csv_only(root, option):
    with pytest.raises(DataError, match=f"{option.split()[0]} in .table. is for CSV, not for parquet"):
        built(root, 'label = "k"', option, format_name="parquet")


def test_options_that_are_not_given_leave_the_recipe_as_it_was(root):
    (root / "a.csv").write_text("\n".join(PLAIN) + "\n")
    store, _ = built(root, 'label = "k"')
    assert (
        not {"header", "comment", "decimal", "missing_values"}
        & json.loads(store.manifest.header.recipe)["table"].keys()
    )


def write_parts(folder, format_name, n):
    folder.mkdir(parents=True)
    for i, rows in enumerate(np.array_split(np.arange(N), n)):
        if format_name == "csv":
            (folder / f"part-{i}.csv").write_text("\n".join([PLAIN[0], *(PLAIN[1 + row] for row in rows)]) + "\n")
        elif format_name == "parquet":
            pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            columns = {"x": X[rows, 0], "z": X[rows, 1], "k": Y[rows]}
            pq.write_table(pa.table(columns), folder / f"part-{i}.parquet")
        elif format_name == "hdf5":
            with pytest.importorskip("h5py").File(folder / f"part-{i}.h5", "w") as file:
                file["X"], file["k"] = X[rows], Y[rows]
        else:
            lines = (f"{Y[row]} 1:{X[row, 0]} 2:{X[row, 1]}\n" for row in rows)
            (folder / f"part-{i}.svm").write_text("".join(lines))
    for name in ("_SUCCESS", ".part-0.crc", "_metadata.parquet", "notes.md"):
        (folder / name).write_text("no rows\n")


@pytest.mark.parametrize("train", ["parts", "parts/", "parts/part-*.*", "*/part-[0-9].*"])
@pytest.mark.parametrize("format_name", ["csv", "parquet", "hdf5", "libsvm"])
def test_folders_and_patterns(root, format_name, train):
    write_parts(root / "parts", format_name, 3)
    table = [] if format_name == "libsvm" else ['label = "k"']
    store, _ = built(root, *table, train=train, format_name=format_name)
    check(store)
    names = [source.name for source in store.manifest.header.sources]
    assert len(names) == 3 and names == sorted(names) and all(name.startswith("parts/part-") for name in names)


def test_a_file_whose_name_looks_like_a_pattern(root):
    (root / "a[1]*.csv").write_text("\n".join(PLAIN) + "\n")
    check(built(root, 'label = "k"', train="a[1]*.csv")[0])


def test_files_of_two_splits(root):
    write_parts(root / "parts", "csv", 2)
    for test in ("parts/part-1.csv", "parts"):
        with pytest.raises(DataError, match=r"parts/part-\d.csv is among the files of both train and test"):
            built(root, 'label = "k"', f'test = ["{test}"]', train="parts/*.csv")
    with pytest.raises(DataError, match=r"parts/part-0.csv is among the files of train twice"):
        built(root, 'label = "k"', train='parts", "parts/part-0.csv')
    store, _ = built(root, 'label = "k"', 'test = ["parts/part-1.csv"]', train="parts/part-0.csv")
    assert store["train"].n_rows == store["test"].n_rows == N // 2


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        ("none*.csv", "has no files"),
        ("../*.csv", "leads out of"),
        ("/etc/*", "is not a name or pattern of files"),
        ("link", "leads out of"),
        ("link/*.csv", "leads out of"),
    ],
)
def test_patterns_that_match_nothing_or_lead_elsewhere(root, train, complaint):
    (root.parent / "out.csv").write_text("x,k\n1,0\n")
    (root / "link").symlink_to(root.parent)
    with pytest.raises(DataError, match=complaint):
        built(root, 'label = "k"', train=train)


@pytest.mark.parametrize("note", ["a\n# b", "a\n# b\nc", 'a ""b"",\n# c'])
def test_lines_within_quotes_are_no_comments(root, note):
    lines = ["# made up", PLAIN[0] + ",note", *(f'{line},"{note}"' for line in PLAIN[1:]), '# "more']
    (root / "a.csv").write_text("\n".join(lines) + "\n")
    check(built(root, 'label = "k"', 'comment = "#"', 'numeric = ["x", "z"]')[0])


def test_a_quote_within_a_word_opens_nothing(root):
    lines = [PLAIN[0] + ",note", *(f'{line},5" wide' for line in PLAIN[1:11]), "# more", *(f"{x}," for x in PLAIN[11:])]
    (root / "a.csv").write_text("\n".join(lines) + "\n")
    check(built(root, 'label = "k"', 'comment = "#"', 'numeric = ["x", "z"]')[0])


@pytest.mark.parametrize("missing", ["?", " ?", "? ", " ? "])
def test_spaces_around_what_stands_for_missing_numbers(root, missing):
    (root / "a.csv").write_text("\n".join([*PLAIN, f"{missing},4,0"]) + "\n")
    _, said = built(root, 'label = "k"', 'missing_values = ["?"]', 'missing = "mean"')
    assert "Feature x: number from 0 to 9.5, 1 missing" in said


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("place", ["header", "rows"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_text_that_is_not_utf8_is_told_its_encoding(root, encoding, place, name):
    words = (
        ["größe,k", "1,0"] if place == "header" else ["a,k", *(f"{i},{'blöd' if i % 2 else 'gut'}" for i in range(30))]
    )
    data = "\n".join(words).encode(encoding)
    (root / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    expected = "UTF-16, expected UTF-8.* iconv -f UTF-16" if "16" in encoding else "perhaps Latin-1.* iconv -f ISO"
    with pytest.raises(DataError, match=expected):
        built(root, 'label = "k"', train=name)


def test_a_mark_of_utf8_before_the_text_is_no_part_of_it(root):
    (root / "a.csv").write_text("\ufeff" + "\n".join(PLAIN))
    store, _ = built(root, 'label = "k"')
    check(store)


def test_a_category_that_is_called_na(root):
    """Missing by default, and that is said; a category if the recipe says so."""
    rows = [f"{i},{('NA', 'EU', 'AS')[i % 3]},{i % 2}" for i in range(30)]
    (root / "a.csv").write_text("\n".join(["x,c,k", *rows]))
    hint = "text such as NA that stands for a missing value; if that is a category, set missing_values = "
    with pytest.raises(DataError, match=f"10 values are missing; .* column c, row 0 .*{hint}"):
        built(root, 'label = "k"', 'categorical = ["c"]')
    _, said = built(root, 'label = "k"', 'categorical = ["c"]', 'missing = "mean"')
    assert hint in said and "2 categories (AS, EU), 10 missing" in said
    _, said = built(root, 'label = "k"', 'categorical = ["c"]', "missing_values = []")
    assert hint not in said and "3 categories (AS, EU, NA)" in said
    _, said = built(root, 'label = "k"', 'categorical = ["c"]', 'missing_values = ["EU"]', 'missing = "mean"')
    assert "A missing value of column c is empty, or what missing_values in [table] names" in said and hint not in said


@pytest.mark.parametrize(("nbytes", "is_read"), [(2**22 - 100, True), (2**23 + 100, False)])
@pytest.mark.parametrize("before", [0, 100_000])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_rows_with_line_breaks_may_have_4_mib(root, nbytes, is_read, before, ending):
    """Also where the long column is not used."""
    rows = [f"{i},x,{i % 2}\n" for i in range(before)]
    text = "".join(["x,t,k\n", *rows, '1,"', "ab\n" * (nbytes // 3), '",1\n2,x,0\n']).encode()
    (root / f"a.csv{ending}").write_bytes(gzip.compress(text, 1) if ending else text)
    if is_read:
        store, _ = built(root, 'label = "k"', 'numeric = ["x"]', train=f"a.csv{ending}")
        assert sum(split.n_rows for split in store.splits.values()) == before + 2
    else:
        with pytest.raises(
            DataError, match="it has a row longer than 4 MiB, perhaps since a quote in it is not closed"
        ):
            built(root, 'label = "k"', 'numeric = ["x"]', train=f"a.csv{ending}")


@pytest.mark.parametrize(
    ("format_name", "table", "complaint"),
    [
        ("hdf5", 'numeric = ["x"]', "numeric in .table. is for CSV and Parquet, not for hdf5"),
        ("libsvm", 'missing = "mean"', "missing in .table. is for CSV and Parquet, not for libsvm"),
        ("parquet", 'delimiter = ";"', "delimiter in .table. is for CSV, not for parquet"),
        ("csv", 'features = "x"', "features in .table. is for HDF5, not for csv"),
        ("hdf5", "zero_based = true", "zero_based in .table. is for libsvm, not for hdf5"),
        ("hdf5", 'label = ["y", "z"]', "label in .table. names several data sets"),
    ],
)
def test_options_that_a_format_would_ignore(root, format_name, table, complaint):
    with pytest.raises(DataError, match=complaint):
        built(root, table, format_name=format_name)


def test_the_first_line_that_spreadsheets_read(root):
    lines = ["sep=;", "x;k", *(f"{x};{k}" for x, k in zip(X[:, 0], Y, strict=True))]
    (root / "a.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"has no column k; .* take it out, or set comment = .sep=. in a recipe"):
        built(root, 'label = "k"', 'delimiter = ";"')
    store, _ = built(root, 'label = "k"', 'delimiter = ";"', 'comment = "sep="')
    assert sorted(rows_of(store)[0][:, 0].tolist()) == X[:, 0].tolist()
