"""The description of a fully connected network, the layout of its flat parameter vector, and initialisations."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hfnumba.activations import ACTIVATIONS, OTHER_NAMES, numbers_per_unit
from hfnumba.errors import UsageError
from hfnumba.html import grid

LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error")
INITIALIZATIONS = ("glorot", "he", "sparse", "tiny")
# Martens (2010), section 5: the incoming weights of a unit that are not zero.
_SPARSE_FAN_IN = 15
_TINY = 1e-3
_MAX_PARAMS = 2**31 - 1


class Layer(NamedTuple):
    """Weights and biases of one layer, as views into a flat vector.

    Attributes
    ----------
    weights : ndarray, shape (n_in, n_out)
        Matrix W; rows A become A W + b.
    biases : ndarray, shape (n_out,)
        Vector b.
    """

    weights: NDArray[np.floating[Any]]
    biases: NDArray[np.floating[Any]]


def _require_name(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UsageError(f"unknown {what} {name!r}; choose one of {', '.join(names)}")


def one_or_each(activation: str | Sequence[str], n_hidden: int) -> str | tuple[str, ...]:
    """The activation of all hidden layers as one name, or as a name for each where they differ; checked.

    Raises
    ------
    UsageError
        If there is not one for each hidden layer, or one has an unknown name.
    """
    names = (activation,) if isinstance(activation, str) else tuple(activation)
    for name in names:
        _require_name("activation", name, (*ACTIVATIONS, *OTHER_NAMES))
    if len(names) != n_hidden and not isinstance(activation, str):
        raise UsageError(
            f"expected one activation, or one for each of the {n_hidden} hidden layers, got {len(names)}: "
            f"{', '.join(names)}"
        )
    names = tuple(OTHER_NAMES.get(name, name) for name in names) or ("identity",)
    return names if len(set(names)) > 1 else names[0]


@dataclass(frozen=True, init=False)
class Network:
    """Description of a fully connected network: layer sizes, activations and loss. It holds no parameters.

    Parameters
    ----------
    sizes : sequence of int
        Features, widths of the hidden layers, outputs; at least two.
    activation : str or sequence of str
        One of :data:`ACTIVATIONS` for all hidden layers, or one for each of them; ``linear`` is another name of
        ``identity``. The output layer is linear; the loss brings its own link. The attribute is a name where all hidden
        layers have the same, else a tuple.
    loss : str
        One of :data:`LOSSES`. Softmax cross-entropy takes labels 0 … outputs - 1; sigmoid cross-entropy targets in
        [0, 1] for each output, over which it is summed; squared error is ‖z - t‖²/2 per row.

    Raises
    ------
    UsageError
        If a size is not a positive whole number, or a name is unknown.

    Notes
    -----
    The flat vector ``theta`` holds W_1, b_1, W_2, b_2, …, each W_l row-major of shape (n_in, n_out), so that layer l
    maps rows A to phi(A W_l + b_l).

    Examples
    --------
    >>> from hfnumba import Network
    >>> network = Network([784, 400, 10], activation="tanh", loss="softmax_cross_entropy")
    >>> network.n_params
    318010
    >>> theta = network.initialize(seed=0)
    >>> [layer.weights.shape for layer in network.layers(theta)]
    [(784, 400), (400, 10)]
    """

    sizes: tuple[int, ...]
    activation: str | tuple[str, ...]
    loss: str

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Sequence[str] = "tanh",
        loss: str = "softmax_cross_entropy",
    ) -> None:
        checked = tuple(int(n) for n in sizes)
        if len(checked) < 2 or any(n < 1 for n in checked) or any(a != b for a, b in zip(checked, sizes, strict=True)):
            raise UsageError(
                "layer sizes must be two or more positive whole numbers (features, hidden …, outputs), "
                f"got {list(sizes)}"
            )
        _require_name("loss", loss, LOSSES)
        object.__setattr__(self, "sizes", checked)
        object.__setattr__(self, "activation", one_or_each(activation, len(checked) - 2))
        object.__setattr__(self, "loss", loss)
        if self.n_params > _MAX_PARAMS:
            raise UsageError(
                f"expected a network of at most {_MAX_PARAMS} parameters, got {self.n_params}, which is too large; "
                "use narrower layers"
            )

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
    def activations(self) -> tuple[str, ...]:
        """Activation of each hidden layer."""
        return (self.activation,) * (len(self.sizes) - 2) if isinstance(self.activation, str) else self.activation

    @functools.cached_property
    def primal_width(self) -> int:
        """Size of the primal pass of a row: how many numbers curvature products need beside its features."""
        names = (*self.activations, "identity")
        return sum(numbers_per_unit(ACTIVATIONS.index(name)) * n for name, n in zip(names, self.sizes[1:], strict=True))

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

    @property
    def takes_scaled_targets(self) -> bool:
        """Whether targets may be standardised before they reach the loss: a mean and a deviation for each output."""
        return self.loss == "squared_error"

    def require_autoencoder(self) -> None:
        """Raise if the features cannot be the targets.

        Raises
        ------
        UsageError
        """
        if self.takes_labels or self.n_outputs != self.n_features:
            raise UsageError(
                "an autoencoder has an output for each of its features, and the loss squared_error or "
                f"sigmoid_cross_entropy; got {self.n_features} features, {self.n_outputs} outputs and {self.loss}"
            )

    def layers(self, theta: NDArray[np.floating[Any]]) -> Iterator[Layer]:
        """Yield the weights and biases of each layer as views of ``theta``: writing to them writes theta.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters, or of anything with the same layout, such as a gradient.

        Yields
        ------
        Layer
            Views of the next layer, from the input on.

        Raises
        ------
        UsageError
            If theta has another shape.
        """
        self._check(theta)
        at = 0
        for n_in, (biases, stop) in zip(self.sizes, self._biases, strict=False):
            yield Layer(theta[at:biases].reshape(n_in, stop - biases), theta[biases:stop])
            at = stop

    @functools.cached_property
    def _biases(self) -> tuple[tuple[int, int], ...]:
        """Where the biases of each layer are in theta."""
        stops = list(itertools.accumulate((a + 1) * b for a, b in itertools.pairwise(self.sizes)))
        return tuple([(stop - b, stop) for stop, b in zip(stops, self.sizes[1:], strict=True)])

    def _check(self, theta: NDArray[np.floating[Any]]) -> None:
        if theta.shape != (self.n_params,):
            raise UsageError(f"expected a vector of {self.n_params} parameters, got shape {theta.shape}")

    def weights_only(self, theta: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return a copy of ``theta`` with the biases set to 0: the part that the L2 penalty acts on.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters.

        Returns
        -------
        ndarray, shape (n_params,)
            The copy, in theta's dtype.
        """
        self._check(theta)
        copy = theta.copy()
        for start, stop in self._biases:
            copy[start:stop] = 0
        return copy

    def initialize(
        self,
        seed: int = 0,
        scheme: Literal["glorot", "he", "sparse", "tiny"] = "glorot",
        dtype: DTypeLike = np.float32,
    ) -> NDArray[np.floating[Any]]:
        """Draw random weights and set the biases to 0; a seed gives the same parameters on every machine.

        Parameters
        ----------
        seed : int
            Seed for the weights.
        scheme : {"glorot", "he", "sparse", "tiny"}
            Glorot & Bengio (2010, eq. 16): uniform within ±sqrt(6 / (n_in + n_out)). He et al. (2015, eq. 10): normal
            with variance 2 / n_in, for relu. Martens (2010, section 5): 15 normal weights into each unit, the rest 0.
            Tiny: normal with deviation 0.001, which with hidden layers is on the plateau around zero, where gradients
            vanish; for the study of saddles.
        dtype : dtype
            Dtype of the result, float32 or float64.

        Returns
        -------
        ndarray, shape (n_params,)
            Flat vector of parameters.

        Raises
        ------
        UsageError
            If the scheme is unknown.
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
