"""The same network written with JAX: an oracle whose derivatives somebody else takes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}


def outputs(network, theta, X):
    a, at = X, 0
    sizes = network.sizes
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        W = theta[at : at + n_in * n_out].reshape(n_in, n_out)
        b = theta[at + n_in * n_out : at + (n_in + 1) * n_out]
        a = a @ W + b
        if layer < len(sizes) - 2:
            a = _ACTIVATIONS[network.activation](a)
        at += (n_in + 1) * n_out
    return a


def mean_loss(network, z, y):
    if network.loss == "softmax_cross_entropy":
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(y)), y])
    if network.loss == "sigmoid_cross_entropy":
        return jnp.mean(jnp.sum(jax.nn.softplus(z) - y * z, axis=1))
    return jnp.mean(jnp.sum((z - y) ** 2, axis=1)) / 2


class Oracle:
    """Value, gradient, dense Hessian and dense Gauss-Newton matrix at one theta."""

    def __init__(self, network, theta, X, y):
        def f(t):
            return mean_loss(network, outputs(network, t, X), y)

        def z(t):
            return outputs(network, t, X).ravel()

        def of_outputs(u):
            return mean_loss(network, u.reshape(len(X), -1), y)

        theta = jnp.asarray(theta)
        self.value = float(f(theta))
        self.gradient = np.asarray(jax.grad(f)(theta))
        self.hessian = np.asarray(jax.jacfwd(jax.grad(f))(theta))
        J = np.asarray(jax.jacfwd(z)(theta))
        Q = np.asarray(jax.jacfwd(jax.grad(of_outputs))(z(theta)))
        self.gauss_newton = J.T @ Q @ J
