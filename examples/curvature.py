# %% [markdown]
# # Curvature of a small network: spectrum, and a direction of negative curvature
#
# `linearize` gives the gradient and the curvature at a point. Its operators are known by their products only, and fit
# into `hfnumba.spectrum` and SciPy's solvers.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits

import hfnumba as hf

X, y = load_digits(return_X_y=True)
network = hf.Network([64, 16, 10], activation="tanh", loss="softmax_cross_entropy")
objective = hf.ArrayObjective(network, X, y, scale=1 / 16)

start = network.initialize(seed=0)
*_, last = hf.HessianFree(method="hf-bicgstab", max_iterations=8).iterate(objective, start)
points = {"before training": start, "after 8 iterations": last.state.theta}

# %% [markdown]
# The spectral density of the Hessian by stochastic Lanczos quadrature: most eigenvalues are close to 0, a few are
# large, and some are negative.

# %%
spectra = {name: hf.spectrum(objective.linearize(theta).hessian()) for name, theta in points.items()}
for name, found in spectra.items():
    low, high = found.lowest[0], found.highest[0]
    print(
        f"{name}: eigenvalues from {low.value:.4f} to {high.value:.3f}, at least {found.n_negative_at_least} negative"
    )

figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axes, (name, found) in zip(panels, spectra.items(), strict=True):
    x = np.linspace(found.lowest[0].value - 3 * found.width, found.highest[0].value + 3 * found.width, 600)
    axes.semilogy(x, found.density(x).value)
    axes.set(title=name, xlabel="eigenvalue of the Hessian", ylabel="spectral density", ylim=(1e-6, None))
plt.show()

# %% [markdown]
# Near zero weights the gradient is small, and first-order methods leave this plateau slowly. SciPy finds the direction
# d of the lowest eigenvalue from products of the Hessian. The loss falls along d in both directions, as the curvature
# says: to second order it is f + t g'd + t²/2 d'Hd.

# %%
plateau = network.initialize(seed=0) * np.float32(0.01)
linearization = objective.linearize(plateau)
hessian, gradient = linearization.hessian(), linearization.gradient
(lowest,), vectors = eigsh(hessian.to_scipy(), k=1, which="SA", v0=np.ones(network.n_params, np.float32))
d = vectors[:, 0].astype(np.float32)
print(f"lowest eigenvalue {lowest:.4f}, norm of the gradient {np.linalg.norm(gradient):.4f}")

# %%
t = np.linspace(-1, 1, 41)
(losses,) = objective.values_along(plateau, d, t)
model = linearization.value + t * float(gradient @ d) + t**2 / 2 * lowest
print(f"loss {linearization.value:.4f}; lowest along d {losses.min():.4f}, at t = {t[losses.argmin()]:.2f}")

figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
axes.plot(t, losses, label="loss")
axes.plot(t, model, "--", label="quadratic model")
axes.set(xlabel="t", ylabel="f(θ + t d)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# A gradient with curvature g'Hg < 0 shows the same without any eigenvector. The Hessian-free methods meet such
# directions while they solve, and use them: `direction` says which kind a step was.

# %%
for it in hf.HessianFree(method="hf-bicgstab", max_iterations=6).iterate(objective, plateau):
    met = f"{it.n_negative_curvature} Rayleigh quotients below 0" if it.n_matvec else ""
    print(f"iteration {it.iteration}: loss {it.loss:.4f}, {it.direction or 'start'} {met}")

objective.close()
