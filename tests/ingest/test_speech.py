import os
import re
import struct
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError, UsageError
from hfnumba.formats.extras import require
from hfnumba.formats.speech import Segments, frame_labels, log_mel, read_samples
from hfnumba.ingest import build, finalise, init, write_partition
from hfnumba.ingest.recipe_tables import SpeechOptions
from hfnumba.ingest.sources import timit
from hfnumba.store.verify import verify
from tests.silent import Silent
from tests.utterances import load_utterances

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")
OPTIONS = SpeechOptions()


def real(name):
    root = os.environ.get("HFNUMBA_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"HFNUMBA_DATA names no folder with the real {name}/: real speech is not tested")
    return Path(root) / name


def tone(n, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 16_000
    return (3000 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t) + 300 * rng.normal(size=n)).astype("<i2")


def write_wav(path, samples, rate=16_000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def sphere(samples, rate=16_000, claimed=None):
    """A NIST SPHERE file like those of TIMIT: a header of 1024 bytes of text, then 16-bit samples."""
    fields = [
        "NIST_1A", "   1024", "database_id -s5 TIMIT", "sample_count -i " + str(claimed or len(samples)),
        f"sample_rate -i {rate}", "channel_count -i 1", "sample_n_bytes -i 2", "sample_byte_format -s2 01",
        "sample_sig_bits -i 16", "sample_coding -s3 pcm", "end_head",
    ]  # fmt: skip
    return "\n".join(fields).encode().ljust(1023) + b"\n" + samples.tobytes()


def test_frames_are_labelled_by_their_middle():
    spoken = Segments(np.array([0.02, 0.05, 0.1]), ("a", "b", "a"))
    # Middles at 12.5, 22.5, 32.5, 42.5, 52.5, … ms.
    assert frame_labels("u", 6, spoken, {"a": 0, "b": 1}, 1).tolist() == [0, 1, 1, 1, 0, 0]
    assert frame_labels("u", 12, spoken, {"a": 0, "b": 1}, 3).tolist() == [1, 3, 4, 5, 0, 0, 1, 1, 2, 2, 2, 2]
    late = Segments(np.array([0.06, 0.09]), ("b", "a"), start=0.03)
    assert frame_labels("u", 3, late, {"a": 0, "b": 1}, 3).tolist() == [3, 3, 3]


def test_labels_of_another_recording():
    with pytest.raises(DataError, match=r"u: the labels end at 9.00 s, the recording at 1.0[12] s"):
        frame_labels("u", 100, Segments(np.array([9.0]), ("a",)), {"a": 0}, 1)


def test_features_are_kaldi_s_and_the_same_each_time(tmp_path):
    samples = tone(8000)
    write_wav(tmp_path / "a.wav", samples)
    X = log_mel(tmp_path / "a.wav", OPTIONS)
    assert X.shape == (1 + (8000 - 400) // 160, 40) and X.dtype == np.float32
    np.testing.assert_array_equal(X, log_mel(tmp_path / "a.wav", OPTIONS))
    # By definition, in NumPy: pre-emphasis, Povey's window, power spectrum, triangles on the mel scale.
    np.testing.assert_allclose(X, mel_oracle(samples.astype(float)), atol=2e-3)


def mel_oracle(x):
    def mel(f):
        return 1127 * np.log(1 + f / 700)

    frames = np.stack([x[t : t + 400] for t in range(0, len(x) - 399, 160)])
    frames -= frames.mean(axis=1, keepdims=True)
    frames = np.concatenate([frames[:, :1] * 0.03, frames[:, 1:] - 0.97 * frames[:, :-1]], axis=1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames * window, 512)) ** 2
    edges = np.linspace(mel(20), mel(8000), 42)
    at = mel(np.arange(257) * 16_000 / 512)
    up = (at - edges[:-2, None]) / np.diff(edges)[0]
    down = (edges[2:, None] - at) / np.diff(edges)[0]
    weights = np.clip(np.minimum(up, down), 0, None)
    weights[:, 256] = 0
    return np.log(power @ weights.T)


def test_wav_and_sphere_hold_the_same_samples(tmp_path):
    samples = tone(1000)
    write_wav(tmp_path / "a.wav", samples)
    (tmp_path / "b.WAV").write_bytes(sphere(samples))
    for name in ("a.wav", "b.WAV"):
        np.testing.assert_array_equal(read_samples(tmp_path / name, OPTIONS), samples)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda p: p.write_bytes(b""), "not a recording"),
        (lambda p: p.write_bytes(b"RIFF" + bytes(60)), "not a recording"),
        (lambda p: p.write_bytes(sphere(tone(500), claimed=2**40)), "claims 1099511627776 samples and holds"),
        (lambda p: p.write_bytes(sphere(tone(500), claimed=900)), "claims 900 samples and holds 500"),
        (lambda p: (write_wav(p, tone(500)), p.write_bytes(p.read_bytes()[:-100])), "claims 500 samples and holds 450"),
        (lambda p: write_wav(p, tone(500), rate=8000), "1 channels at 8000 Hz, expected 1 at 16000"),
        (lambda p: write_wav(p, tone(500), channels=2), "2 channels at 16000 Hz"),
        (lambda p: write_wav(p, tone(399)), "shorter than a frame of 25 ms"),
        (lambda p: None, "not a recording|cannot be read"),
    ],
)
def test_hostile_recordings(tmp_path, make, complaint):
    make(tmp_path / "a.wav")
    with pytest.raises(DataError, match=complaint):
        log_mel(tmp_path / "a.wav", OPTIONS)


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_recording_is_read_or_refused_in_words(tmp_path, data):
    content = bytearray(sphere(tone(500)) if data.draw(st.booleans()) else sphere(tone(40)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.wav").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert len(read_samples(tmp_path / "a.wav", OPTIONS)) <= len(content)
    except DataError as error:
        assert "a.wav" in str(error)


FESTVOX = "separator ;\nnfields 1\n#\n0.3 125 pau\n0.6 125 k\n0.9 125 pau\n"


@pytest.fixture
def voice(tmp_path):
    root = tmp_path / "voice"
    for kind in ("wav", "lab"):
        (root / kind).mkdir(parents=True)
    for i in range(6):
        write_wav(root / f"wav/u{i}.wav", tone(16_000, i))
        (root / f"lab/u{i}.lab").write_text(FESTVOX if i else FESTVOX.replace("k", "a"))
    return root


def test_a_voice_becomes_a_store(voice, tmp_path, read_tree):
    store = build("festvox-ru", voice, tmp_path / "v.zarr", n_partitions=2, seed=1)
    assert verify(store) == []
    train, test = store["train"], store["test"]
    assert (train.n_features, train.n_classes, train.layout.context) == (360, 3, 4)
    assert store.manifest.header.classes == ("a", "k", "pau")
    assert train.n_rows == 5 * 98 and test.n_rows == 98
    X = np.concatenate([u for s in (train, test) for j in range(s.n_partitions) for u, _ in load_utterances(s, j)])
    # Normalised over all frames of the speaker, including those of the test split.
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(X.std(axis=0), 1, rtol=1e-4)
    labels = np.bincount(np.concatenate([train.load(j)[1] for j in range(2)]), minlength=3)
    assert labels.sum() == 490 and labels[2] == 5 * 68
    names = [source.name for source in store.manifest.header.sources]
    assert names == ["wav/*.wav (6 files)", "lab/*.lab (6 files)"]
    # An unpacked Debian package and a given folder have the same bytes.
    unpacked = tmp_path / "deb/usr/share/festival/voices/russian"
    unpacked.mkdir(parents=True)
    voice.rename(unpacked / "v")
    again = build("festvox-ru", tmp_path / "deb", tmp_path / "w.zarr", n_partitions=2, seed=1)
    assert read_tree(again.path) == read_tree(store.path)


def test_the_steps_of_a_voice_give_the_bytes_of_build(voice, tmp_path, read_tree):
    """Each partition is normalised with the numbers of the speaker in the plan."""
    out, n_partitions = init("festvox-ru", voice, tmp_path / "a.zarr", n_partitions=3)
    for j in reversed(range(n_partitions)):
        write_partition(out, j)
    whole = build("festvox-ru", voice, tmp_path / "b.zarr", n_partitions=3)
    assert read_tree(finalise(out).path) == read_tree(whole.path)


def test_utterances_are_held_out_whole_for_validation(voice, tmp_path, read_tree):
    options = {"n_partitions": 2, "seed": 1, "validation": 0.3}
    store = build("festvox-ru", voice, tmp_path / "v.zarr", **options)
    # 2 of 5 utterances of 98 frames; standardisation is that of the other three.
    assert {name: split.n_rows for name, split in store.splits.items()} == {"train": 294, "validation": 196, "test": 98}
    plain = build("festvox-ru", voice, tmp_path / "p.zarr", n_partitions=2, seed=1)
    frames = {name: stored_utterances(split) for name, split in store.splits.items()}
    assert [len(frames[name]) for name in ("train", "validation", "test")] == [3, 2, 1]
    assert sorted(frames["train"] + frames["validation"]) == sorted(stored_utterances(plain["train"]))
    assert frames["test"] == stored_utterances(plain["test"])
    path, n_partitions = init("festvox-ru", voice, tmp_path / "w.zarr", **options)
    for j in range(n_partitions):
        write_partition(path, j)
    assert read_tree(finalise(path).path) == read_tree(store.path)


def stored_utterances(split):
    """The utterances of a split as stored, not standardised, in bytes."""
    found = []
    for j in range(split.n_partitions):
        ends = np.flatnonzero(split.load_compact(j)["start"])[1:]
        found += [utterance.tobytes() for utterance in np.split(split.load_stored(j)[0], ends)]
    return found


def test_utterances_without_their_other_half(voice, tmp_path):
    (voice / "lab/u1.lab").unlink()
    (voice / "wav/u2.wav").unlink()
    reporter = Silent()
    store = build("festvox-ru", voice, tmp_path / "v.zarr", reporter=reporter)
    assert store["train"].n_rows + store["test"].n_rows == 4 * 98
    assert reporter.notes == [
        "1 utterances have no labels and are left out; the first is u1",
        "1 utterances have no recording and are left out; the first is u2",
        "The labels of 4 recordings are read as lines `end colour phone` in seconds, of Festvox",
        "The task is classification with 3 classes: 'a', 'k', 'pau'",
    ]


def test_links_out_of_a_voice_are_not_followed(voice, tmp_path):
    outside = tmp_path / "outside.wav"
    (voice / "wav/u1.wav").rename(outside)
    (voice / "wav/u1.wav").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of"):
        build("festvox-ru", voice, tmp_path / "v.zarr")
    linked = tmp_path / "linked/usr/share/festival/voices/x"
    linked.mkdir(parents=True)
    (linked / "v").symlink_to(voice)
    with pytest.raises(DataError, match="leads out of"):
        build("festvox-ru", tmp_path / "linked", tmp_path / "v.zarr")


def test_no_voice(tmp_path):
    with pytest.raises(DataError, match="has no folders wav and lab"):
        build("festvox-ru", tmp_path, tmp_path / "v.zarr")
    with pytest.raises(UsageError, match="name it with --source DIR"):
        build("festvox-ru", out=tmp_path / "v.zarr")
    for kind in ("wav", "lab"):
        (tmp_path / kind).mkdir()
    with pytest.raises(DataError, match=r"has no recording wav/NAME\.wav with labels"):
        build("festvox-ru", tmp_path, tmp_path / "v.zarr")


def test_a_library_that_is_not_there():
    with pytest.raises(DataError, match=r"needs nosuchlib.*pip install 'hfnumba\[speech\]'"):
        require("nosuchlib", "speech")


def test_real_russian_speech(tmp_path):
    store = build("festvox-ru", real("festvox-ru"), tmp_path / "v.zarr", n_partitions=3)
    assert verify(store) == []
    assert store["train"].n_features == 360 and "pau" in store.manifest.header.classes
    X, y = store["train"].load(0)
    pause = store.manifest.header.classes.index("pau")
    # Pauses are quieter than speech in every band of the frame itself.
    assert (X[y == pause, 160:200].mean(axis=0) < X[y != pause, 160:200].mean(axis=0)).all()


PHN = "0 1600 h#\n1600 4800 sh\n4800 8000 ix\n8000 9600 q\n9600 16000 h#\n"


@pytest.fixture(params=["upper", "lower"])
def ldc(tmp_path, request):
    """The layout of LDC93S1, with two training speakers, two core test speakers and another test speaker."""
    root = tmp_path / "ldc"
    for folder, speaker in (
        ("TRAIN/DR1", "FCJF0"),
        ("TRAIN/DR2", "MABC0"),
        ("TEST/DR1", "MDAB0"),
        ("TEST/DR8", "FMLD0"),
        ("TEST/DR1", "MXYZ0"),
    ):
        for i, sentence in enumerate(("SA1", "SX127", "SI648")):
            path = root / "TIMIT" / folder / speaker / sentence
            if request.param == "lower":
                path = root / str(path.relative_to(root)).lower()
            path.parent.mkdir(parents=True, exist_ok=True)
            upper = request.param == "upper"
            path.with_suffix(".WAV" if upper else ".wav").write_bytes(sphere(tone(16_000, i)))
            path.with_suffix(".PHN" if upper else ".phn").write_text(PHN)
            path.with_suffix(".TXT" if upper else ".txt").write_text("0 16000 she had\n")
    return root


def edited(tmp_path, **speech):
    path = tmp_path / "t.toml"
    lines = (find_recipe_text("timit").split("[speech]"))[0]
    path.write_text(lines + "[speech]\n" + "".join(f"{key} = {value}\n" for key, value in speech.items()))
    return path


def find_recipe_text(name):
    from hfnumba.ingest import datasets_dir

    return (datasets_dir() / f"{name}.toml").read_text()


def utterances(split):
    return [u for j in range(split.n_partitions) for u in load_utterances(split, j)]


def test_timit_as_the_ldc_distributes_it(ldc, tmp_path):
    reporter = Silent()
    store = build("timit", ldc, tmp_path / "t.zarr", n_partitions=2, reporter=reporter)
    assert verify(store) == []
    train, test = store["train"], store["test"]
    assert (train.n_features, train.n_classes) == (360, 183)
    assert len(utterances(train)) == len(utterances(test)) == 4
    assert reporter.notes[0] == "The core test set lacks 22 of its 24 speakers here"
    assert reporter.notes[1].startswith("6 utterances have the same frames and labels as another")
    classes = store.manifest.header.classes
    y = utterances(train)[0][1]
    spoken = [classes[k].rpartition("_")[0] for k in y]
    assert list(dict.fromkeys(spoken)) == ["h#", "sh", "ix", "q"]
    assert [classes[k] for k in dict.fromkeys(y[spoken.index("sh") : spoken.index("ix")])] == ["sh_0", "sh_1", "sh_2"]


def test_converted_recordings_beside_the_originals(ldc, tmp_path):
    expected = build("timit", ldc, tmp_path / "a.zarr", n_partitions=2)
    for path in [*ldc.rglob("*.WAV"), *ldc.rglob("*.wav")]:
        write_wav(path.with_name(path.name + ".wav"), tone(16_000, 9))
    found = build("timit", ldc, tmp_path / "b.zarr", n_partitions=2)
    assert found.digest == expected.digest


def spelled(path):
    """The same name with the other capitals."""
    return path.with_name(path.name.swapcase())


def test_recordings_and_labels_in_two_spellings(ldc, tmp_path):
    """Each utterance was there twice, from the same file."""
    expected = build("timit", ldc, tmp_path / "a.zarr", n_partitions=2)
    upper = any(ldc.rglob("*.WAV"))
    for path in [*ldc.rglob("*.WAV"), *ldc.rglob("*.wav")]:
        # What the LDC distributes has capitals.
        spelled(path).write_bytes(path.read_bytes())
        path.write_bytes(path.read_bytes() if upper else sphere(tone(16_000, 9)))
    for path in [*ldc.rglob("*.PHN"), *ldc.rglob("*.phn")]:
        spelled(path).write_bytes(path.read_bytes())
    reporter = Silent()
    found = build("timit", ldc, tmp_path / "b.zarr", n_partitions=2, reporter=reporter)
    assert [found[name].n_rows for name in ("train", "test")] == [expected[name].n_rows for name in ("train", "test")]
    for name in ("train", "test"):
        for j in range(2):
            np.testing.assert_array_equal(found[name].load(j)[0], expected[name].load(j)[0])
    assert re.search(
        "utterances have more than one recording; of the first, .*WAV is taken, .*wav is not", reporter.notes[0]
    )
    path = next(path for path in ldc.rglob("*") if path.suffix == ".phn")
    path.write_text(PHN.replace("sh", "s"))
    with pytest.raises(DataError, match=r"are labels of one utterance, and differ"):
        build("timit", ldc, tmp_path / "c.zarr")


def test_a_timit_in_two_spellings_of_its_folders(ldc, tmp_path):
    expected = build("timit", ldc, tmp_path / "a.zarr", n_partitions=2)
    for path in sorted(ldc.rglob("*")):
        if path.is_file():
            for copy in (str(path.relative_to(ldc)).upper(), str(path.relative_to(ldc)).lower()):
                (tmp_path / "b" / copy).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "b" / copy).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="both have folders TRAIN and TEST; name one of them"):
        build("timit", tmp_path / "b", tmp_path / "b.zarr")
    found = build("timit", tmp_path / "b/TIMIT", tmp_path / "b.zarr", n_partitions=2)
    assert [found[name].n_rows for name in ("train", "test")] == [expected[name].n_rows for name in ("train", "test")]


def test_only_the_converted_recordings_are_there(ldc, tmp_path):
    expected = build("timit", ldc, tmp_path / "a.zarr", n_partitions=2)
    for path in [*ldc.rglob("*.WAV"), *ldc.rglob("*.wav")]:
        path.rename(path.with_name(path.name + ".wav"))
    assert build("timit", ldc, tmp_path / "b.zarr", n_partitions=2)["train"].n_rows == expected["train"].n_rows


def test_a_voice_with_recordings_in_two_spellings(voice, tmp_path):
    expected = build("festvox-ru", voice, tmp_path / "a.zarr")
    for path in sorted((voice / "wav").iterdir()):
        write_wav(path.with_suffix(".WAV"), tone(16_000, 9))
        write_wav(path.with_name(path.name + ".wav"), tone(16_000, 9))
    (voice / "lab/u1.lab").rename(voice / "lab/u1.LAB")
    reporter = Silent()
    found = build("festvox-ru", voice, tmp_path / "b.zarr", reporter=reporter)
    assert found["train"].n_rows == expected["train"].n_rows
    np.testing.assert_array_equal(found["train"].load(0)[0], expected["train"].load(0)[0])
    assert re.search(r"6 utterances have more than one recording; .*/u0.wav is taken, u0.WAV is not", reporter.notes[0])


def test_a_recording_whose_name_is_not_utf_8(voice, tmp_path, read_tree):
    for kind in ("wav", "lab"):
        (voice / f"{kind}/u3.{kind}").rename(voice / kind / os.fsdecode(b"u\xe9." + kind.encode()))
    out, n_partitions = init("festvox-ru", voice, tmp_path / "a.zarr", n_partitions=3)
    for j in range(n_partitions):
        write_partition(out, j)
    assert verify(finalise(out)) == []
    assert read_tree(out) == read_tree(build("festvox-ru", voice, tmp_path / "b.zarr", n_partitions=3).path)


def test_the_same_recording_under_two_names(voice, tmp_path):
    for kind in ("wav", "lab"):
        (voice / kind / f"again.{kind}").write_bytes((voice / kind / f"u1.{kind}").read_bytes())
    reporter = Silent()
    build("festvox-ru", voice, tmp_path / "a.zarr", reporter=reporter)
    (note,) = [note for note in reporter.notes if "the same frames" in note]
    assert note.startswith("1 utterances have") and "again" in note and "u1" in note


@pytest.mark.parametrize(("phones", "n", "expected"), [(48, 48, ["sil", "sh", "ix"]), (39, 39, ["sil", "sh", "ih"])])
def test_folded_phones(ldc, tmp_path, phones, n, expected):
    recipe = edited(tmp_path, phones=phones, states=1, sa="true")
    store = build(recipe, ldc, tmp_path / "t.zarr", n_partitions=2)
    assert store["train"].n_classes == n and len(utterances(store["train"])) == 6
    classes = store.manifest.header.classes
    assert list(dict.fromkeys(classes[k] for k in utterances(store["train"])[0][1])) == expected


def test_each_speaker_is_normalised_alone(ldc, tmp_path):
    """Both speakers say the same sentences, one of them louder: the same features."""
    for path in (ldc / "TIMIT").rglob("*"):
        if path.suffix == ".WAV" and "MABC0" in path.parts:
            data = bytearray(path.read_bytes())
            data[1024:] = (np.frombuffer(bytes(data[1024:]), "<i2") * 2).astype("<i2").tobytes()
            path.write_bytes(data)
    store = build("timit", ldc, tmp_path / "t.zarr", n_partitions=1)
    held = [X for X, _ in utterances(store["train"])]
    for X in held:
        assert sum(np.allclose(X, other, atol=0.02) for other in held) == 2


def test_the_sets_of_phones():
    sizes = {n: len({timit.fold(phone, n) for phone in timit.PHONES}) for n in (61, 48, 39)}
    assert sizes == {61: 61, 48: 48, 39: 39} and len(timit.PHONES) == 61
    assert len(timit.CORE_TEST) == 24 and sum(name[0] == "F" for name in timit.CORE_TEST) == 8


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 1600 h#\n1600 x sh\n", "line 2: expected first sample"),
        ("0 1600 h#\n1600 4800 zz\n", "line 2: 'zz' is not one of the 61 phones of TIMIT"),
        ("0 1600 h#\n1600 800 sh\n", "times of label 2"),
        ("-5 1600 h#\n", "times of label 1"),
        ("0 1_600 h#\n", "line 1: expected first sample"),
        ("0 1600 1700 h#\n", "line 1: expected first sample"),
        ("h#\n", "line 1: expected first sample"),
        # Digits that are not numbers, numbers beyond floating point, and beyond what Python reads.
        *((f"0 {word} h#\n", "line 1: expected first sample") for word in ("1²", "9" * 400, "9" * 5000)),
        ("", "holds no labels"),
    ],
)
def test_bad_phn(tmp_path, text, complaint):
    (tmp_path / "a.PHN").write_text(text, "utf-8")
    with pytest.raises(DataError, match=complaint):
        timit.read_phn(tmp_path / "a.PHN", 16_000)


def test_an_incomplete_timit(ldc, tmp_path):
    with pytest.raises(DataError, match="has no folders TRAIN and TEST"):
        build("timit", tmp_path, tmp_path / "t.zarr")
    path = next(path for path in ldc.rglob("*") if path.suffix.lower() == ".phn")
    path.unlink()
    with pytest.raises(DataError, match=r"has no .PHN file of labels beside it"):
        build("timit", ldc, tmp_path / "t.zarr")


def test_links_out_of_timit_are_not_followed(ldc, tmp_path):
    path = next(path for path in ldc.rglob("*") if path.suffix.lower() == ".wav")
    path.rename(tmp_path / "outside.wav")
    path.symlink_to(tmp_path / "outside.wav")
    with pytest.raises(DataError, match="leads out of"):
        build("timit", ldc, tmp_path / "t.zarr")


def test_a_header_that_asks_for_much_takes_no_memory(tmp_path):
    fields = struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    header = b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt " + fields
    (tmp_path / "a.wav").write_bytes(header + b"data" + struct.pack("<I", 2**32 - 10) + bytes(100))
    tracemalloc.start()
    with pytest.raises(DataError, match="claims 2147483643 samples"):
        read_samples(tmp_path / "a.wav", OPTIONS)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
