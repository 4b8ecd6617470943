# %% [markdown]
# # Regression of a table: the borehole function
#
# The flow of water through a borehole, as a function of eight inputs of very different magnitudes (Harper and Gupta
# 1983): a usual test of surrogate models.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from hfnumba import HessianFreeRegressor

# Name, lowest and highest value of each input.
INPUTS = {
    "radius of the borehole, m": (0.05, 0.15),
    "radius of influence, m": (100, 50_000),
    "transmissivity of the upper aquifer, m²/yr": (63_070, 115_600),
    "head of the upper aquifer, m": (990, 1110),
    "transmissivity of the lower aquifer, m²/yr": (63.1, 116),
    "head of the lower aquifer, m": (700, 820),
    "length of the borehole, m": (1120, 1680),
    "conductivity of the borehole, m/yr": (9855, 12_045),
}


def borehole(X):
    """Flow in m³/yr for rows of inputs."""
    rw, r, Tu, Hu, Tl, Hl, L, Kw = X.T
    log = np.log(r / rw)
    return 2 * np.pi * Tu * (Hu - Hl) / (log * (1 + 2 * L * Tu / (log * rw**2 * Kw) + Tu / Tl))


low, high = np.array(list(INPUTS.values())).T
X = np.random.default_rng(0).uniform(low, high, (2000, len(INPUTS)))
X_train, X_test, y_train, y_test = train_test_split(X, borehole(X), test_size=0.25, random_state=0)

# %% [markdown]
# Features and targets are standardised within the estimator. A tenth of the training rows decides when to stop.

# %%
model = HessianFreeRegressor(hidden_layer_sizes=(40, 40), random_state=0).fit(X_train, y_train)
linear = LinearRegression().fit(X_train, y_train)
print(f"{model.n_iter_} iterations")
for name, one in (("linear", linear), ("network", model)):
    deviation = np.sqrt(np.mean((one.predict(X_test) - y_test) ** 2))
    print(f"{name:8} R² {one.score(X_test, y_test):.4f}, root mean square error {deviation:.2f} m³/yr")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(model.loss_curve_, label="training")
left.set(xlabel="iteration", ylabel="mean loss of standardised targets", yscale="log")
for name, one in (("linear", linear), ("network", model)):
    right.plot(y_test, one.predict(X_test), ".", markersize=3, label=name)
right.axline((0, 0), slope=1, color="0.6", linewidth=1)
right.set(xlabel="flow, m³/yr", ylabel="predicted")
right.legend(frameon=False)
plt.show()
