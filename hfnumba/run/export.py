"""Trained networks as files for other libraries: ONNX, safetensors, NumPy's npz, PyTorch's state dict."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import explain, write_file
from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.run.model import TrainedModel
from hfnumba.store.columns import feature_names


def export(model: TrainedModel, to: str, path: Path) -> Path:
    """Write a trained network to a file of a format, atomically.

    Parameters
    ----------
    model : TrainedModel
    to : str
        One of :data:`FORMATS`.
    path : Path
        File to write; its folder must exist.

    Raises
    ------
    UsageError
        If the format is unknown, or the library that it needs is not installed.
    HfnumbaError
        If the network has no such form, or the file cannot be written.
    """
    if to not in FORMATS:
        raise UsageError(f"unknown format {to!r}; choose one of {', '.join(FORMATS)}")
    content = FORMATS[to](model)
    try:
        write_file(path, content)
    except OSError as error:
        raise HfnumbaError(explain(error, path)) from error
    return path


def parameters(model: TrainedModel) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a network: ``W1`` (n_in, n_out), ``b1`` (n_out,), …, and the standardisation, if any.

    A row x as the source has it becomes (x - origin - mean) / deviation * scale + offset; ``origin`` is float64. An
    output y of a network that was trained on standardised targets is y * target_deviation + target_mean in their unit.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for k, layer in enumerate(model.network.layers(model.theta), start=1):
        arrays |= {f"W{k}": np.array(layer.weights), f"b{k}": np.array(layer.biases)}
    data = model.record.store
    if data.mean:
        arrays |= {"mean": np.array(data.mean, np.float32), "deviation": np.array(data.deviation, np.float32)}
    if data.origin:
        arrays["origin"] = np.array(data.origin, np.float64)
    if data.target_mean:
        arrays["target_mean"] = np.array(data.target_mean, np.float32)
        arrays["target_deviation"] = np.array(data.target_deviation, np.float32)
    return arrays | {"scale": np.array([data.scale], np.float32), "offset": np.array([data.offset], np.float32)}


def metadata(model: TrainedModel) -> dict[str, str]:
    """Return what the arrays do not say, as texts; lists are JSON."""
    data, network = model.record.store, msgspec.to_builtins(model.record.network)
    columns = feature_names(data.columns) if data.columns else ()
    return {
        "format": "hfnumba-network-1",
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in network.items()},
        "task": data.task,
        "iteration": str(model.iteration),
        "context": str(data.context),
        "classes": json.dumps([str(name) for name in model.classes]),
        "features": json.dumps([str(name) for name in columns]),
        "targets": json.dumps(list(data.targets or ())),
        "store_digest": data.digest,
    }


def _npz(model: TrainedModel) -> bytes:
    content = io.BytesIO()
    np.savez(content, **parameters(model), **{name: np.array(text) for name, text in metadata(model).items()})  # type: ignore[arg-type]
    return content.getvalue()


def _safetensors(model: TrainedModel) -> bytes:
    from safetensors.numpy import save  # noqa: PLC0415 - slow to import

    content: bytes = save(parameters(model), metadata(model))
    return content


def _torch_state_dict(model: TrainedModel) -> bytes:
    """Return the state dict of a Sequential of Linear layers with activations between them: weights (n_out, n_in)."""
    try:
        import torch  # noqa: PLC0415 - not a dependency
    except ImportError as error:
        raise UsageError(
            "a state dict of PyTorch needs PyTorch, which is not installed; export to safetensors or npz instead"
        ) from error
    state = {}
    for k, layer in enumerate(model.network.layers(model.theta)):
        # The activations are modules too, without parameters.
        state[f"{2 * k}.weight"] = torch.from_numpy(np.ascontiguousarray(layer.weights.T))
        state[f"{2 * k}.bias"] = torch.from_numpy(np.array(layer.biases))
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def _onnx(model: TrainedModel) -> bytes:
    from hfnumba.run.onnx_file import onnx_model  # noqa: PLC0415 - an extra

    return onnx_model(model, parameters(model), metadata(model))


FORMATS: Mapping[str, Callable[[TrainedModel], bytes]] = {
    "onnx": _onnx,
    "safetensors": _safetensors,
    "npz": _npz,
    "torch-state-dict": _torch_state_dict,
}
"""Formats by name, and the functions that make their files."""

SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "npz": ".npz", "torch-state-dict": ".pt"}
"""Usual suffix of each format's files."""
