import os
from pathlib import Path

import numpy as np
import pytest

from hfnumba.errors import DataError
from hfnumba.formats.lab import FESTVOX, HTK, SECONDS, read_lab
from hfnumba.ingest import build
from tests.ingest.test_speech import tone, write_wav
from tests.silent import Silent
from tests.utterances import load_utterances

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "a.lab"
    path.write_text(text, encoding)
    return path


# One utterance of a second: pause to 0.3 s, k to 0.65 s, pause to 1 s.
SPOKEN = [("pau", 0.0, 0.3), ("k", 0.3, 0.65), ("pau", 0.65, 1.0)]
FESTVOX_LINES = "0.3 125 pau\n0.65 125 k\n1.0 125 pau\n"
DIALECTS = {
    "festvox": (FESTVOX, "separator ;\nnfields 1\n#\n" + FESTVOX_LINES),
    "festvox without a header": (FESTVOX, FESTVOX_LINES),
    "other colours": (FESTVOX, "#\n0.3 121 pau\n0.65 26 k\n1.0 121 pau\n"),
    "htk": (HTK, "0 3000000 pau\n3000000 6500000 k\n6500000 10000000 pau\n"),
    "htk, scores": (HTK, "0 3000000 pau -12.5\n3000000 6500000 k -9e1 word\n6500000 10000000 pau -1\n"),
    "htk, gaps of a frame": (HTK, "000000 2900000 pau\n3000000 6400000 k\n6500000 10000000 pau\n"),
    "htk, triphones": (HTK, "0 3000000 pau+k\n3000000 6500000 pau-k+pau\n6500000 10000000 k-pau\n"),
    "htk, states of HTS": (
        HTK,
        "0 1000000 x^x-pau+k=x@1[2]\n1000000 3000000 x^x-pau+k=x@1[3]\n3000000 6500000 x^pau-k+pau=x@2[2]\n"
        "6500000 9000000 k^k-pau+x=x@3[2]\n9000000 10000000 k^k-pau+x=x@3[3]\n",
    ),
    "htk, states of phones": (
        HTK,
        "0 1000000 pau_s2 -136.6 pau -589.7 pau\n1000000 3000000 pau_s3 -145\n3000000 5000000 k_s2 -3 k\n"
        "5000000 6500000 k_s4 -3\n6500000 9000000 pau_s2 -8 pau\n9000000 10000000 pau_s4 -8\n",
    ),
    "htk, numbered states": (
        HTK,
        "0 1000000 s2 -136.6 pau -589.7\n1000000 3000000 s3 -145\n3000000 6500000 s2 -3 k -4\n"
        "6500000 9000000 s2 -8 pau\n9000000 10000000 s3 -8\n",
    ),
    "seconds": (SECONDS, "0.0 0.3 pau\n0.3 0.65 k\n0.65 1.0 pau\n"),
    "seconds, scores": (SECONDS, "0 0.3 pau 0.9\n0.3 0.65 k 0.8\n0.65 1 pau 1\n"),
    "seconds of a Windows program": (SECONDS, "\ufeff0.0\t0.3\tpau\r\n0.3\t0.65\tk\r\n0.65\t1.0\tpau\r\n"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_of_labels(tmp_path, name):
    dialect, text = DIALECTS[name]
    found = read_lab(written(tmp_path, text), 1.0)
    assert (found.dialect, found.of_states) == (dialect, "states" in name)
    assert found.spoken.phones == ("pau", "k", "pau")
    ends = [0.29, 0.64, 1.0] if "gaps" in name else [0.3, 0.65, 1.0]
    np.testing.assert_allclose(found.spoken.ends, ends)
    assert found.spoken.start == 0


@pytest.mark.parametrize("name", DIALECTS)
def test_each_frame_gets_its_phone_in_every_dialect(tmp_path, name):
    """With lines in seconds read as those of Festvox, 5 % of the frames got the right phone."""
    root = tmp_path / "voice"
    for kind in ("wav", "lab"):
        (root / kind).mkdir(parents=True)
    for i in range(2):
        write_wav(root / f"wav/u{i}.wav", tone(16_000, i))
        (root / f"lab/u{i}.lab").write_text(DIALECTS[name][1], "utf-8")
    reporter = Silent()
    store = build("festvox-ru", root, tmp_path / "v.zarr", reporter=reporter)
    classes = store.manifest.header.classes
    assert classes == ("k", "pau")
    ((_, y),) = load_utterances(store["train"], 0)
    middles = 0.0125 + 0.01 * np.arange(98)
    expected = [next(phone for phone, start, end in SPOKEN if start <= t < end) for t in middles]
    right = np.array([classes[k] for k in y]) == expected
    assert right.sum() >= (96 if "gaps" in name else 98)
    (note,) = [note for note in reporter.notes if note.startswith("The labels")]
    assert DIALECTS[name][0] in note and ("joined to phones" in note) == ("states" in name)


def test_thirds_are_those_of_the_phone_and_not_of_its_states(tmp_path):
    root = tmp_path / "voice"
    for kind in ("wav", "lab"):
        (root / kind).mkdir(parents=True)
    for i in range(2):
        write_wav(root / f"wav/u{i}.wav", tone(16_000, i))
        (root / f"lab/u{i}.lab").write_text("0 100000 a[2]\n100000 200000 a[3]\n200000 10000000 a[4]\n")
    path = tmp_path / "t.toml"
    path.write_text('name = "t"\nformat = "festvox"\n[speech]\nstates = 3\n')
    store = build(path, root, tmp_path / "v.zarr")
    assert store.manifest.header.classes == ("a_0", "a_1", "a_2")
    ((_, y),) = load_utterances(store["train"], 0)
    np.testing.assert_array_equal(y, np.floor(3 * (0.0125 + 0.01 * np.arange(98))))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no labels"),
        ("#\n", "holds no labels"),
        ("0.5 125\n", "not a file of labels: expected lines"),
        ("#!MLF!#\n", "not a file of labels: expected lines"),
        ("x 125 a\n", "not a file of labels"),
        ("0.5 125 a\n0.4 125 b\n", "times of label 2 do not follow"),
        ("nan 125 a\n", "times of label 1 do not follow"),
        ("inf 125 a\n", "times of label"),
        ("-1 125 a\n", "times of label 1"),
        ("0 5000000 a\n6000000 9000000 b\n", "label 2 does not begin where the one before it ends"),
        ("0 5000000 a\n5000000 3000000 b\n", "times of label 2"),
        ("\xff", "the text is not UTF-8"),
        ("1_0 125 a\n", "not a file of labels"),
        ("0 1\xc2\xb2 a\n", "not a file of labels"),
        ("0 " + "9" * 400 + " a\n", "not a file of labels"),
        # Milliseconds, samples, starts with durations, scores before labels, a decimal comma.
        ("0 300 pau\n300 1000 k\n", "in units of 100 ns, of HTK: all labels end within 25 ms; as .* at 1000.00 s"),
        ("0 4800 pau\n4800 16000 k\n", "not a file of labels for a recording of 1.00 s"),
        ("0.0 0.3 pau\n0.3 0.35 k\n0.65 0.35 pau\n", "does not begin where the one before it ends"),
        ("0 3000000 -12.5 pau\n3000000 10000000 -9 k\n", "the third words are numbers, and words follow"),
        ("0,0 0,3 pau\n0,3 1,0 k\n", "not a file of labels"),
        # Labels of another recording.
        ("0.3 125 pau\n9 125 k\n", "the labels end at 9.00 s, the recording at 1.00 s"),
        # A colour and an end, or a start and an end.
        (
            "0.5 1 a\n",
            "can be read as lines `end colour phone` in seconds, of Festvox or as lines `start end label` in",
        ),
    ],
)
def test_bad_labels_of_recordings(tmp_path, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_lab(written(tmp_path, text, "latin-1"), 1.0)


def test_real_labels_of_htk():
    root = os.environ.get("HFNUMBA_DATA")
    if not root or not (Path(root) / "arctic").is_dir():
        pytest.skip("HFNUMBA_DATA names no folder with the real arctic/: real labels are not tested")
    phones, states = (
        read_lab(Path(root) / f"arctic/arctic_a0009_{name}.lab", 3.0).spoken for name in ("phone", "state")
    )
    assert phones.phones[0] == "sil" and set(phones.phones) > {"hh", "iy", "er"}
    assert phones.ends[-1] == pytest.approx(3.0, abs=0.3)
    # The same alignment, once by phone and once by state.
    assert states.phones == phones.phones
    np.testing.assert_allclose(states.ends, phones.ends)


@pytest.mark.parametrize(("encoding", "named"), [("utf-16", "the text is UTF-16"), ("latin-1", "perhaps Latin-1")])
def test_a_file_that_is_not_utf8_is_told_its_encoding(tmp_path, encoding, named):
    (tmp_path / "a.lab").write_text("0.5 125 ö\n1.0 125 b\n", encoding)
    with pytest.raises(DataError, match=rf"a\.lab cannot be read: .*{named}"):
        read_lab(tmp_path / "a.lab", 1.0)
