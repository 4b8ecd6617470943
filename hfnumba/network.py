"""The description of a fully-connected network, the layout of its flat parameter vector, and initialisations."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hfnumba.activations import ACTIVATIONS
from hfnumba.errors import UsageError
from hfnumba.html import grid

LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error")
INITIALIZATIONS = ("glorot", "he", "sparse", "tiny")
# Martens (2010), section 5: the incoming weights of a unit that are not zero.
_SPARSE_FAN_IN = 15
_TINY = 1e-3
_MAX_PARAMS = 2**31 - 1


class Layer(NamedTuple):
    """Views into a flat vector: ``weights`` (n_in, n_out) and ``biases`` (n_out,)."""

    weights: NDArray[np.floating[Any]]
    biases: NDArray[np.floating[Any]]


def _require_name(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UsageError(f"unknown {what} {name!r}; choose one of {', '.join(names)}")


@dataclass(frozen=True, init=False)
class Network:
    """A network of dense layers: sizes, the hidden layers' activation, and the loss. It has no parameters.

    Parameters
    ----------
    sizes : sequence of int
        Features, widths of the hidden layers, outputs; at least two.
    activation : str
        One of :data:`ACTIVATIONS`, between the layers. The output layer is linear; the loss brings its own link.
    loss : str
        One of :data:`LOSSES`. Softmax cross-entropy takes labels 0 … outputs - 1; sigmoid cross-entropy targets in
        [0, 1] for each output; squared error is ‖z - t‖²/2 per row.

    Notes
    -----
    The flat vector ``theta`` holds W_1, b_1, W_2, b_2, …, each W_l row-major of shape (n_in, n_out), so that layer l
    maps rows A to phi(A W_l + b_l).
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str

    def __init__(self, sizes: Sequence[int], activation: str = "tanh", loss: str = "softmax_cross_entropy") -> None:
        checked = tuple(int(n) for n in sizes)
        if len(checked) < 2 or any(n < 1 for n in checked) or any(a != b for a, b in zip(checked, sizes, strict=True)):
            raise UsageError(
                "layer sizes must be two or more positive whole numbers (features, hidden …, outputs), "
                f"got {list(sizes)}"
            )
        _require_name("activation", activation, ACTIVATIONS)
        _require_name("loss", loss, LOSSES)
        object.__setattr__(self, "sizes", checked)
        object.__setattr__(self, "activation", activation)
        object.__setattr__(self, "loss", loss)
        if self.n_params > _MAX_PARAMS:
            raise UsageError(f"a network of {self.n_params} parameters is too large; the limit is {_MAX_PARAMS}")

    @functools.cached_property
    def n_params(self) -> int:
        """Length of theta."""
        return sum((a + 1) * b for a, b in itertools.pairwise(self.sizes))

    def _repr_html_(self) -> str:
        pairs = list(itertools.pairwise(self.sizes))
        rows = [[str(k), str(a), str(b), f"{(a + 1) * b:,}"] for k, (a, b) in enumerate(pairs, 1)]
        title = f"Network of {self.n_params:,} parameters, {self.activation}, {self.loss}"
        return grid(title, ["layer", "inputs", "outputs", "parameters"], rows)

    @property
    def n_features(self) -> int:
        """Width of the input."""
        return self.sizes[0]

    @property
    def n_outputs(self) -> int:
        """Width of the output layer."""
        return self.sizes[-1]

    @property
    def takes_labels(self) -> bool:
        """Whether the loss reads class labels (otherwise it reads a target per output)."""
        return self.loss == "softmax_cross_entropy"

    def layers(self, theta: NDArray[np.floating[Any]]) -> Iterator[Layer]:
        """The weights and biases of each layer as views of ``theta`` (n_params,): writing to them writes theta."""
        if theta.shape != (self.n_params,):
            raise UsageError(f"expected a vector of {self.n_params} parameters, got shape {theta.shape}")
        at = 0
        for n_in, n_out in itertools.pairwise(self.sizes):
            biases = at + n_in * n_out
            yield Layer(theta[at:biases].reshape(n_in, n_out), theta[biases : biases + n_out])
            at = biases + n_out

    def weights_only(self, theta: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """A copy of ``theta`` with the biases set to 0: what L2 acts on."""
        copy = theta.copy()
        for layer in self.layers(copy):
            layer.biases[:] = 0
        return copy

    def initialize(
        self,
        seed: int = 0,
        scheme: Literal["glorot", "he", "sparse", "tiny"] = "glorot",
        dtype: DTypeLike = np.float32,
    ) -> NDArray[np.floating[Any]]:
        """Random parameters, biases 0; the same for a seed on every machine.

        Parameters
        ----------
        seed : int
        scheme : {"glorot", "he", "sparse", "tiny"}
            Glorot & Bengio (2010, eq. 16): uniform within ±sqrt(6 / (n_in + n_out)). He et al. (2015, eq. 10): normal
            with variance 2 / n_in, for relu. Martens (2010, section 5): 15 normal weights into each unit, the rest 0.
            Tiny: normal with deviation 0.001, which with hidden layers is on the plateau around zero, where gradients
            vanish; for the study of saddles.

        Returns
        -------
        ndarray, shape (n_params,)
        """
        _require_name("initialisation", scheme, INITIALIZATIONS)
        rng = np.random.Generator(np.random.Philox(seed))
        theta = np.zeros(self.n_params, dtype)
        for layer in self.layers(theta):
            n_in, n_out = layer.weights.shape
            if scheme == "glorot":
                bound = math.sqrt(6.0 / (n_in + n_out))
                layer.weights[:] = rng.uniform(-bound, bound, (n_in, n_out))
            elif scheme == "he":
                layer.weights[:] = rng.normal(0.0, math.sqrt(2.0 / n_in), (n_in, n_out))
            elif scheme == "tiny":
                layer.weights[:] = rng.normal(0.0, _TINY, (n_in, n_out))
            else:
                for unit in range(n_out):
                    chosen = rng.permutation(n_in)[:_SPARSE_FAN_IN]
                    layer.weights[chosen, unit] = rng.normal(size=chosen.size)
        return theta
