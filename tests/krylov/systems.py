"""Systems with known spectra, and an operator that counts its products."""

import numpy as np


def symmetric(eigenvalues, seed=0, dtype=np.float64):
    """A random symmetric matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    A = (Q * np.asarray(eigenvalues)) @ Q.T
    return ((A + A.T) / 2).astype(dtype)


def definite(n=40, condition=50.0, seed=0, dtype=np.float64):
    return symmetric(np.linspace(1.0, condition, n), seed, dtype)


def indefinite(n=100, seed=0, dtype=np.float64):
    """A random symmetric matrix with about as many negative as positive eigenvalues."""
    B = np.random.default_rng(seed).standard_normal((n, n))
    return ((B + B.T) / 2).astype(dtype)


def vector(n, seed=1, dtype=np.float64):
    return np.random.default_rng(1000 + seed).standard_normal(n).astype(dtype)


class Counting:
    """An operator that counts its products and refuses vectors that are not finite or not of its dtype."""

    def __init__(self, A):
        self.A, self.shape, self.dtype, self.count = A, A.shape, A.dtype, 0

    def matvec(self, v):
        assert v.shape == self.shape[1:] and v.dtype == self.dtype and np.isfinite(v).all()
        self.count += 1
        return self.A @ v


class Poisoned(Counting):
    """An operator whose product number ``at`` holds a NaN or infinity."""

    def __init__(self, A, at, value=np.nan):
        super().__init__(A)
        self.at, self.value = at, value

    def matvec(self, v):
        product = super().matvec(v)
        if self.count == self.at:
            product[len(product) // 2] = self.value
        return product
