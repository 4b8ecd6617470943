"""The network's loss and error, one row and one unit at a time in plain Python: slow, and hard to get wrong."""

import math

_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "tanh": math.tanh,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "softplus": lambda z: math.log1p(math.exp(z)),
    "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + math.exp(-z)),
}


def row_outputs(network, theta, x):
    a, at = [float(v) for v in x], 0
    sizes = network.sizes
    for layer in range(len(sizes) - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        z = [float(theta[at + n_in * n_out + j]) for j in range(n_out)]
        for i in range(n_in):
            for j in range(n_out):
                z[j] += a[i] * float(theta[at + i * n_out + j])
        a = [_ACTIVATIONS[network.activations[layer]](t) for t in z] if layer < len(sizes) - 2 else z
        at += (n_in + 1) * n_out
    return a


def row_prediction(network, z):
    """What prediction returns for the outputs of a row: the inverse of the loss's link."""
    if network.loss == "softmax_cross_entropy":
        e = [math.exp(t - max(z)) for t in z]
        return [t / sum(e) for t in e]
    return [1 / (1 + math.exp(-t)) for t in z] if network.loss == "sigmoid_cross_entropy" else z


def row_loss_and_error(network, z, y):
    if network.loss == "softmax_cross_entropy":
        largest = max(z)
        loss = math.log(sum(math.exp(t - largest) for t in z)) + largest - z[y]
        return loss, float(z.index(largest) != y)
    if network.loss == "sigmoid_cross_entropy":
        loss = sum(math.log1p(math.exp(t)) - u * t for t, u in zip(z, y, strict=True))
        return loss, sum((t > 0) != (u > 0.5) for t, u in zip(z, y, strict=True)) / len(z)
    squares = sum((t - u) ** 2 for t, u in zip(z, y, strict=True))
    return squares / 2, squares / len(z)


def value_and_error(network, theta, X, y):
    pairs = [row_loss_and_error(network, row_outputs(network, theta, x), t) for x, t in zip(X, y, strict=True)]
    return sum(p[0] for p in pairs) / len(pairs), sum(p[1] for p in pairs) / len(pairs)
