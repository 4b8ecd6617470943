"""Long fuzzing of each parser of foreign files with damaged and arbitrary bytes: `-m slow`.

A parser reads, or raises a DataError; anything else fails. The same is tried briefly in the tests of each source.
HFNUMBA_FUZZ_EXAMPLES is the number of files for each parser, 500 unless given.
"""

import os

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError
from hfnumba.formats import ark, lab
from hfnumba.formats.speech import read_samples
from hfnumba.ingest import sources
from hfnumba.ingest.recipe_tables import ArrayOptions, ArraySplit, SpeechOptions, TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources import idx, kaldi, npy, npz, timit


def idx_file(path):
    path.write_bytes(b"\0\0\x08\x02\0\0\0\x03\0\0\0\x04" + bytes(range(12)))


def npz_file(path):
    with path.open("wb") as file:
        np.savez_compressed(file, X=np.arange(40.0).reshape(20, 2), y=np.arange(20))


def ark_file(path):
    X = np.arange(6, dtype="<f4").reshape(2, 3)
    path.write_bytes(b"u \0BFM \4\2\0\0\0\4\3\0\0\0" + X.tobytes() + b"v [ 1 2\n 3 4 ]\nw \0B\4\1\0\0\0\4\7\0\0\0")


def text_file(text):
    return lambda path: path.write_bytes(text)


def wav_file(path):
    soundfile = pytest.importorskip("soundfile", reason="soundfile, of hfnumba[speech], is not installed")
    soundfile.write(path, np.zeros(50), 16_000, format="WAV", subtype="PCM_16")


def parquet_file(path):
    missing = "pyarrow, of hfnumba[tables], is not installed"
    pa, pq = (pytest.importorskip(name, reason=missing) for name in ("pyarrow", "pyarrow.parquet"))
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0, 4.0], "k": [0, 1, 0, 1]}), path)


def hdf5_file(path):
    h5py = pytest.importorskip("h5py", reason="h5py, of hfnumba[tables], is not installed")
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.arange(8.0).reshape(4, 2), compression="gzip", shuffle=True)
        file["k"] = [0, 1, 0, 1]


def table(format_name):
    recipe = Recipe(name="t", format=format_name, table=TableOptions(train=("a",), label="k"))
    return lambda path: sources.read(recipe, {"source": path.parent}, 0)


def npy_file(path):
    with path.open("wb") as file:
        np.save(file, np.arange(12.0).reshape(4, 3))


def zarr_file(document, compressors):
    """An array whose metadata or chunk is the damaged file."""

    def make(path):
        version = 2 if document == ".zarray" else 3
        array = zarr.create_array(
            path.parent / "X", shape=(8, 2), chunks=(4, 2), dtype="f4", zarr_format=version, compressors=compressors
        )
        array[:] = np.arange(16).reshape(8, 2) + 1
        labels = zarr.create_array(path.parent / "y", shape=(8,), dtype="u1", zarr_format=3)
        labels[:] = np.arange(8) % 2
        part = path.parent / "X" / document
        path.write_bytes(part.read_bytes())
        part.unlink()
        part.symlink_to(path)

    return make


def zarr_array(path):
    pair = ArraySplit(features=("X",), labels=("y",))
    sources.read(Recipe(name="t", format="zarr", arrays=ArrayOptions(train=pair)), {"source": path.parent}, 0)


def archive(path):
    for entry in kaldi.read_index(path.parent, path.name).values():
        for read in (ark.read_matrix, ark.read_ints):
            try:
                read(entry)
            except DataError:
                continue


PARSERS = {
    "idx": (idx_file, idx.read_idx),
    "npz": (npz_file, lambda path: npz.read_npz(path, npz.names_of(path))),
    "ark": (ark_file, archive),
    "pdf map": (text_file(b"1 0\n2 1\n"), kaldi.read_pdf_map),
    "lab": (text_file(b"#\n0.3 125 pau\n0.6 125 k\n"), lambda path: lab.read_lab(path, 0.6)),
    "htk lab": (text_file(b"0 3000000 pau_s2 -1 pau\n3000000 6000000 pau_s3\n"), lambda path: lab.read_lab(path, 0.6)),
    "phn": (text_file(b"0 1600 h#\n1600 4800 sh\n"), lambda path: timit.read_phn(path, 16_000)),
    "wav": (wav_file, lambda path: read_samples(path, SpeechOptions())),
    "csv": (text_file(b"x,k\n1,0\n2,1\n3,0\n"), table("csv")),
    "libsvm": (text_file(b"0 1:1\n1 2:2\n0 1:3\n"), table("libsvm")),
    "parquet": (parquet_file, table("parquet")),
    "hdf5": (hdf5_file, table("hdf5")),
    "npy": (npy_file, npy.map_npy),
    "zarr 2": (zarr_file(".zarray", None), zarr_array),
    "zarr 3": (zarr_file("zarr.json", None), zarr_array),
    "blosc chunk": (zarr_file("c/0/0", zarr.codecs.BloscCodec()), zarr_array),
    "zstd chunk": (zarr_file("c/0/0", zarr.codecs.ZstdCodec()), zarr_array),
}

EXAMPLES = int(os.environ.get("HFNUMBA_FUZZ_EXAMPLES", "500"))
WORDS = [
    *(b"_", b"-", b"\xc2\xb2", b"nan", b"1e999", b"9" * 20, b"9" * 400, b"9" * 5000, b"0, " + b"9" * 19),
    *(b"\n", b" ", b"\0", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7),
]
"""Inputs that changes of single bytes rarely produce: digits that are not numbers, and numbers out of range."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARSERS)
def test_fuzz(tmp_path, kind):
    make, parse = PARSERS[kind]
    path = tmp_path / "a"
    make(path)
    good = path.read_bytes()
    parse(path)

    @given(st.data())
    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    def run(data):
        content = bytearray(good)
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            at, word = data.draw(st.integers(0, len(content))), data.draw(st.sampled_from(WORDS))
            content[at : at + (len(word) if data.draw(st.booleans()) else 0)] = word
        cut = data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else len(content)
        path.write_bytes(bytes(content[:cut]) + data.draw(st.binary(max_size=20)))
        try:
            parse(path)
        except DataError as error:
            assert str(error)

    run()
