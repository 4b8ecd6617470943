# %% [markdown]
# # A loop of your own: early stopping, and going on later
#
# An optimiser is a generator of iterations. When to stop is decided by whoever loops over it; nothing has to be
# registered, and a record's `state` is all that is needed to go on from it.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification

import hfnumba as hf

# Noisy labels, so that training for too long over-fits.
X, y = make_classification(2000, 20, n_informative=8, n_classes=3, flip_y=0.15, random_state=0)
network = hf.Network([20, 12, 3], activation="gelu", loss="softmax_cross_entropy")
training = hf.ArrayObjective(network, X[:1000], y[:1000])
validation = hf.ArrayObjective(network, X[1000:], y[1000:])
optimizer = hf.HessianFree(method="hf-cg", max_iterations=40)

# %% [markdown]
# Stop when the validation loss has not been lower for five iterations, and keep the best parameters.

# %%
history, best = [], None
for it in optimizer.iterate(training, network.initialize(seed=1), validation=validation):
    history.append(it)
    if best is None or it.validation_loss < best.validation_loss:
        best = it
    if it.iteration >= best.iteration + 5:
        break

print(f"stopped after iteration {history[-1].iteration}; the best is iteration {best.iteration}")
print(f"validation loss there {best.validation_loss:.4f}, error {best.validation_error:.1%}")

# %%
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
numbers = [it.iteration for it in history]
axes.plot(numbers, [it.loss for it in history], label="training")
axes.plot(numbers, [it.validation_loss for it in history], label="validation")
axes.axvline(best.iteration, color="0.6", linewidth=1)
axes.set(xlabel="iteration", ylabel="mean cross-entropy")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# A state continues with the same bits as if there had been no pause. Here the loop goes on from iteration 2, and meets
# the third iteration again.

# %%
again = next(optimizer.iterate(training, state=history[2].state))
print("the same bits:", np.array_equal(again.state.theta, history[3].state.theta))

training.close()
validation.close()
