"""Evaluations by other libraries, each in the fastest way it offers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.network import Network
from hfnumba.versions import as_text
from hfnumba.versions import installed as installed_versions

Array = NDArray[np.float32]
Evaluations = dict[str, Callable[[], Callable[[], Any]]]
"""Functions by name that prepare an evaluation (primal pass, compilation) and return the call to measure."""


@dataclass(frozen=True)
class Problem:
    """Problem to measure: a softmax cross-entropy network at theta on rows, and the vector of the products."""

    network: Network
    X: Array
    y: NDArray[np.int32]
    theta: Array
    v: Array


def jax_evaluations(problem: Problem) -> Evaluations:
    """Loss, gradient, Hv and Gv by JAX, compiled; products reuse the primal pass.

    Hv is the compiled transpose-free linearisation of the gradient; Gv is a linearised forward pass, Q, and a
    pulled-back one.
    """
    import jax  # noqa: PLC0415 - an optional peer
    import jax.numpy as jnp  # noqa: PLC0415

    X, y, theta, v = (jnp.asarray(a) for a in (problem.X, problem.y, problem.theta, problem.v))
    outputs = _outputs(problem.network, {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid})

    def of_outputs(z: Any) -> Any:
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(y)), y])

    def f(t: Any) -> Any:
        return of_outputs(outputs(t, X))

    def of_theta(function: Any) -> Callable[[], Any]:
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(theta))

    def hessian() -> Callable[[], Any]:
        hvp = jax.jit(lambda t: jax.linearize(jax.grad(f), t)[1])(theta)
        apply = jax.jit(lambda h, u: h(u))
        return lambda: apply(hvp, v).block_until_ready()

    def gauss_newton() -> Callable[[], Any]:
        z, jvp = jax.jit(lambda t: jax.linearize(lambda u: outputs(u, X), t))(theta)
        vjp = jax.jit(lambda t: jax.vjp(lambda u: outputs(u, X), t)[1])(theta)
        p = jax.nn.softmax(z)

        def product(pull: Any, push: Any, q: Any, u: Any) -> Any:
            r = push(u)
            return pull(q * (r - jnp.sum(q * r, axis=1, keepdims=True)) / len(y))[0]

        apply = jax.jit(product)
        return lambda: apply(vjp, jvp, p, v).block_until_ready()

    return {
        "loss": lambda: of_theta(f),
        "gradient": lambda: of_theta(jax.value_and_grad(f)),
        "Hv": hessian,
        "Gv": gauss_newton,
    }


def torch_evaluations(problem: Problem) -> Evaluations:
    """Loss, gradient, Hv and Gv by PyTorch; products reuse the graph of the primal pass.

    Hv differentiates the graph of the gradient once more; Gv is forward mode by the double-backward trick, Q,
    and backward mode.
    """
    import torch  # noqa: PLC0415 - an optional peer

    X, theta, v = (torch.from_numpy(a) for a in (problem.X, problem.theta.copy(), problem.v))
    y = torch.from_numpy(problem.y.astype(np.int64))
    theta.requires_grad_(True)
    outputs = _outputs(problem.network, {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid})
    criterion = torch.nn.functional.cross_entropy

    def loss() -> Any:
        with torch.no_grad():
            return criterion(outputs(theta, X), y).item()

    def hessian() -> Callable[[], Any]:
        (gradient,) = torch.autograd.grad(criterion(outputs(theta, X), y), theta, create_graph=True)
        return lambda: torch.autograd.grad(gradient, theta, v, retain_graph=True)[0]

    def gauss_newton() -> Callable[[], Any]:
        z = outputs(theta, X)
        dummy = torch.zeros_like(z, requires_grad=True)
        (pulled,) = torch.autograd.grad(z, theta, dummy, create_graph=True)
        p = torch.softmax(z, dim=1).detach()

        def product() -> Any:
            (r,) = torch.autograd.grad(pulled, dummy, v, retain_graph=True)
            qr = p * (r - (p * r).sum(dim=1, keepdim=True)) / len(y)
            return torch.autograd.grad(z, theta, qr, retain_graph=True)[0]

        return product

    return {
        "loss": lambda: loss,
        "gradient": lambda: lambda: torch.autograd.grad(criterion(outputs(theta, X), y), theta)[0],
        "Hv": hessian,
        "Gv": gauss_newton,
    }


def _torch_model(problem: Problem) -> tuple[Any, Any, Any, Any]:
    """Network as a PyTorch module, its criterion, and the rows."""
    import torch  # noqa: PLC0415

    layers: list[Any] = []
    phi = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[problem.network.activations[0]]
    for n_in, n_out in itertools.pairwise(problem.network.sizes):
        layers += [torch.nn.Linear(n_in, n_out), phi()]
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y.astype(np.int64))
    return torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss(), X, y


def curvlinops_evaluations(problem: Problem) -> Evaluations:
    """Hv and Gv by the linear operators of curvlinops."""
    import torch  # noqa: PLC0415
    from curvlinops import GGNLinearOperator, HessianLinearOperator  # noqa: PLC0415

    model, criterion, X, y = _torch_model(problem)
    arguments = (model, criterion, list(model.parameters()), [(X, y)])
    hessian = HessianLinearOperator(*arguments, check_deterministic=False)
    gauss_newton = GGNLinearOperator(*arguments, check_deterministic=False)
    v = torch.from_numpy(problem.v)
    return {"Hv": lambda: lambda: hessian @ v, "Gv": lambda: lambda: gauss_newton @ v}


def backpack_evaluations(problem: Problem) -> Evaluations:
    """Hv and Gv by the products of BackPACK, which reuse the graphs of the loss and of its gradient."""
    import torch  # noqa: PLC0415
    from backpack.hessianfree.ggnvp import ggn_vector_product  # noqa: PLC0415
    from backpack.hessianfree.hvp import hessian_vector_product  # noqa: PLC0415

    model, criterion, X, y = _torch_model(problem)
    parameters = list(model.parameters())
    z = model(X)
    loss = criterion(z, y)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    v = [torch.randn_like(p) for p in parameters]
    return {
        "Hv": lambda: lambda: hessian_vector_product(loss, parameters, v, grad_params=gradient),
        "Gv": lambda: lambda: ggn_vector_product(loss, z, model, v),
    }


def _outputs(network: Network, activations: dict[str, Callable[[Any], Any]]) -> Callable[[Any, Any], Any]:
    """Forward pass in operations that arrays of JAX and PyTorch share."""
    phi, sizes = activations[network.activations[0]], network.sizes

    def outputs(theta: Any, X: Any) -> Any:
        a, at = X, 0
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            W = theta[at : at + n_in * n_out].reshape(n_in, n_out)
            a = a @ W + theta[at + n_in * n_out : at + (n_in + 1) * n_out]
            a = phi(a) if layer < len(sizes) - 2 else a
            at += (n_in + 1) * n_out
        return a

    return outputs


PEERS: dict[str, Callable[[Problem], Evaluations]] = {
    "jax": jax_evaluations,
    "torch": torch_evaluations,
    "curvlinops": curvlinops_evaluations,
    "backpack": backpack_evaluations,
}


def installed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the named peers that can be imported."""
    return tuple(name for name in names if find_spec(name) is not None)


def versions(names: tuple[str, ...]) -> str:
    """Format the versions of the named peers, by the names of their distributions."""
    distributions = packages_distributions()
    return as_text(installed_versions(distributions.get(name, [name])[0] for name in names))
