import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError, StoreError, UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.ingest.corpus import ArrayCorpus, survey_corpus
from hfnumba.ingest.shuffle import shuffle
from hfnumba.store import open_store
from hfnumba.store.frames import grouping, splice
from hfnumba.store.info import info, survey
from hfnumba.store.standardise import Moments, Standardisation
from hfnumba.store.verify import verify
from tests.utterances import load_utterances


def spliced_beforehand(X, context):
    """Splice one utterance by the definition."""
    padded = np.concatenate([np.repeat(X[:1], context, 0), X, np.repeat(X[-1:], context, 0)])
    return np.stack([padded[t : t + 2 * context + 1].reshape(-1) for t in range(len(X))])


def corpus(lengths, n_features=5, n_classes=7, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(3, 2, (n, n_features)).astype(np.float32), rng.integers(0, n_classes, n).astype(np.int32))
        for n in lengths
    ]


@pytest.fixture
def utterances():
    rng = np.random.default_rng(1)
    return {"train": corpus(rng.integers(1, 40, 23)), "test": corpus([4, 1, 9], seed=2)}


def starts_of(lengths):
    start = np.zeros(sum(lengths), np.uint8)
    start[np.cumsum([0, *lengths[:-1]])] = 1
    return start


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 6), st.integers(1, 4))
@settings(max_examples=60)
def test_splicing_is_that_of_the_definition(lengths, context, n_features):
    held = [X for X, _ in corpus(lengths, n_features)]
    expected = np.concatenate([spliced_beforehand(X, context) for X in held])
    found = splice(np.concatenate(held), starts_of(lengths), context)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and found.flags.c_contiguous


def test_splicing_is_that_of_kaldi():
    knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi_native_fbank, of hfnumba[speech], is not installed")
    ((X, _),) = corpus([30], 40)
    options = knf.SpliceOptions(left_context=4, right_context=4)
    np.testing.assert_array_equal(splice(X, starts_of([30]), 4), knf.splice_frames(X, options))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20))
@settings(max_examples=100)
def test_groups_hold_whole_utterances_and_are_even(lengths, n_partitions):
    groups = grouping(lengths, n_partitions)
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    assert len(groups) == min(n_partitions, len(lengths)) and all(len(group) for group in groups)
    # Each boundary differs from its share by at most half an utterance, if there are enough utterances.
    if all(len(group) > 1 for group in groups):
        ends = np.cumsum([sum(lengths[i] for i in group) for group in groups])
        shares = sum(lengths) * np.arange(1, len(groups) + 1) / len(groups)
        assert np.abs(ends - shares).max() <= max(lengths) / 2


def test_frames_come_back_spliced_as_beforehand(tmp_path, utterances):
    store = write_frames(tmp_path / "f.zarr", utterances, context=3, standardise=False, n_partitions=4, seed=9)
    for name, split in store.splits.items():
        held = utterances[name]
        names = sorted(range(len(held)), key=lambda i: f"{name}-{i}")
        order = [names[i] for i in shuffle(name, len(held), 9)]
        parts = [split.load(j) for j in range(split.n_partitions)]
        np.testing.assert_array_equal(
            np.concatenate([X for X, _ in parts]), np.concatenate([spliced_beforehand(held[i][0], 3) for i in order])
        )
        np.testing.assert_array_equal(
            np.concatenate([y for _, y in parts]), np.concatenate([held[i][1] for i in order])
        )
        assert [len(X) for X, _ in parts] == [b - a for a, b in map(split.partition_rows, range(split.n_partitions))]
        assert split.n_features == 5 * 7 and split.layout.n_features == 5
        assert split.n_rows == sum(len(X) for X, _ in held)
        assert all(X.flags.c_contiguous and X.dtype == np.float32 and y.dtype == np.int32 for X, y in parts)
    assert store["train"].n_partitions == 4 and store["test"].n_partitions == 3
    assert verify(store) == []


def test_no_utterance_is_divided(tmp_path, utterances):
    split = write_frames(tmp_path / "f.zarr", utterances, context=2, standardise=False, n_partitions=5)["train"]
    found = [X.tobytes() for j in range(5) for X, _ in load_utterances(split, j)]
    assert sorted(found) == sorted(X.tobytes() for X, _ in utterances["train"])


def test_standardisation_is_of_the_training_frames_before_splicing(tmp_path, utterances):
    store = write_frames(tmp_path / "f.zarr", utterances, context=1, n_partitions=3)
    frames = np.concatenate([X for X, _ in utterances["train"]]).astype(np.float64)
    held = store.manifest.header.standardisation
    np.testing.assert_allclose(held.mean, frames.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(held.deviation, frames.std(axis=0), rtol=1e-12)
    loaded = np.concatenate([store["train"].load(j)[0] for j in range(3)])
    middle = loaded[:, 5:10]
    np.testing.assert_allclose(middle.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(middle.std(axis=0), 1, rtol=1e-5)
    # The test split is standardised by the same numbers, and then spliced.
    X = next(X for X, _ in utterances["test"] if len(X) == 9)
    expected = spliced_beforehand(held.apply(X), 1)
    parts = [store["test"].load(j)[0] for j in range(store["test"].n_partitions)]
    assert any(len(part) == 9 and np.array_equal(part, expected) for part in parts)


def test_rows_of_a_table_are_standardised_too(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal([1e3, -5, 7], [1, 20, 1e-3], (500, 3)).astype(np.float32)
    splits = {"train": (X, np.arange(500) % 2), "test": (X * 2, np.arange(500) % 2)}
    store = write_store(tmp_path / "t.zarr", splits, n_partitions=3, standardise=True)
    loaded = np.concatenate([store["train"].load(j)[0] for j in range(3)])
    np.testing.assert_allclose(loaded.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(loaded.std(axis=0), 1, rtol=1e-3)
    assert store["test"].load(0)[0][:, 0].mean() > 500
    with pytest.raises(UsageError, match="bytes are not standardised"):
        write_store(tmp_path / "b.zarr", {"train": (np.zeros((4, 2), np.uint8), [0, 1, 0, 1])}, standardise=True)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=10), st.sampled_from([0.0, 1.0, 1e6]))
@settings(max_examples=50)
def test_moments_in_blocks_are_those_of_all_rows(sizes, mean):
    rng = np.random.default_rng(sum(sizes))
    blocks = [rng.normal(mean, 1e-3, (n, 3)) for n in sizes]
    moments = Moments(3)
    for block in blocks:
        moments.update(block)
    whole = np.concatenate(blocks)
    assert moments.n == len(whole)
    if len(whole) > 1:
        np.testing.assert_allclose(moments.mean, whole.mean(axis=0), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(np.sqrt(moments.squares / len(whole)), whole.std(axis=0), rtol=1e-6)


def test_constant_features_are_centred_only():
    moments = Moments(3)
    for _ in range(5):
        moments.update(np.full((7, 3), [0.1, 0.0, -3e5], np.float32))
    held = moments.standardisation()
    assert held.deviation == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(held.apply(np.array([[0.1, 0, -3e5]], np.float32)), 0, atol=1e-8)


@pytest.mark.parametrize(("mean", "deviation"), [((0.0,), (0.0,)), ((np.nan,), (1.0,)), ((0.0,), (1.0, 1.0)), ((), ())])
def test_impossible_standardisations(mean, deviation):
    with pytest.raises(ValueError, match="expected"):
        Standardisation(mean, deviation)


def test_what_a_survey_finds_is_as_stored(tmp_path, utterances):
    store = write_frames(tmp_path / "f.zarr", utterances, context=2, n_partitions=3)
    frames = np.concatenate([X for X, _ in utterances["train"]])
    labels = np.concatenate([y for _, y in utterances["train"]])
    found = survey(store)
    assert found["classes"] == list("0123456")
    train = found["splits"]["train"]
    assert train["class_counts"] == np.bincount(labels, minlength=7).tolist()
    assert train["minimum"] == frames.min(axis=0).tolist() and train["maximum"] == frames.max(axis=0).tolist()
    np.testing.assert_allclose(train["mean"], frames.astype(float).mean(axis=0))
    assert info(store)["splits"]["train"]["n_features"] == 25 and info(store)["standardised"]


def test_zarr_alone_reads_the_frames(tmp_path, utterances):
    store = write_frames(tmp_path / "f.zarr", utterances, context=3, standardise=False, n_partitions=4)
    split = store["train"]
    group = zarr.open_group(store.path, mode="r", zarr_format=3)["train"]
    assert group["X"].shape == (4 * split.layout.partition_rows, 5)
    for j in range(4):
        first, last = split.layout.place(j)
        np.testing.assert_array_equal(group["X"][first:last], splice_middle(split.load(j)[0], 3))
        assert not group["X"][last : first + split.layout.partition_rows].any()
        assert group["start"][first:last].sum() == len(load_utterances(split, j))


def splice_middle(X, context):
    width = X.shape[1] // (2 * context + 1)
    return X[:, context * width : (context + 1) * width]


def test_frames_of_several_chunks(tmp_path, utterances, monkeypatch):
    from hfnumba.store import layout

    whole = write_frames(tmp_path / "a.zarr", utterances, context=2, n_partitions=3)
    with monkeypatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", 100)
        cut = write_frames(tmp_path / "b.zarr", utterances, context=2, n_partitions=3)
    assert len(cut["train"].layout.x_keys(0)) > 1 and verify(cut) == []
    for j in range(3):
        for one, other in zip(whole["train"].load(j), cut["train"].load(j), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_split_of_frames_travels_is_small_and_loads_in_threads(tmp_path, utterances):
    split = write_frames(tmp_path / "f.zarr", utterances, context=4, n_partitions=4)["train"]
    assert len(pickle.dumps(split)) < 3000
    copy = pickle.loads(pickle.dumps(split))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda j: copy.load(j % 4)[0], range(32)))
    for j, X in enumerate(found):
        np.testing.assert_array_equal(X, split.load(j % 4)[0])


def test_a_damaged_start_is_found_by_its_name(tmp_path, utterances):
    store = write_frames(tmp_path / "f.zarr", utterances, n_partitions=4)
    path = store.path / "train/start/c/2"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [problem.split()[0] for problem in verify(store)] == ["train/start/c/2"]
    with pytest.raises(StoreError, match="train/start/c/2"):
        open_store(store.path)["train"].load(2)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (lambda X, y: (X, y[:-1]), "train: train-1 has features of shape"),
        (lambda X, y: (X[:0], y[:0]), "at least one"),
        (lambda X, y: (X * np.nan, y), r"train: train-1: \d+ of \d+ features are not finite"),
        (lambda X, y: (X[:, :3], y), "has 3 features a frame, others have 5|has 5 features a frame, others have 3"),
        (lambda X, y: (X, y - 9), "train: train-1: .* labels are out of range"),
        (lambda X, y: (X, y + 9), "train: train-1: .* labels are out of range"),
    ],
)
def test_bad_utterances_are_named(utterances, bad, complaint):
    utterances["train"][1] = bad(*utterances["train"][1])
    with pytest.raises(DataError, match=complaint):
        survey_corpus(ArrayCorpus(utterances, n_classes=7))


def test_bad_utterances_are_counted(utterances):
    for i in (0, 2, 3):
        X, y = utterances["train"][i]
        utterances["train"][i] = X, y[1:]
    n = sum(map(len, utterances.values()))
    with pytest.raises(DataError, match=rf"^3 of {n} utterances cannot be used: train: train-\d has") as caught:
        survey_corpus(ArrayCorpus(utterances, n_classes=7))
    assert sorted(re.findall(r"train-\d", str(caught.value))) == ["train-0", "train-2", "train-3"]


def test_rows_keep_whole_utterances_of_the_shuffled_order(utterances):
    held = ArrayCorpus(utterances)
    whole, some = survey_corpus(held, seed=5).catalogue, survey_corpus(held, rows=100, seed=5).catalogue
    kept = some.utterances["train"]
    assert kept == whole.utterances["train"][: len(kept)] and some.utterances["test"] == whole.utterances["test"]
    n_frames = sum(utterance.n_frames for utterance in kept)
    assert n_frames <= 100 < n_frames + whole.utterances["train"][len(kept)].n_frames
    with pytest.raises(UsageError, match="at least the first utterance, got 0"):
        survey_corpus(held, rows=0, seed=5)
    with pytest.raises(DataError, match="expected training utterances, got none"):
        survey_corpus(ArrayCorpus({"test": utterances["test"]}))


def test_a_store_of_frames_trains_as_its_spliced_rows_in_memory(tmp_path, utterances):
    from hfnumba.engine.constructors import ArrayObjective, SplitObjective
    from hfnumba.network import Network
    from hfnumba.objective import RowSample

    split = write_frames(tmp_path / "f.zarr", utterances, context=1, n_partitions=4)["train"]
    parts = [split.load(j) for j in range(4)]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    network = Network((split.n_features, 6, split.n_outputs))
    theta = network.initialize(0)
    with SplitObjective(network, split) as stored, ArrayObjective(network, X, y) as held:
        (value, gradient), (expected, other) = (each.value_and_gradient(theta) for each in (stored, held))
        assert value == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-7)
        # Samples are also drawn from partitions of unequal sizes.
        value, gradient = stored.value_and_gradient(theta, RowSample(100))
        assert np.isfinite(value) and np.linalg.norm(gradient) > 0
