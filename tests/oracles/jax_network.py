"""The same network written with JAX: an oracle whose derivatives somebody else takes.

Compiling is what takes time here, so JAX does it once for a depth and a loss, whatever the activation, and quickly.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)

_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
}


def _outputs(sizes, activations, theta, X):
    a, at = X, 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        W = theta[at : at + n_in * n_out].reshape(n_in, n_out)
        b = theta[at + n_in * n_out : at + (n_in + 1) * n_out]
        a = a @ W + b
        if layer < len(sizes) - 2:
            a = jax.lax.switch(activations[layer], list(_ACTIVATIONS.values()), a)
        at += (n_in + 1) * n_out
    return a


def _mean_loss(loss, z, y, weights=None):
    if loss == "softmax_cross_entropy":
        return jnp.average(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(y)), y], weights=weights)
    if loss == "sigmoid_cross_entropy":
        return jnp.average(jnp.sum(jax.nn.softplus(z) - y * z, axis=1), weights=weights)
    return jnp.average(jnp.sum((z - y) ** 2, axis=1), weights=weights) / 2


@partial(jax.jit, static_argnums=(0, 1))
def _derivatives(sizes, loss, activations, theta, X, y, weights):
    def f(t):
        return _mean_loss(loss, _outputs(sizes, activations, t, X), y, weights)

    def z(t):
        return _outputs(sizes, activations, t, X).ravel()

    def of_outputs(u):
        return _mean_loss(loss, u.reshape(len(X), -1), y, weights)

    gradient = jax.grad(f)
    Q = jax.jacfwd(jax.grad(of_outputs))(z(theta))
    return f(theta), gradient(theta), jax.jacfwd(gradient)(theta), jax.jacfwd(z)(theta), Q


@partial(jax.jit, static_argnums=(0, 1))
def _row_gradients(sizes, loss, activations, theta, X, y):
    def of_row(t, x, target):
        return _mean_loss(loss, _outputs(sizes, activations, t, x[None]), target[None])

    return jax.vmap(jax.grad(of_row), (None, 0, 0))(theta, X, y)


def _arguments(network, theta, X, y):
    codes = np.array([list(_ACTIVATIONS).index(name) for name in network.activations], int)
    return network.sizes, network.loss, codes, theta, X, y


def row_gradients(network, theta, X, y):
    """The gradient of the loss of each row, of shape (rows, parameters)."""
    return np.asarray(_row_gradients(*_arguments(network, theta, X, y)))


class Oracle:
    """Value, gradient, dense Hessian and dense Gauss–Newton matrix at one theta."""

    def __init__(self, network, theta, X, y, weights=None):
        found = _derivatives(*_arguments(network, theta, X, y), weights)
        value, self.gradient, self.hessian, J, Q = (np.asarray(array) for array in found)
        self.value = float(value)
        self.gauss_newton = J.T @ Q @ J
