"""Objectives in plain NumPy and float64 that count their rounds as the protocol asks."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dtrttf

from hfnumba.krylov.function_operator import FunctionOperator
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.objective import Counters, Minibatch, RowSample


@dataclass
class Spy:
    """Calls in order, samples asked for, every theta at which something was evaluated, and what to poison."""

    calls: list = field(default_factory=list)
    samples: list = field(default_factory=list)
    thetas: list = field(default_factory=list)
    matrices: list = field(default_factory=list)
    alive: list = field(default_factory=list)
    most_alive: int = 0
    poison: tuple[str, int] | None = None
    seen: dict = field(default_factory=dict)

    def hit(self, kind: str) -> bool:
        self.seen[kind] = self.seen.get(kind, 0) + 1
        return self.poison == (kind, self.seen[kind])


@dataclass(eq=False)
class ToyLinearization:
    theta: np.ndarray
    value: float
    error: float
    gradient: np.ndarray
    toy: object
    rows: np.ndarray
    sums: dict = field(default_factory=dict)

    def _operator(self, product):
        def matvec(v):
            toy = self.toy
            toy.charge("product", len(self.rows))
            out = product(self.theta.astype(float), np.asarray(v, float), self.rows).astype(np.float32)
            if toy.spy.hit("product"):
                out[-1] = np.nan
            return out

        return FunctionOperator(self.toy.n_params, matvec, np.dtype(np.float32))

    def hessian(self):
        self.toy.spy.matrices.append("hessian")
        return self._operator(self.toy.hvp)

    def gauss_newton(self):
        self.toy.spy.matrices.append("gauss_newton")
        return self._operator(self.toy.gnvp)

    def preconditioner(self, name, damping):
        return PRECONDITIONERS[name](damping=damping, **self.sums)


class Toy:
    """Subclasses give ``f``, ``g``, ``hvp``, ``gnvp`` in float64 for a set of rows."""

    n_rows = 1

    def __init__(self):
        self.counters = Counters()
        self.spy = Spy()

    def error_of(self, theta, rows):
        return float("nan")

    def charge(self, kind, n_rows):
        self.spy.calls.append(kind)
        self.counters.rounds += 1
        self.counters.nbytes += 4 * self.n_params
        self.counters.row_reads += n_rows

    def rows(self, sample):
        if sample is None:
            return np.arange(self.n_rows)
        if not isinstance(sample, RowSample):
            sample = RowSample(sample)
        self.spy.samples.append(sample)
        order = np.random.default_rng([sample.seed, sample.draw]).permutation(self.n_rows)
        start = sample.index * sample.n_rows
        return order[start : start + sample.n_rows]

    def loss(self, theta, rows):
        self.spy.thetas.append(np.array(theta))
        value = float(self.f(np.asarray(theta, float), rows))
        return float("nan") if self.spy.hit("loss") else value

    def grad(self, theta, rows):
        out = self.g(np.asarray(theta, float), rows).astype(np.float32)
        if self.spy.hit("gradient"):
            out[0] = np.inf
        return out

    def value(self, theta):
        self.charge("value", self.n_rows)
        return self.loss(theta, self.rows(None))

    def value_and_error(self, theta):
        self.charge("value", self.n_rows)
        rows = self.rows(None)
        return self.loss(theta, rows), self.error_of(np.asarray(theta, float), rows)

    def value_and_gradient(self, theta, rows=None):
        rows = self.rows(rows)
        self.charge("gradient", len(rows))
        return self.loss(theta, rows), self.grad(theta, rows)

    def fisher(self, theta, rows):
        """By the definition: the gradient of every row by itself."""
        each = [self.g(np.asarray(theta, float), rows[[i]]) for i in range(len(rows))]
        return (np.stack(each) ** 2).mean(0).astype(np.float32)

    def sums_of(self, preconditioner, theta, rows):
        """What a preconditioner is made of."""
        if preconditioner == "fisher":
            return {"fisher_diagonal": self.fisher(theta, rows)}
        return {} if preconditioner == "none" else self.factors(np.asarray(theta, float), rows)

    def linearize(self, theta, curvature_rows=None, *, preconditioner="none"):
        self.charge("linearize", self.n_rows)
        every = self.rows(None)
        value, gradient = self.loss(theta, every), self.grad(theta, every)
        lin = ToyLinearization(
            theta,
            value,
            self.error_of(np.asarray(theta, float), every),
            gradient,
            self,
            rows := self.rows(curvature_rows),
            self.sums_of(preconditioner, theta, rows),
        )
        self.spy.alive = [r for r in self.spy.alive if r() is not None] + [weakref.ref(lin)]
        self.spy.most_alive = max(self.spy.most_alive, len(self.spy.alive))
        return lin

    def retain(self, vector):
        return object()

    def minibatch(self, theta, rows, *, factor_seed=None, trial=None):
        """As one round, with the whole minibatch as its first part."""
        batch = self.rows(rows)
        self.charge("gradient", len(batch))
        value, gradient = self.loss(theta, batch), self.grad(theta, batch)
        factors = self.factors(np.asarray(theta, float), batch) if factor_seed is not None else None
        if trial is None:
            return Minibatch(value, gradient, factors, None, None, None)
        d, before = np.asarray(trial.direction, float), self.loss(trial.start, batch)
        form = float(d @ self.gnvp(np.asarray(theta, float), d, batch))
        if self.spy.hit("product"):
            form = float("nan")
        return Minibatch(value, gradient, factors, before, value, form)

    def factors(self, t, rows):
        """A layer of biases alone, whose factor G is the whole Gauss–Newton matrix."""
        matrix = np.stack([self.gnvp(t, e, rows) for e in np.eye(self.n_params)])
        none = np.zeros(0, np.float32)
        return {"A1": none, "a1": none, "G1": dtrttf(np.asfortranarray(matrix), uplo="L")[0].astype(np.float32)}

    def values_along(self, theta, directions, alphas, rows=None):
        rows = self.rows(rows)
        directions = np.atleast_2d(np.asarray(directions, np.float32))
        self.charge("along", len(rows))
        out = np.empty((len(directions), len(alphas)))
        for i, d in enumerate(directions):
            for j, alpha in enumerate(alphas):
                out[i, j] = self.loss(theta + np.float32(alpha) * d, rows)
        return out


class Quadratic(Toy):
    """offset + theta'A theta/2 - b'theta."""

    def __init__(self, A, b, offset=0.0):
        super().__init__()
        self.A, self.b, self.offset = np.asarray(A, float), np.asarray(b, float), offset
        self.n_params = len(self.b)

    def f(self, t, rows):
        return self.offset + t @ self.A @ t / 2 - self.b @ t

    def g(self, t, rows):
        return self.A @ t - self.b

    def hvp(self, t, v, rows):
        return self.A @ v

    gnvp = hvp


class Saddle(Toy):
    """1 + x² - y² + y⁴: a ridge along y = 0, minima 3/4 at (0, ±1/√2), saddle 1 at the origin."""

    n_params = 2

    def f(self, t, rows):
        x, y = t
        return 1 + x**2 - y**2 + y**4

    def g(self, t, rows):
        x, y = t
        return np.array([2 * x, -2 * y + 4 * y**3])

    def hvp(self, t, v, rows):
        return np.array([2.0, -2 + 12 * t[1] ** 2]) * v

    def gnvp(self, t, v, rows):
        return np.array([2.0, 12 * t[1] ** 2]) * v


class Rosenbrock(Toy):
    """Sum of r² with r = (10(y - x²), 1 - x), plus 0.01 so that it has a scale at the minimum."""

    n_params = 2

    def f(self, t, rows):
        x, y = t
        return 0.01 + 100 * (y - x * x) ** 2 + (1 - x) ** 2

    def g(self, t, rows):
        x, y = t
        return np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])

    def hvp(self, t, v, rows):
        x, y = t
        return np.array([[1200 * x * x - 400 * y + 2, -400 * x], [-400 * x, 200]]) @ v

    def gnvp(self, t, v, rows):
        J = np.array([[-20 * t[0], 10], [-1, 0]])
        return 2 * J.T @ (J @ v)


class Network(Toy):
    """One hidden tanh layer and softmax cross-entropy on a few clusters, with the R-operator by hand."""

    def __init__(self, n_rows=96, n_in=4, n_hidden=5, n_out=3, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, n_out, n_rows)
        self.X = 1.2 * rng.standard_normal((n_out, n_in))[self.labels] + rng.standard_normal((n_rows, n_in))
        self.n_rows, self.shape = n_rows, (n_in, n_hidden, n_out)
        self.Y = np.eye(n_out)[self.labels]
        self.n_params = (n_in + 1) * n_hidden + (n_hidden + 1) * n_out

    def start(self, seed=0):
        return (0.5 * np.random.default_rng(seed).standard_normal(self.n_params)).astype(np.float32)

    def split(self, t):
        n_in, n_hidden, n_out = self.shape
        ends = np.cumsum([n_in * n_hidden, n_hidden, n_hidden * n_out])
        W1, b1, W2, b2 = np.split(t, ends)
        return W1.reshape(n_in, n_hidden), b1, W2.reshape(n_hidden, n_out), b2

    def forward(self, t, rows):
        W1, b1, W2, b2 = self.split(t)
        h = np.tanh(self.X[rows] @ W1 + b1)
        z = h @ W2 + b2
        log_p = z - z.max(1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
        return h, log_p

    def f(self, t, rows):
        return -(self.forward(t, rows)[1] * self.Y[rows]).sum() / len(rows)

    def factors(self, t, rows):
        """Kronecker factors with the expectation of the deltas' outer products."""
        h, log_p = self.forward(t, rows)
        p, W2, found = np.exp(log_p), self.split(t)[2], {}
        Q = np.einsum("ni,ij->nij", p, np.eye(p.shape[1])) - np.einsum("ni,nj->nij", p, p)
        J = W2 * (1 - h * h)[:, :, None]
        below = np.einsum("nia,nab,njb->nij", J, Q, J)
        for layer, (a, G) in enumerate(((self.X[rows], below), (h, Q)), start=1):
            for name, moment in ((f"A{layer}", a.T @ a / len(rows)), (f"G{layer}", G.mean(0))):
                found[name] = dtrttf(np.asfortranarray(moment), uplo="L")[0].astype(np.float32)
            found[f"a{layer}"] = a.mean(0).astype(np.float32)
        return found

    def error_of(self, t, rows):
        return float((self.forward(t, rows)[1].argmax(1) != self.labels[rows]).mean())

    def g(self, t, rows):
        W2 = self.split(t)[2]
        h, log_p = self.forward(t, rows)
        d2 = (np.exp(log_p) - self.Y[rows]) / len(rows)
        d1 = d2 @ W2.T * (1 - h * h)
        return np.concatenate([(self.X[rows].T @ d1).ravel(), d1.sum(0), (h.T @ d2).ravel(), d2.sum(0)])

    def _product(self, t, v, rows, exact):
        W2 = self.split(t)[2]
        V1, c1, V2, c2 = self.split(v)
        h, log_p = self.forward(t, rows)
        X, p, slope = self.X[rows], np.exp(log_p), 1 - h * h
        d2 = (p - self.Y[rows]) / len(rows)
        Rh = (X @ V1 + c1) * slope
        Rz = Rh @ W2 + h @ V2 + c2
        Rd2 = (p * Rz - p * (p * Rz).sum(1, keepdims=True)) / len(rows)
        Rd1 = Rd2 @ W2.T * slope
        RW2 = h.T @ Rd2
        if exact:
            Rd1 += d2 @ V2.T * slope + d2 @ W2.T * (-2 * h * Rh)
            RW2 += Rh.T @ d2
        return np.concatenate([(X.T @ Rd1).ravel(), Rd1.sum(0), RW2.ravel(), Rd2.sum(0)])

    def hvp(self, t, v, rows):
        return self._product(t, v, rows, True)

    def gnvp(self, t, v, rows):
        return self._product(t, v, rows, False)


class Hidden(Toy):
    """A loss that is finite at infinity, as a bounded activation makes it."""

    n_params = 2

    def f(self, t, rows):
        return 2.0 - np.tanh(np.abs(t).sum())

    def g(self, t, rows):
        return np.full(2, -1.0)

    def hvp(self, t, v, rows):
        return v

    gnvp = hvp
