"""Runs of methods of other libraries, each in the fastest way it offers, in float32 on all processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.bench.quality.course import Course, RunOver
from hfnumba.bench.quality.meter import CountedObjective
from hfnumba.bench.quality.operations import gradient_operations
from hfnumba.errors import sentence
from hfnumba.objective import Vector
from hfnumba.processors import available_processors

_MOMENTUM = 0.9
_BETA2 = 0.999
_HISTORY = 10
_SKLEARN_ROWS = 200
_MANY = 10**9


class _Steps:
    """Counts the minibatches of a first-order method, and reports every so many rows."""

    def __init__(self, course: Course, theta: Callable[[], Vector]) -> None:
        self._course, self._theta, self._since = course, theta, 0

    def count(self, rows: int, rounds: int = 1) -> None:
        """Count rows whose gradients were computed."""
        self._course.meter.count(rows, rows * gradient_operations(self._course.network.sizes), rounds)
        self._since += rows
        if self._since >= self._course.interval_rows or self._course.is_out_of_time():
            self._since = 0
            self._course.report(self._theta())


def _settings(course: Course) -> tuple[int, float]:
    run = course.run
    assert run.batch_rows is not None and run.learning_rate is not None, "a grid has both"
    return min(run.batch_rows, course.arena.n_rows), run.learning_rate


def torch_adam(course: Course) -> None:
    """Adam of PyTorch, with its fused update."""
    import torch  # noqa: PLC0415 - an optional peer

    _torch(course, lambda parameters, rate: torch.optim.Adam(parameters, lr=rate, fused=True))


def torch_momentum(course: Course) -> None:
    """Nesterov's momentum of PyTorch, with its fused update."""
    import torch  # noqa: PLC0415 - an optional peer

    def make(parameters: Any, rate: float) -> Any:
        return torch.optim.SGD(parameters, lr=rate, momentum=_MOMENTUM, nesterov=True, fused=True)

    _torch(course, make)


def _torch(course: Course, make: Callable[[Any, float], Any]) -> None:
    import torch  # noqa: PLC0415 - an optional peer

    torch.set_num_threads(available_processors())
    batch_rows, rate = _settings(course)
    theta = torch.from_numpy(course.theta.copy())
    leaves = [torch.from_numpy(a.copy()) for layer in course.network.layers(course.theta) for a in layer]
    for leaf in leaves:
        leaf.requires_grad_(True)
    X, y = torch.from_numpy(course.data.X), torch.from_numpy(course.data.y)
    y = y.long() if course.network.takes_labels else y
    functions = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "identity": _identity}
    phi = [*_activations(course, functions), _identity]
    loss_of = _torch_loss(course.network.loss)

    def loss(rows: Any, targets: Any) -> Any:
        a = rows
        for k, function in enumerate(phi):
            a = function(torch.addmm(leaves[2 * k + 1], a, leaves[2 * k]))
        return loss_of(a, targets) + penalty()

    def penalty() -> Any:
        return course.l2 / 2 * sum(weights.square().sum() for weights in leaves[::2]) if course.l2 else 0.0

    def current() -> Vector:
        found: Vector = torch.cat([leaf.detach().reshape(-1) for leaf in leaves], out=theta).numpy()
        return found

    optimiser = make(leaves, rate)
    generator = torch.Generator().manual_seed(course.run.seed)
    loss(X[:batch_rows], y[:batch_rows]).backward()
    steps = _Steps(course, current)
    course.report(current())
    while True:
        for chosen in torch.randperm(len(X), generator=generator).split(batch_rows):
            optimiser.zero_grad()
            loss(X[chosen], y[chosen]).backward()
            optimiser.step()
            steps.count(len(chosen))


def _torch_loss(name: str) -> Callable[..., Any]:
    from torch.nn import functional  # noqa: PLC0415 - an optional peer

    losses: dict[str, Callable[..., Any]] = {
        "softmax_cross_entropy": functional.cross_entropy,
        "sigmoid_cross_entropy": lambda z, t: (
            functional.binary_cross_entropy_with_logits(z, t, reduction="sum") / len(t)
        ),
        "squared_error": lambda z, t: 0.5 * functional.mse_loss(z, t, reduction="sum") / len(t),
    }
    return losses[name]


def optax_adam(course: Course) -> None:
    """Adam of optax, compiled by JAX."""
    import optax  # noqa: PLC0415 - an optional peer

    _optax(course, optax.adam(_settings(course)[1], b1=_MOMENTUM, b2=_BETA2))


def optax_momentum(course: Course) -> None:
    """Nesterov's momentum of optax, compiled by JAX."""
    import optax  # noqa: PLC0415 - an optional peer

    _optax(course, optax.sgd(_settings(course)[1], momentum=_MOMENTUM, nesterov=True))


def _optax(course: Course, optimiser: Any) -> None:
    import jax  # noqa: PLC0415 - an optional peer
    import jax.numpy as jnp  # noqa: PLC0415
    import optax  # noqa: PLC0415

    batch_rows, _ = _settings(course)
    X, y = jnp.asarray(course.data.X), jnp.asarray(course.data.y)
    functions = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "identity": _identity}
    phi = [*_activations(course, functions), _identity]
    loss_of = _optax_loss(course.network.loss)
    parameters = [(jnp.array(weights), jnp.array(biases)) for weights, biases in course.network.layers(course.theta)]

    def loss(layers: Any, rows: Any, targets: Any) -> Any:
        a = rows
        for function, (weights, biases) in zip(phi, layers, strict=True):
            a = function(a @ weights + biases)
        return loss_of(a, targets) + penalty(layers)

    def penalty(layers: Any) -> Any:
        return course.l2 / 2 * sum((weights**2).sum() for weights, _ in layers) if course.l2 else 0.0

    @jax.jit
    def step(layers: Any, state: Any, X: Any, y: Any, chosen: Any) -> Any:
        gradients = jax.grad(loss)(layers, X[chosen], y[chosen])
        updates, state = optimiser.update(gradients, state, layers)
        return optax.apply_updates(layers, updates), state

    def current() -> Vector:
        return np.concatenate([np.asarray(a).reshape(-1) for layer in parameters for a in layer])

    state = optimiser.init(parameters)
    rng = np.random.Generator(np.random.Philox(course.run.seed))
    # Compilation is not timed. All minibatches have one shape: the last rows of a permutation are left out.
    jax.block_until_ready(step(parameters, state, X, y, np.arange(batch_rows)))
    steps = _Steps(course, current)
    course.report(current())
    while True:
        order = rng.permutation(len(course.data.X))
        for at in range(0, len(order) - batch_rows + 1, batch_rows):
            parameters, state = jax.block_until_ready(step(parameters, state, X, y, order[at : at + batch_rows]))
            steps.count(batch_rows)


def _optax_loss(name: str) -> Callable[..., Any]:
    import optax  # noqa: PLC0415 - an optional peer

    losses: dict[str, Callable[..., Any]] = {
        "softmax_cross_entropy": lambda z, t: optax.softmax_cross_entropy_with_integer_labels(z, t).mean(),
        "sigmoid_cross_entropy": lambda z, t: optax.sigmoid_binary_cross_entropy(z, t).sum() / len(t),
        "squared_error": lambda z, t: 0.5 * ((z - t) ** 2).sum() / len(t),
    }
    return losses[name]


def sklearn_adam(course: Course) -> None:
    """MLPClassifier or MLPRegressor of scikit-learn with its default solver (Adam, 200 rows) and its own start."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: PLC0415 - an optional peer
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    network, data = course.network, course.data
    names = set(_activations(course, {"tanh": "tanh", "sigmoid": "logistic", "relu": "relu"}))
    if len(names) > 1 or network.loss == "sigmoid_cross_entropy":
        raise RunOver("this peer has one activation for all layers, and no sigmoid cross-entropy")
    settings = {
        "hidden_layer_sizes": network.sizes[1:-1],
        "activation": names.pop(),
        # The library divides the penalty by the rows of a minibatch.
        "alpha": course.l2 * min(_SKLEARN_ROWS, course.arena.n_rows),
        "shuffle": False,
        "random_state": course.run.seed,
    }
    made: Any = (MLPClassifier if network.takes_labels else MLPRegressor)(**settings)
    more = {"classes": np.arange(network.n_outputs)} if network.takes_labels else {}
    targets = data.y[:, 0] if network.n_outputs == 1 else data.y
    rng = np.random.Generator(np.random.Philox(course.run.seed))
    n_rows = course.arena.n_rows
    # A call trains on rows that are drawn here, so that there is a point more often than once a pass.
    n_calls = max(1, n_rows // max(_SKLEARN_ROWS, course.interval_rows))

    def current() -> Vector:
        parts: list[NDArray[Any]] = []
        for weights, biases in zip(made.coefs_, made.intercepts_, strict=True):
            parts += [weights.reshape(-1), biases]
        return np.concatenate(parts, dtype=np.float32)

    pools, steps = ThreadpoolController(), _Steps(course, current)
    course.meter.start()
    while True:
        for chosen in np.array_split(rng.permutation(n_rows), n_calls):
            # The BLAS that NumPy uses is limited to one thread in this process, for our own kernels.
            try:
                with pools.limit(limits=available_processors(), user_api="blas"):
                    made.partial_fit(data.X[chosen], targets[chosen], **more)
            except ValueError as error:
                raise RunOver(sentence(error)) from None
            steps.count(len(chosen), rounds=-(-len(chosen) // _SKLEARN_ROWS))


def scipy_lbfgs(course: Course) -> None:
    """L-BFGS-B of SciPy on the gradient of this package."""
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    with CountedObjective(course.network, course.data.X, course.data.y, course.meter, course.l2) as objective:

        def value_and_gradient(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = objective.value_and_gradient(theta.astype(np.float32))
            return value, gradient.astype(np.float64)

        course.report(course.theta)
        options = {"maxcor": _HISTORY, "maxiter": _MANY, "maxfun": _MANY, "ftol": 0.0, "gtol": 0.0}
        found = minimize(
            value_and_gradient,
            course.theta.astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=lambda theta: course.report(theta.astype(np.float32)),
        )
    raise RunOver(str(found.message))


def _activations[T](course: Course, functions: dict[str, T]) -> list[T]:
    """Return the functions of the network's hidden layers.

    Raises
    ------
    RunOver
        If the library does not have one of them.
    """
    names = course.network.activations
    for name in names:
        if name not in functions:
            raise RunOver(f"there is no activation {name} in this peer")
    return [functions[name] for name in names]


def _identity[T](z: T) -> T:
    return z
