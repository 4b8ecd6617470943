"""A trained network as an ONNX graph: standardisation, layers, logits and probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.run.model import TrainedModel

OPSET, IR_VERSION = 13, 8
"""Versions of ONNX's operators and of its file format; runtimes since 2021 read both."""

_GELU_OPSET, _GELU_IR_VERSION = 20, 9
"""The first versions with GELU, for networks that have it; runtimes since 2024 read both."""

_ACTIVATIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "softplus": "Softplus",
    "identity": "Identity",
    "gelu": "Gelu",
}
_LINKS = {"softmax_cross_entropy": "Softmax", "sigmoid_cross_entropy": "Sigmoid"}


def onnx_model(model: TrainedModel, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of an ONNX file for rows ``X`` (n, n_features), as the store's source has them.

    Its outputs are ``logits`` and ``probabilities``, or ``values`` alone for squared error; (n, n_outputs) float32.
    ``X`` is float32, or float64 where an origin is subtracted before rounding.

    Raises
    ------
    UsageError
        If ONNX is not installed.
    HfnumbaError
        If the network takes spliced frames, whose neighbours a row does not hold.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("the format onnx needs onnx; install it with `pip install 'hfnumba[export]'`") from error
    if model.record.store.context:
        raise HfnumbaError(
            "the network takes frames with their neighbours, which a row of an ONNX graph does not hold; export to "
            "safetensors or npz, and splice the frames before the first layer"
        )
    nodes, outputs = _nodes(model, arrays, helper, TensorProto)
    n_in, n_out = model.network.n_features, model.network.n_outputs
    kind = TensorProto.DOUBLE if "origin" in arrays else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "hfnumba",
        [helper.make_tensor_value_info("X", kind, ["n", n_in])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n_out]) for name in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    gelu = "gelu" in model.network.activations
    opset, ir_version = (_GELU_OPSET, _GELU_IR_VERSION) if gelu else (OPSET, IR_VERSION)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="hfnumba", ir_version=ir_version
    )
    helper.set_model_props(made, dict(metadata))
    checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def _nodes(
    model: TrainedModel, arrays: Mapping[str, NDArray[Any]], helper: Any, types: Any
) -> tuple[list[Any], list[str]]:
    """Return the nodes of the graph and the names of its outputs."""
    nodes: list[Any] = []
    at = "X"

    def then(operator: str, *others: str, to: str, **attributes: Any) -> None:
        nonlocal at
        nodes.append(helper.make_node(operator, [at, *others], [to], **attributes))
        at = to

    if "origin" in arrays:
        then("Sub", "origin", to="stored")
        # The attribute of a Cast is named "to", as the argument of ``then`` is.
        nodes.append(helper.make_node("Cast", [at], ["rounded"], to=types.FLOAT))
        at = "rounded"
    if "mean" in arrays:
        then("Sub", "mean", to="centred")
        then("Div", "deviation", to="standardised")
    then("Mul", "scale", to="scaled")
    then("Add", "offset", to="A0")
    for k, name in enumerate([*model.network.activations, None], start=1):
        then("Gemm", f"W{k}", f"b{k}", to=f"Z{k}")
        if name == "silu":
            then("Sigmoid", to=f"S{k}")
            then("Mul", f"Z{k}", to=f"A{k}")
        elif name is not None:
            then(_ACTIVATIONS[name], to=f"A{k}")
    link = _LINKS.get(model.network.loss)
    last = "values" if link is None else "logits"
    if "target_mean" in arrays:
        then("Mul", "target_deviation", to="in_deviations")
        then("Add", "target_mean", to=last)
    nodes[-1].output[0] = at = last
    if link is None:
        return nodes, [last]
    then(link, to="probabilities", **({"axis": 1} if link == "Softmax" else {}))
    return nodes, [last, "probabilities"]
