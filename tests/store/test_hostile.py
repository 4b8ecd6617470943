"""Tests of the rows of the table "What is refused" in docs/data.md that no other file tests."""

import gzip
import os
import re
import struct
import tracemalloc

import google_crc32c
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError, StoreError
from hfnumba.ingest import datasets_dir, write_store
from hfnumba.ingest.sources.idx import read_idx
from hfnumba.linux import empty
from hfnumba.store import codec, files, manifest, open_store
from hfnumba.store.class_weights import balanced
from hfnumba.store.info import survey
from hfnumba.store.layout import MAX_CHUNK_BYTES, SplitLayout, chunking
from hfnumba.store.verify import verify


@pytest.mark.parametrize("title", ["What is refused", "What is decided about unusual files, and what is refused"])
def test_every_row_of_the_table_is_held_by_tests_that_exist(title):
    text = (datasets_dir().parent / "docs/data.md").read_text()
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    tests = datasets_dir().parent / "tests"
    modules = [*(tests / "store").glob("test_*.py"), *(tests / "ingest").glob("test_*.py")]
    known = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in modules), re.MULTILINE))
    assert len(rows) >= 13
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named and set(named) <= known, row


def frame(claimed, block=300, packed=36, body=bytes(20)):
    """A Blosc frame with the sizes given in its header, and the checksum that Zarr appends."""
    data = b"\x02\x01\x20\x01" + struct.pack("<III", claimed, block, packed) + body
    return data + struct.pack("<I", google_crc32c.value(data))


def resealed(store, key, data):
    """Put a forged chunk into a store, with a matching manifest."""
    (store.path / key).write_bytes(data)
    records = store.manifest.files | {key: files.record(data)}
    (store.path / "manifest.json").write_bytes(manifest.sealed(store.manifest.header, records))
    return open_store(store.path)


@pytest.mark.parametrize("header", ["[" * 200_000, '{"a":' * 200_000 + "1" + "}" * 200_000])
def test_a_manifest_that_is_nested_deeply(tmp_path, header):
    text = f'{{"schema": "hfnumba-store", "schema_version": {manifest.VERSION}, "header": {header}}}'
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize("claimed", [2**31, 2**32 - 1, 0, 301])
def test_a_chunk_whose_frame_claims_terabytes(store, claimed):
    bad = resealed(store, "train/X/c/1/0", frame(claimed))
    tracemalloc.start()
    with pytest.raises(StoreError, match=f"X/c/1/0 claims {claimed} bytes, expected 300"):
        bad["train"].load(1)
    assert len(verify(bad)) == 1
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    bad["train"].load(0)


@pytest.mark.parametrize("lie", [{"packed": 35}, {"packed": 2**31}, {"block": 0}, {"block": 2**31}])
def test_a_frame_that_does_not_fit_its_bytes(store, lie):
    """The decoder would read beyond the frame, or allocate a huge block."""
    bad = resealed(store, "train/X/c/1/0", frame(300, **lie))
    with pytest.raises(StoreError, match=r"X/c/1/0 claims a frame of .* bytes in blocks of"):
        bad["train"].load(1)


@given(st.binary(max_size=60), st.integers(0, 2**8 - 1), st.integers(1, 2**18))
@settings(max_examples=100)
def test_any_frame_whose_header_fits_is_decoded_or_refused_in_words(store, body, flags, block):
    data = bytearray(frame(300, block, 16 + len(body), body)[:-4])
    data[2] = 0x20 | flags & 0x1F
    data += struct.pack("<I", google_crc32c.value(bytes(data)))
    try:
        X, _ = resealed(store, "train/X/c/1/0", bytes(data))["train"].load(1)
        assert X.shape == (25, 12)
    except StoreError as error:
        assert "partition 1 of train cannot be decoded" in str(error)


@pytest.mark.parametrize("data", [b"", b"\x02\x01\x20\x01", b"\x02\x01\x80\x01" + bytes(40), b"x" * 50])
def test_a_chunk_that_is_no_frame(store, data):
    with pytest.raises(StoreError, match="partition 2 of train cannot be decoded"):
        resealed(store, "train/y/c/2", data)["train"].load(2)


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_with_the_right_digest_are_refused_in_words(store, data):
    with pytest.raises(StoreError, match="partition 0 of test cannot be decoded"):
        resealed(store, "test/X/c/0/0", b"\x02\x01\x20\x01" + data)["test"].load(0)


@pytest.mark.parametrize("change", [{"chunk_rows": 2**40, "partition_rows": 2**40}, {"n_features": 2**50}])
def test_a_manifest_whose_layout_claims_terabytes(store, change):
    header = store.manifest.header
    data = msgspec.json.decode((store.path / "manifest.json").read_bytes())
    data["header"]["splits"]["train"].update(change)
    (store.path / "manifest.json").write_bytes(msgspec.json.encode(data))
    with pytest.raises(StoreError, match=f"damaged.*at most {MAX_CHUNK_BYTES} bytes"):
        open_store(store.path)
    assert header.splits["train"].n_rows == 100


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"chunk_rows": 2**24, "partition_rows": 2**24}, "no larger chunks and partitions than for 100 rows"),
        ({"partition_rows": 25 * 2**20}, "no larger chunks and partitions than for 100 rows"),
        ({"n_rows": 2**24, "chunk_rows": 2**23, "partition_rows": 2**23}, "chunks of at most 16777216 bytes, or"),
    ],
)
def test_chunks_that_are_mostly_padding(store, change, complaint):
    """Chunks of 512 MiB in a store of 2 MB took minutes to read, or more memory than there was."""
    data = msgspec.json.decode((store.path / "manifest.json").read_bytes())
    data["header"]["splits"]["train"].update(change)
    (store.path / "manifest.json").write_bytes(msgspec.json.encode(data))
    for read in (open_store, verify):
        with pytest.raises(StoreError, match=f"damaged.*{complaint}"):
            read(store.path)


@given(st.integers(1, 10**7), st.integers(1, 10**5), st.integers(1, 1000), st.booleans())
def test_every_layout_that_is_written_can_be_read(n_rows, n_features, n_partitions, frames):
    chunk_rows, partition_rows = chunking(n_rows, n_features * 4, 1 if frames else n_partitions)
    layout = SplitLayout(
        n_rows=2 * n_rows if frames else n_rows,
        n_features=n_features,
        n_outputs=None,
        x_dtype="float32",
        y_dtype="uint8",
        chunk_rows=chunk_rows,
        partition_rows=partition_rows,
        partition_sizes=(n_rows, n_rows) if frames else None,
    )
    assert layout.n_rows >= n_rows


def test_labels_beyond_the_classes_of_the_manifest(store):
    """The counts of classes had another length, which was an error of NumPy."""
    header = msgspec.structs.replace(store.manifest.header, n_classes=2)
    (store.path / "manifest.json").write_bytes(manifest.sealed(header, store.manifest.files))
    bad = open_store(store.path)
    for read in (survey, lambda found: balanced(found["train"])):
        with pytest.raises(StoreError, match=r"partition 0 of train has labels from 0 to 2, expected 0 to 1; delete"):
            read(bad)
    assert any("has labels from 0 to 2, expected 0 to 1" in problem for problem in verify(bad))


def test_a_partition_that_does_not_fit_into_memory(store, monkeypatch):
    def no_memory(*_):
        raise MemoryError("Cannot allocate memory")

    monkeypatch.setattr(codec, "empty", no_memory)
    with pytest.raises(StoreError, match="not enough memory for partition 1 of train, 25 rows of 12 features;"):
        store["train"].load(1)


def test_memory_that_the_system_refuses(monkeypatch):
    with pytest.raises(MemoryError, match="cannot allocate 4611686018427387904 bytes"):
        empty((2**62,), np.uint8)


@pytest.mark.parametrize(
    ("sizes", "context", "complaint"),
    [
        ((5, 6), 0, "expected partitions of 1 to"),
        ((5, 4, 1, 0), 0, "expected partitions of 1 to"),
        ((11, -1), 0, "expected partitions of 1 to"),
        ((), 0, "expected partitions of 1 to"),
        ((8, 2), -1, "expected a context of 0 to"),
        ((8, 2), 10**9, "expected a context of 0 to"),
        (None, 4, "expected context for frames only"),
    ],
)
def test_frames_that_cannot_be(sizes, context, complaint):
    with pytest.raises(ValueError, match=complaint):
        SplitLayout(
            n_rows=10,
            n_features=2,
            n_outputs=None,
            x_dtype="float32",
            y_dtype="uint8",
            chunk_rows=4,
            partition_rows=8,
            partition_sizes=sizes,
            context=context,
        )


def test_a_bomb_takes_bounded_memory_whatever_it_is_called(tmp_path):
    """10 MB of zeros in 10 KB: the source reads no more than the header gives."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + bytes(10 * 2**20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_store_opens_no_file_but_its_own(tmp_path, arrays):
    """A chunk that is a link to another file is read, but only bytes with the right digest are decoded."""
    store = write_store(tmp_path / "s.zarr", arrays, n_partitions=4)
    chunk = store.path / "train/X/c/0/0"
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(chunk.stat().st_size))
    chunk.unlink()
    chunk.symlink_to(secret)
    with pytest.raises(StoreError, match="has the digest"):
        store["train"].load(0)
    assert np.isfinite(store["train"].load(1)[0]).all()
