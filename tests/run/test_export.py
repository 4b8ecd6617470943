"""Exported networks give the outputs of the run: in onnxruntime, from their arrays alone, and in scikit-learn."""

import json
import sys

import numpy as np
import pytest

import hfnumba as hf
from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import ACTIVATIONS, LOSSES
from hfnumba.run import RunDirectory, train
from hfnumba.run.export import export
from tests.silent import Silent


def trained(folder, activation="tanh", loss=None, origin=False, **settings):
    rng = np.random.default_rng(0)
    # Features far from zero are stored as differences from an origin.
    X = rng.normal(1e7 if origin else 10, 3, (90, 5))
    X = X if origin else X.astype(np.float32)
    y = rng.uniform(0, 1, (90, 3)).astype(np.float32) if loss not in (None, LOSSES[0]) else np.arange(90) % 3
    write_store(folder / "s.zarr", {"train": (X, y)}, n_partitions=2, standardise=True, **settings)
    given = {"hidden": [6, 4], "activation": activation, "max_iterations": 1} | ({"loss": loss} if loss else {})
    train(folder / "s.zarr", RunDirectory(folder / "run"), given, Silent())
    return hf.load_model(folder / "run"), X


def runtime_outputs(path, X):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, dict(zip([one.name for one in session.get_outputs()], session.run(None, {"X": X}), strict=True))


def onnx_version(path):
    import onnx

    return onnx.load(path).opset_import[0].version


@pytest.mark.parametrize(
    ("activation", "loss"),
    [(name, LOSSES[0]) for name in (*ACTIVATIONS, ("gelu", "silu"))] + [("tanh", loss) for loss in LOSSES[1:]],
)
def test_onnx_has_the_outputs_of_the_run(tmp_path, activation, loss):
    model, X = trained(tmp_path, activation, loss)
    session, outputs = runtime_outputs(export(model, "onnx", tmp_path / "n.onnx"), X)
    expected = model.predict(X)
    if loss == "squared_error":
        assert list(outputs) == ["values"]
    np.testing.assert_allclose(list(outputs.values())[-1], expected, atol=1e-5)
    if loss == LOSSES[0]:
        p = np.exp(outputs["logits"] - outputs["logits"].max(1, keepdims=True))
        np.testing.assert_allclose(p / p.sum(1, keepdims=True), expected, atol=1e-5)
    assert onnx_version(tmp_path / "n.onnx") == (20 if "gelu" in activation else 13)
    known = session.get_modelmeta().custom_metadata_map
    assert known["loss"] == loss and json.loads(known["sizes"]) == [5, 6, 4, 3]


def test_features_far_from_zero_are_subtracted_in_float64(tmp_path):
    model, X = trained(tmp_path, origin=True)
    assert model.record.store.origin
    _, outputs = runtime_outputs(export(model, "onnx", tmp_path / "n.onnx"), X)
    np.testing.assert_allclose(outputs["probabilities"], model.predict(X), atol=1e-5)


def test_arrays_are_enough(tmp_path):
    from safetensors import safe_open

    model, X = trained(tmp_path)
    with safe_open(export(model, "safetensors", tmp_path / "n.safetensors"), "numpy") as opened:
        arrays, known = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    with np.load(export(model, "npz", tmp_path / "n.npz"), allow_pickle=False) as loaded:
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
        assert {name: str(loaded[name]) for name in known} == known
    a = (X - arrays["mean"]) / arrays["deviation"] * arrays["scale"] + arrays["offset"]
    a = np.tanh(np.tanh(a @ arrays["W1"] + arrays["b1"]) @ arrays["W2"] + arrays["b2"]) @ arrays["W3"] + arrays["b3"]
    p = np.exp(a)
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), model.predict(X), atol=1e-5)


def test_names_of_classes_and_columns_are_in_the_file(tmp_path):
    model, _ = trained(tmp_path)
    pytest.importorskip("onnx")
    import onnx

    known = {p.key: p.value for p in onnx.load(export(model, "onnx", tmp_path / "n.onnx")).metadata_props}
    assert json.loads(known["classes"]) == list(model.classes)
    assert known["task"] == "classification" and known["store_digest"] == model.record.store.digest


@pytest.mark.parametrize("activation", ["tanh", ("gelu", "silu")])
def test_pytorch_loads_the_state_dict(tmp_path, activation):
    torch = pytest.importorskip("torch")
    model, X = trained(tmp_path, activation)
    state = torch.load(export(model, "torch-state-dict", tmp_path / "n.pt"), weights_only=True)
    modules = {"tanh": torch.nn.Tanh(), "gelu": torch.nn.GELU(), "silu": torch.nn.SiLU()}
    linear, (first, second) = torch.nn.Linear, (modules[name] for name in model.network.activations)
    network = torch.nn.Sequential(linear(5, 6), first, linear(6, 4), second, linear(4, 3), torch.nn.Softmax(1))
    network.load_state_dict(state)
    rows = torch.from_numpy(model.record.store.standardisation.apply(X))
    np.testing.assert_allclose(network(rows).detach().numpy(), model.predict(X), atol=1e-5)


def test_without_pytorch_its_state_dict_is_refused(tmp_path, monkeypatch):
    model, _ = trained(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="needs PyTorch, which is not installed; export to safetensors"):
        export(model, "torch-state-dict", tmp_path / "n.pt")


def test_what_cannot_be_exported(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.normal(5, 3, (n, 4)).astype(np.float32), rng.integers(0, 3, n)) for n in (30, 50)]
    write_frames(tmp_path / "f.zarr", {"train": utterances}, context=2, n_partitions=2)
    train(tmp_path / "f.zarr", RunDirectory(tmp_path / "run"), {"hidden": [4], "max_iterations": 1}, Silent())
    model = hf.load_model(tmp_path / "run")
    pytest.importorskip("onnx")
    with pytest.raises(HfnumbaError, match="frames with their neighbours"):
        export(model, "onnx", tmp_path / "n.onnx")
    assert export(model, "npz", tmp_path / "n.npz").exists()
    with pytest.raises(UsageError, match="unknown format 'tf'"):
        export(model, "tf", tmp_path / "n")
    with pytest.raises(HfnumbaError, match="could not be written"):
        export(model, "npz", tmp_path / "nowhere" / "n.npz")
