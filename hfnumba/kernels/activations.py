"""The activations of :mod:`hfnumba.activations`, compiled."""

from __future__ import annotations

from hfnumba import activations
from hfnumba.kernels import elementary  # noqa: F401 - compiles what the activations call
from hfnumba.kernels.jit import kernel

activate = kernel(activations.activate)
activate_with_derivatives = kernel(activations.activate_with_derivatives)
multiply = kernel(activations.multiply)
times_derivative = kernel(activations.times_derivative)
times_derivative_plus = kernel(activations.times_derivative_plus)
directional = kernel(activations.directional)
