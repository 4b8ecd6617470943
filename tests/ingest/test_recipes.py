import functools
import gzip
import hashlib
import http.server
import os
import threading

import msgspec
import numpy as np
import pooch
import pytest

from hfnumba.errors import DataError, UsageError
from hfnumba.ingest import build, datasets_dir, list_recipes
from hfnumba.ingest.download import locate
from hfnumba.ingest.recipes import Recipe, RecipeFile, find_recipe
from hfnumba.store.verify import verify
from tests.silent import Silent


def test_the_recipes_that_come_along():
    found = {recipe.name: recipe for recipe in list_recipes()}
    assert set(found) == {"digits", "fashion-mnist", "festvox-ru", "mnist", "synthetic-speech", "timit"}
    readme = (datasets_dir() / "README.md").read_text()
    for recipe in found.values():
        assert recipe.title and recipe.licence and recipe.homepage
        assert f"`{recipe.name}`" in readme
        for file in recipe.files:
            assert len(recipe.mirrors) >= 2
            assert file.sha256 in readme
            assert file.nbytes and f"{file.nbytes:,}" in readme
    assert found["mnist"].scale == 1 / 255


BASE = 'name = "x"\nformat = "digits"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = x", "at line 1, column 8"),
        ('format = "digits"', "missing required field `name`"),
        (BASE + "scale = 'big'", r"Expected `float`, got `str` - at `\$.scale`"),
        (BASE + "colour = 1", "unknown key 'colour'; expected one of name, title"),
        (BASE.replace("digits", "xls"), r"format is 'xls'; expected one of csv, "),
        (BASE.replace('"x"', '"../x"'), r"\$.name"),
        (BASE + "n_classes = 1", r"\$.n_classes"),
        (BASE + '[[files]]\nname = "a"', "takes no files"),
        ('name="x"\nformat="npz"', "exactly one file, got 0"),
        ('name="x"\nformat="idx"', "one file with role X and one with role y"),
        (
            'name="x"\nformat="idx"\n[[files]]\nname="a"\nsplit="train"\nrole="X"',
            "one with role y for each split",
        ),
        ('name="x"\nformat="npz"\n[[files]]\nname="../a"', r"\$.files\[0\].name"),
        ('name="x"\nformat="npz"\n[[files]]\nname="a"\nsha256="12"', r"\$.files\[0\].sha256"),
        (BASE + 'mirrors = ["file:///etc/"]', r"\$.mirrors\[0\]"),
        (BASE + 'mirrors = ["https://a.example/"]', "takes no mirrors"),
        ('name="x"\nformat="kaldi"', r"needs a table \[kaldi\]"),
        ('name="x"\nformat="csv"', r"needs a table \[table\]"),
        ('name="x"\nformat="csv"\n[table]\ntrain=[]', r"\$.table.train"),
        (
            'name="x"\nformat="csv"\n[table]\ntrain=["a"]\nmissing="zero"',
            r"table.missing is 'zero'; expected one of mean, refuse$",
        ),
        ('name="x"\nformat="timit"\n[speech]\nphones=40', r"speech.phones is 40; expected one of 39, 48, 61$"),
        ('name="x"\nformat="cvs"', r"format is 'cvs'; expected one of csv, .*, zarr; did you mean 'csv'\?$"),
        (
            BASE + "standardize = true",
            r"unknown key 'standardize'; expected one of name, .*; did you mean 'standardise'",
        ),
        (
            'name="x"\nformat="csv"\n[table]\nlable="y"',
            r"unknown key 'lable' in \[table\]; .*; did you mean 'label'\?$",
        ),
        ('name="x"\nformat="npz"\n[[files]]\nrol="y"', r"unknown key 'rol' in \[files\[0\]\]; .* mean 'role'\?$"),
        (
            'name="x"\nformat="kaldi"\n[kaldi.train]\nxyz="y"',
            r"unknown key 'xyz' in \[kaldi.train\]; expected one of features, alignments$",
        ),
        ('name="x"\nformat="timit"\n[[files]]\nname="a"', "takes no files"),
        (BASE + "[speech]\nstates=3", r"\[speech\] is for format .*, not for digits"),
        (BASE + "context = 4", "context is for speech"),
        ('name="x"\nformat="timit"\ncontext = 999', r"\$.context"),
        ("\xff", "the text is not UTF-8"),
        ("a = " + 100_000 * "[", "is not valid: maximum recursion depth exceeded"),
        (" " * (2**24 + 1), "cannot be read: it has 16777217 bytes, expected at most 16777216"),
    ],
)
def test_faults_of_a_recipe_are_located(tmp_path, text, complaint):
    path = tmp_path / "r.toml"
    path.write_text(text, "latin-1")
    with pytest.raises(DataError, match=complaint) as error:
        find_recipe(path)
    assert str(path) in str(error.value)


def test_what_is_no_file_is_not_read_as_a_recipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(DataError, match=f"{name}.toml cannot be read: a folder, pipe or device is in the place"):
            find_recipe(tmp_path / f"{name}.toml")


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(
        DataError, match=r"no recipe 'imagenet' .*; expected one of .*digits, fashion-mnist, festvox-ru,"
    ):
        find_recipe("imagenet")
    with pytest.raises(DataError, match=r"did you mean 'mnist'\?$"):
        find_recipe("mnits")
    with pytest.raises(DataError, match=r"no recipe .*none.toml"):
        find_recipe(tmp_path / "none.toml")
    with pytest.raises(DataError, match=r"no file .*none.npz"):
        find_recipe(tmp_path / "none.npz")


def test_a_folder_with_and_without_gz(idx_dir, tmp_path):
    recipe = idx_dir / "tiny.toml"
    plain = build(recipe, idx_dir, tmp_path / "a.zarr")
    for path in list(idx_dir.glob("*-?")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert build(recipe, idx_dir, tmp_path / "b.zarr").digest == plain.digest


def test_a_folder_that_lacks_a_file(idx_dir, tmp_path):
    (idx_dir / "test-y").unlink()
    with pytest.raises(DataError, match=r"has no test-y \(nor test-y.gz\)"):
        build(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr")
    with pytest.raises(DataError, match="is not a folder"):
        build(idx_dir / "tiny.toml", idx_dir / "tiny.toml", tmp_path / "a.zarr")
    with pytest.raises(UsageError, match="reads no files"):
        build("digits", idx_dir, tmp_path / "a.zarr")


CONTENT = b"the bytes of a file"
FILE = RecipeFile(name="f", split="train", role="X", nbytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
MIRRORED = Recipe(
    name="m",
    format="idx",
    mirrors=("https://one.example/", "https://two.example/d/"),
    files=(FILE, RecipeFile(name="g", split="train", role="y")),
)


class Web:
    """Stands for the network: the answer of each mirror, with a record of the requests."""

    def __init__(self, monkeypatch, cache, answers):
        self.answers, self.asked = answers, []
        monkeypatch.setattr(pooch, "os_cache", lambda project: cache / project)
        monkeypatch.setattr(pooch, "retrieve", self.retrieve)

    def retrieve(self, url, known_hash, fname, path, **options):
        target = path / fname
        if not target.exists():
            self.asked.append(url)
            answer = self.answers(url)
            if isinstance(answer, Exception):
                raise answer
            path.mkdir(parents=True, exist_ok=True)
            target.write_bytes(answer)
        return str(target)


def test_the_first_mirror_that_answers_is_used(monkeypatch, tmp_path):
    web = Web(monkeypatch, tmp_path, lambda url: gzip.compress(CONTENT))
    reporter = Silent()
    paths = locate(MIRRORED, None, reporter)
    assert web.asked == ["https://one.example/f.gz", "https://one.example/g.gz"]
    assert reporter.notes[0] == "Downloading f.gz from one.example"
    assert locate(MIRRORED, None, reporter) == paths
    assert len(web.asked) == len(reporter.notes) == 2


@pytest.mark.parametrize(
    "bad",
    [
        OSError("unreachable"),
        gzip.compress(CONTENT[:-1] + b"?"),
        gzip.compress(bytes(10**6)),
        b"<html>login</html>",
    ],
    ids=["down", "wrong bytes", "too many bytes", "a web page"],
)
def test_a_bad_mirror_is_passed_over(monkeypatch, tmp_path, bad):
    web = Web(monkeypatch, tmp_path, lambda url: bad if "one" in url else gzip.compress(CONTENT))
    path = locate(MIRRORED, None)["f"]
    assert web.asked[:2] == ["https://one.example/f.gz", "https://two.example/d/f.gz"]
    assert gzip.decompress(path.read_bytes()) == CONTENT


def test_a_spoilt_cache_is_fetched_again(monkeypatch, tmp_path):
    Web(monkeypatch, tmp_path, lambda url: gzip.compress(CONTENT))
    path = locate(MIRRORED, None)["f"]
    path.write_bytes(b"spoilt")
    assert gzip.decompress(locate(MIRRORED, None)["f"].read_bytes()) == CONTENT


def test_a_recipe_of_the_same_name_does_not_give_its_files(monkeypatch, tmp_path):
    Web(monkeypatch, tmp_path, lambda url: gzip.compress(url.encode()))
    files = tuple(RecipeFile(name=name, split="train", role=role) for name, role in (("f", "X"), ("g", "y")))
    for place in ("https://one.example/", "https://other.example/"):
        found = locate(Recipe(name="m", format="idx", mirrors=(place,), files=files), None)
        assert gzip.decompress(found["g"].read_bytes()).decode() == f"{place}g.gz"


def test_without_a_network(monkeypatch, tmp_path):
    Web(monkeypatch, tmp_path, lambda url: OSError("unreachable"))
    with pytest.raises(DataError, match=r"could not be downloaded \(one.example: OSError; two.*--source DIR"):
        build(MIRRORED, out=tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_download_over_http(idx_dir, tmp_path, monkeypatch):
    """The real client and a server on this machine: the first mirror lacks the files, the second has them."""
    for path in list(idx_dir.glob("*-?")):
        (idx_dir / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Server, directory=str(idx_dir))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}/"
        recipe = msgspec.structs.replace(find_recipe(idx_dir / "tiny.toml"), mirrors=(f"{at}none/", at))
        reporter = Silent()
        store = build(recipe, out=tmp_path / "a.zarr", reporter=reporter)
        server.shutdown()
    assert sum(note.startswith("Downloading") for note in reporter.notes) == 8
    downloads = [calls for what, calls in reporter.steps if what == "Downloading"]
    sizes = sorted(path.stat().st_size for path in idx_dir.glob("*.gz"))
    assert sorted(calls[-1] for calls in downloads if calls) == [(n, n, "bytes") for n in sizes]
    assert store.digest == build(idx_dir / "tiny.toml", idx_dir, tmp_path / "b.zarr").digest
    assert len(list((tmp_path / "cache/datasets/tiny").rglob("*.gz"))) == 4


@pytest.mark.parametrize("level", [None, 1, 9])
def test_the_hash_is_that_of_the_uncompressed_bytes(idx_dir, tmp_path, level):
    pinned = (idx_dir / "tiny.toml").read_text()
    for path in list(idx_dir.glob("*-?")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        pinned = pinned.replace(f'name = "{path.name}"', f'name = "{path.name}"\nsha256 = "{digest}"')
        if level is not None:
            (idx_dir / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), level))
            path.unlink()
    assert pinned.count("sha256") == 4
    (idx_dir / "pinned.toml").write_text(pinned)
    store = build(idx_dir / "pinned.toml", idx_dir, tmp_path / "a.zarr")
    assert all(source.sha256 in pinned for source in store.manifest.header.sources)
    other = pinned.replace(store.manifest.header.sources[0].sha256, "0" * 64)
    (idx_dir / "pinned.toml").write_text(other)
    with pytest.raises(DataError, match=r"has the SHA-256 .* \(uncompressed\), the recipe expects 000"):
        build(idx_dir / "pinned.toml", idx_dir, tmp_path / "b.zarr")


def test_links_out_of_the_folder_are_not_followed(idx_dir, tmp_path):
    (idx_dir / "train-y").rename(tmp_path / "elsewhere")
    (idx_dir / "train-y").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"train-y leads out of .* only files within the given folder are read"):
        build(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_real_mnist(mnist_dir, tmp_path):
    store = build("mnist", mnist_dir, tmp_path / "m.zarr", rows=6000)
    assert verify(store) == []
    train, test = store["train"], store["test"]
    assert (train.n_rows, test.n_rows, train.n_features, train.n_classes) == (6000, 10_000, 784, 10)
    with gzip.open(mnist_dir / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    found = np.concatenate([test.load(j)[1] for j in range(test.n_partitions)])
    np.testing.assert_array_equal(np.bincount(found), np.bincount(labels))
    counts = np.bincount(np.concatenate([train.load(j)[1] for j in range(train.n_partitions)]))
    # The classes of MNIST have 9.0 to 11.2 % of the rows; six standard deviations of a fair sample are 2.4 %.
    assert counts.min() > 6000 * 0.066 and counts.max() < 6000 * 0.136
    nbytes = sum(record.nbytes for record in store.manifest.files.values())
    assert nbytes < 16_000 * 784 / 3
