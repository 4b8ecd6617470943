import gzip
import hashlib
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError
from hfnumba.formats import ark
from hfnumba.formats.ark import Entry, read_ints, read_matrix
from hfnumba.ingest import build
from hfnumba.ingest.sources.kaldi import read_index, read_pdf_map
from hfnumba.store.verify import verify
from tests.silent import Silent
from tests.utterances import load_utterances


@pytest.fixture
def kaldi_dir():
    root = os.environ.get("HFNUMBA_DATA")
    if not root or not (Path(root) / "kaldi").is_dir():
        pytest.skip("HFNUMBA_DATA names no folder with the real kaldi/: real Kaldi archives are not tested")
    return Path(root) / "kaldi"


def matrix(X):
    token = b"FM " if X.dtype == np.float32 else b"DM "
    return b"\0B" + token + struct.pack("<bibi", 4, X.shape[0], 4, X.shape[1]) + X.tobytes()


def ints(y):
    return b"\0B\4" + struct.pack("<i", len(y)) + b"".join(struct.pack("<bi", 4, v) for v in y)


def put(path, objects):
    """Write an archive, and return the offsets of its objects."""
    offsets, data = {}, b""
    for key, content in objects.items():
        offsets[key] = len(data) + len(key) + 1
        data += key.encode() + b" " + content
    path.write_bytes(data)
    return offsets


def test_real_archives_are_read_to_the_last_bit(kaldi_dir):
    """The expected hashes are those of kaldi-native-io."""
    lines = [line.split() for line in (kaldi_dir / "expected.txt").read_text().splitlines() if line[0] != "#"]
    files = {name: read_index(kaldi_dir, name) for name in {line[0] for line in lines}}
    assert sum(map(len, files.values())) == len(lines) == 30
    for name, key, dtype, *_, digest in lines:
        array = (read_ints if name == "ali.ark" else read_matrix)(files[name][key])
        assert array.dtype == dtype
        assert hashlib.sha256(array.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("method", ["kAutomaticMethod", "kSpeechFeature", "kTwoByteAuto", "kOneByteAuto"])
def test_every_compression_is_that_of_kaldi(tmp_path, method):
    kio = pytest.importorskip("kaldi_native_io", reason="kaldi_native_io, of hfnumba[test], is not installed")
    rng = np.random.default_rng(0)
    X = {f"u{n}": rng.normal(5, 3, (n, 7)).astype(np.float32) for n in (1, 2, 9, 200)}
    path = tmp_path / "a.ark"
    with kio.CompressedMatrixWriter(f"ark,scp:{path},{tmp_path / 'a.scp'}") as writer:
        for key, values in X.items():
            writer.write(key, values, getattr(kio.CompressionMethod, method))
    with kio.SequentialFloatMatrixReader(f"ark:{path}") as reader:
        expected = {key: value.copy() for key, value in reader}
    for name in ("a.ark", "a.scp"):
        index = read_index(tmp_path, name)
        assert index.keys() == expected.keys() == X.keys()
        for key, entry in index.items():
            np.testing.assert_array_equal(read_matrix(entry), expected[key])


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_what_kaldi_writes_is_read(tmp_path, text, double):
    kio = pytest.importorskip("kaldi_native_io", reason="kaldi_native_io, of hfnumba[test], is not installed")
    rng = np.random.default_rng(1)
    X = {f"u{n}": rng.normal(size=(n, 3)).astype("f8" if double else "f4") for n in (1, 4, 5000)}
    y = {key: rng.integers(0, 2000, len(values)).tolist() for key, values in X.items()} | {"empty": []}
    kind = "ark,t" if text else "ark"
    writers = (kio.DoubleMatrixWriter if double else kio.FloatMatrixWriter, kio.Int32VectorWriter)
    for name, writer_type, held in (("X", writers[0], X), ("y", writers[1], y)):
        with writer_type(f"{kind},scp:{tmp_path / name}.ark,{tmp_path / name}.scp") as writer:
            for key, values in held.items():
                writer.write(key, values)
    for suffix in ("ark", "scp"):
        for key, entry in read_index(tmp_path, f"X.{suffix}").items():
            np.testing.assert_allclose(read_matrix(entry), X[key], rtol=1e-5 if text else 0, atol=1e-6 if text else 0)
        found = read_index(tmp_path, f"y.{suffix}")
        assert {key: read_ints(entry).tolist() for key, entry in found.items()} == y


def test_objects_across_the_reader_s_buffer(tmp_path):
    """The next object is recognised wherever a buffer of the file ends."""
    kinds = {}
    for n in range(200):
        kinds[f"k{n:0{1 + n % 7}}"] = matrix(np.full((1, 37 + n % 5), n, np.float32))
    put(tmp_path / "a.ark", kinds)
    index = read_index(tmp_path, "a.ark")
    assert list(index) == list(kinds)
    assert all(read_matrix(entry)[0, 0] == n for n, entry in enumerate(index.values()))


def test_archives_packed_with_gzip(tmp_path):
    """Kaldi writes alignments as ali.1.gz; objects are read in any order."""
    rng = np.random.default_rng(3)
    X = {f"u{i}": rng.normal(size=(n, 4)).astype("f4") for i, n in enumerate((3, 700, 1, 40))}
    y = {name: rng.integers(0, 9, len(values)).tolist() for name, values in X.items()}
    put(tmp_path / "X.ark", {name: matrix(values) for name, values in X.items()})
    put(tmp_path / "ali.1", {name: ints(values) for name, values in y.items()})
    for name in ("X.ark", "ali.1"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    found, labels = read_index(tmp_path, "X.ark.gz"), read_index(tmp_path, "ali.1.gz")
    for name in ("u3", "u0", "u2", "u1"):
        np.testing.assert_array_equal(read_matrix(found[name]), X[name])
        assert read_ints(labels[name]).tolist() == y[name]
    recipe = tmp_path / "t.toml"
    stores = []
    for ali in ("ali.1", "ali.1.gz"):
        split = f'features = ["X.ark"]\nalignments = ["{ali}"]\n'
        recipe.write_text(f'name = "t"\nformat = "kaldi"\n[kaldi.train]\n{split}')
        stores.append(build(recipe, tmp_path, tmp_path / f"{ali}.zarr", n_partitions=2))
    for plain, packed in zip(*(store["train"].load(0) for store in stores), strict=True):
        np.testing.assert_array_equal(plain, packed)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"u 1 2\n", lambda data: data[:20] + b"xx"])
def test_damaged_archives_packed_with_gzip(tmp_path, damage):
    (tmp_path / "ali.1.gz").write_bytes(damage(gzip.compress(b"u0 " + ints(range(100)))))
    with pytest.raises(DataError, match=r"ali.1.gz is not a complete gzip file"):
        read_index(tmp_path, "ali.1.gz")


GOOD = b"u " + matrix(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "holds no objects"),
        (b"\0\0\0\0", "not an archive of Kaldi"),
        (b"x" * 5000, "not an archive of Kaldi"),
        (b"u" * 2000 + b" [ 1 ]\n", "not an archive of Kaldi"),
        (GOOD[:3], "is no|not an archive|ends within|holds no|expected"),
        (GOOD[:9], "ends within an object"),
        (GOOD[:-1], r"claims 2 x 3 values, but 23 bytes are left"),
        (GOOD + GOOD, "holds u twice"),
        (b"u \0BXX " + bytes(40), "is of type 'XX', expected FM, DM, CM"),
        (b"u \0BFV \4" + bytes(40), "is of type 'FV'"),
        (b"u \0BPKL" + bytes(40), "is of type"),
        (b"u \0BFM " + struct.pack("<bibi", 4, 2**31 - 1, 4, 2**31 - 1), "claims 2147483647 x 2147483647 values"),
        (b"u \0BFM " + struct.pack("<bibi", 4, -1, 4, -1) + bytes(8), "claims -1 x -1"),
        (b"u \0BFM " + struct.pack("<bibi", 8, 1, 4, 1) + bytes(8), "not 32 bits wide"),
        (b"u \0BCM " + struct.pack("<ffii", 0, 1, 2**30, 2**30), "claims 1073741824 x 1073741824"),
        (b"u \0BCM " + struct.pack("<ffii", 0, 1, 5, -3) + bytes(90), "claims 5 x -3"),
        (b"u \0B\4" + struct.pack("<i", 2**31 - 1), "claims 2147483647 x 1"),
        (b"u [ 1 2\n 3 4\n", "no closing bracket"),
        (b"\xff\xfe [ 1 ]\n", "holds a key that is not text"),
    ],
)
def test_hostile_archives(tmp_path, data, complaint):
    (tmp_path / "a.ark").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(DataError, match=complaint):
        read_matrix(read_index(tmp_path, "a.ark")["u"])
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"[ 1 2\n 3 ]", "not one of numbers"),
        (b"[ 1 x ]", "not one of numbers"),
        (b"[ 1_0 2 ]", "not one of numbers"),
        (b"1 2 3", "expected a matrix in brackets"),
        (ints([1, 2]), "expected a matrix of features"),
    ],
)
def test_no_matrices(tmp_path, text, complaint):
    put(tmp_path / "a.ark", {"u": text + b"\n"})
    with pytest.raises(DataError, match=complaint):
        read_matrix(read_index(tmp_path, "a.ark")["u"])


def test_no_whole_numbers(tmp_path):
    at = put(
        tmp_path / "a.ark",
        {"u": b"1 2.5\n", "v": b"1 99999999999\n", "x": b"1 1_0\n", "w": matrix(np.ones((1, 1), np.float32))},
    )
    complaints = {
        "u": "expected whole numbers",
        "v": "expected whole numbers",
        "x": "expected whole numbers",
        "w": "holds a matrix",
    }
    for key, complaint in complaints.items():
        with pytest.raises(DataError, match=complaint):
            read_ints(Entry(tmp_path / "a.ark", at[key]))
    bad = bytearray(ints([1, 2]))
    bad[7] = 8
    put(tmp_path / "b.ark", {"u": bytes(bad)})
    with pytest.raises(DataError, match="not 32 bits wide"):
        read_ints(read_index(tmp_path, "b.ark")["u"])


def test_text_that_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(ark, "MAX_TEXT", 1000)
    put(tmp_path / "a.ark", {"u": b"[ " + b"1 2\n" * 1000 + b"]\n"})
    with pytest.raises(DataError, match="longer than 1000 bytes"):
        read_index(tmp_path, "a.ark")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("u cat secret |", "is a pipe, standard input or a range"),
        ("u | rm -rf x", "is a pipe"),
        ("u gunzip -c a.gz|", "is a pipe"),
        ("u -", "is a pipe, standard input"),
        ("u a.ark:2[0:1]", "or a range"),
        ("u", "expected a key and the place"),
        ("u ../outside.ark:2", "leads out of"),
        ("u /etc/hostname", "leads out of"),
        ("u link.ark:2", "leads out of"),
        ("u folder", "is not a file"),
        ("u pipe", "is not a file"),
        ("u nothing.ark:5", "there is no file"),
        ("u a.ark:999999", "no object at byte 999999"),
        ("u a.ark:99999999999999999999999999", "no object at byte"),
        ("u a.ark:2\nu a.ark:2", "holds u twice"),
    ],
)
def test_hostile_scripts(tmp_path, line, complaint):
    root = tmp_path / "in"
    (root / "folder").mkdir(parents=True)
    put(tmp_path / "outside.ark", {"u": matrix(np.ones((1, 1), np.float32))})
    put(root / "a.ark", {"u": matrix(np.ones((1, 1), np.float32))})
    (root / "link.ark").symlink_to(tmp_path / "outside.ark")
    os.mkfifo(root / "pipe")
    (root / "a.scp").write_text(line + "\n")
    with pytest.raises(DataError, match=complaint):
        read_matrix(read_index(root, "a.scp")["u"])
    for name in ("../outside.ark", str(tmp_path / "outside.ark"), "link.ark"):
        with pytest.raises(DataError, match="leads out of"):
            read_index(root, name)


@given(st.data())
@settings(max_examples=150)
def test_any_damage_is_read_or_refused_in_words(tmp_path, data):
    objects = {
        "u": matrix(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "v": b"[ 1 2\n 3 4 ]\n",
        "w": b"\0BCM " + struct.pack("<ffii", 0, 1, 2, 1) + struct.pack("<4H", 0, 9, 99, 999) + b"\x01\x02",
        "x": ints([1, 2, 3]),
    }
    path = tmp_path / "a.ark"
    put(path, objects)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        for entry in read_index(tmp_path, "a.ark").values():
            for read in (read_matrix, read_ints):
                try:
                    assert read(entry).size <= len(content)
                except DataError:
                    continue
    except DataError as error:
        assert str(path) in str(error)


RECIPE = """
name = "k"
format = "kaldi"
context = 2
standardise = true
hold_out = 0.3
[kaldi]
pdf_map = "pdf.map"
[kaldi.train]
features = ["feats.scp"]
alignments = ["ali.1.ark", "ali.2.ark"]
"""


@pytest.fixture
def corpus(tmp_path):
    """A folder with features in one archive and alignments in two, one of them text; the class is a feature."""
    root = tmp_path / "kaldi"
    (root / "mfcc").mkdir(parents=True)
    rng = np.random.default_rng(2)
    held = {}
    for i in range(12):
        tids = rng.integers(1, 9, 3 + i)
        X = rng.normal(size=(len(tids), 4)).astype(np.float32)
        X[:, 0] = (tids - 1) // 2
        held[f"utt{i:02}"] = (X, tids)
    at = put(root / "mfcc/raw.ark", {key: matrix(X) for key, (X, _) in held.items()})
    (root / "feats.scp").write_text("".join(f"{key} mfcc/raw.ark:{offset}\n" for key, offset in at.items()))
    alignments = {key: tids for key, (_, tids) in held.items()}
    first, second = list(held)[:5], list(held)[5:]
    put(root / "ali.1.ark", {key: ints(alignments[key].tolist()) for key in first})
    put(root / "ali.2.ark", {key: " ".join(map(str, alignments[key])).encode() + b"\n" for key in second})
    (root / "pdf.map").write_text("".join(f"{tid} {(tid - 1) // 2}\n" for tid in range(1, 9)))
    (root / "k.toml").write_text(RECIPE)
    return root, held


def test_features_and_alignments_become_a_store(corpus, tmp_path, read_tree):
    root, held = corpus
    store = build(root / "k.toml", root, tmp_path / "k.zarr", n_partitions=3)
    assert verify(store) == []
    train, test = store["train"], store["test"]
    assert train.n_rows + test.n_rows == sum(len(X) for X, _ in held.values())
    assert train.n_features == 20 and train.n_classes == 4
    n_test = sum(len(load_utterances(test, j)) for j in range(test.n_partitions))
    assert n_test == 4
    for split in store.splits.values():
        for j in range(split.n_partitions):
            for X, y in load_utterances(split, j):
                np.testing.assert_array_equal(X[:, 0], y)
    assert store.manifest.header.standardisation is not None
    names = [source.name for source in store.manifest.header.sources]
    assert names == ["feats.scp", "ali.1.ark", "ali.2.ark", "pdf.map", "1 archives"]
    again = build(root / "k.toml", root, tmp_path / "l.zarr", n_partitions=3)
    assert read_tree(again.path) == read_tree(store.path)


def test_the_steps_of_a_corpus_give_the_bytes_of_build(corpus, tmp_path, read_tree):
    from hfnumba.ingest import finalise, init, write_partition

    root, _ = corpus
    out, n_partitions = init(root / "k.toml", root, tmp_path / "a.zarr", n_partitions=3)
    for j in (2, 0, 1):
        write_partition(out, j)
    assert n_partitions == 3
    whole = build(root / "k.toml", root, tmp_path / "b.zarr", n_partitions=3)
    assert read_tree(finalise(out).path) == read_tree(whole.path)


def test_a_corpus_that_changed_meanwhile(corpus, tmp_path):
    from hfnumba.ingest import init, write_partition

    root, _ = corpus
    out, n_partitions = init(root / "k.toml", root, tmp_path / "a.zarr", n_partitions=3)
    data = bytearray((root / "mfcc/raw.ark").read_bytes())
    data[-2] ^= 1
    (root / "mfcc/raw.ark").write_bytes(data)
    with pytest.raises(DataError, match="utt11 has changed since the store was begun"):
        for j in range(n_partitions):
            write_partition(out, j)


def drop_alignment(root):
    (root / "ali.1.ark").write_bytes(b"utt00 1 2 3\n")


def test_missing_utterances_are_counted_and_named(corpus, tmp_path):
    root, _ = corpus
    drop_alignment(root)
    with pytest.raises(DataError, match=r'4 utterances have no alignment: utt01, utt02, utt03, utt04; .*"skip"'):
        build(root / "k.toml", root, tmp_path / "k.zarr")
    (root / "k.toml").write_text(RECIPE.replace("[kaldi]", '[kaldi]\nmissing = "skip"'))
    reporter = Silent()
    store = build(root / "k.toml", root, tmp_path / "k.zarr", n_partitions=2, reporter=reporter)
    assert reporter.notes[0] == "train: 4 utterances have no alignment: utt01, utt02, utt03, utt04; they are left out"
    assert sum(len(load_utterances(s, j)) for s in store.splits.values() for j in range(s.n_partitions)) == 8


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("pdf.map", b"1 0\n2 0\n", r"utt\d+: \d+ of \d+ transitions are not in the pdf map; the first is \d at frame"),
        ("pdf.map", b"1\n", "expected lines of a transition id and a class number"),
        ("pdf.map", b"1 2\n1 2\n", "line 2: 1 2 is out of range or repeated"),
        ("pdf.map", b"1 999999999\n", "out of range"),
        ("pdf.map", b"", "is empty"),
        ("ali.1.ark", b"utt00 1 2\n" + b"".join(b"utt0%d 1\n" % i for i in range(1, 5)), "frames of features and"),
        ("ali.2.ark", b"utt00 1 2\n", "repeats utterances of another file: utt00"),
    ],
)
def test_faults_of_a_corpus(corpus, tmp_path, name, content, complaint):
    root, _ = corpus
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        build(root / "k.toml", root, tmp_path / "k.zarr")
    assert not (tmp_path / "k.zarr").exists()


def test_an_utterance_in_two_splits(corpus, tmp_path):
    root, _ = corpus
    with (root / "k.toml").open("a") as file:
        file.write('[kaldi.test]\nfeatures = ["feats.scp"]\nalignments = ["ali.1.ark", "ali.2.ark"]\n')
    with pytest.raises(DataError, match="in test and in another split too"):
        build(root / "k.toml", root, tmp_path / "k.zarr")


def test_pdf_maps(tmp_path):
    (tmp_path / "m").write_text("3 1\n\n1 0\n")
    assert read_pdf_map(tmp_path / "m").tolist() == [-1, 0, -1, 1]
    for text in ("1 1_0\n", "1\n", "1 2 3\n", "1 x\n", "9" * 5000 + " 1\n"):
        (tmp_path / "n").write_text(text)
        with pytest.raises(DataError, match="expected lines"):
            read_pdf_map(tmp_path / "n")
    with pytest.raises(DataError, match="expected lines"):
        read_pdf_map(tmp_path)
