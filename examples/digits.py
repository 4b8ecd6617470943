# %% [markdown]
# # Train on digits and look at the curves
#
# The 1,797 handwritten digits that come with scikit-learn, a network 64-100-10, and the method `hf-bicgstab`: the
# Hessian-free method whose linear systems are solved by Bi-CG-STAB. The test rows are by other writers.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import hfnumba as hf

X, y = load_digits(return_X_y=True)
network = hf.Network([64, 100, 10], activation="tanh", loss="softmax_cross_entropy")
training = hf.ArrayObjective(network, X[:1437], y[:1437], scale=1 / 16, l2=1e-3)
held_out = hf.ArrayObjective(network, X[1437:], y[1437:], scale=1 / 16)

# %% [markdown]
# `iterate` is a generator. It yields the state before the first step, then one record per iteration. Errors are shares
# of wrong rows; a round is one exchange with all workers, which here is one pass over the rows of this process.

# %%
optimizer = hf.optimizer("hf-bicgstab", max_iterations=12)
iterations = list(optimizer.iterate(training, network.initialize(seed=0), test=held_out))

print("iteration  loss    error    test error  rounds")
for it in iterations[::3]:
    print(f"{it.iteration:9}  {it.loss:.4f}  {it.error:7.2%}  {it.test_error:10.2%}  {it.rounds:6}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
rounds = [it.rounds for it in iterations]
left.semilogy(rounds, [it.loss for it in iterations], label="training")
left.semilogy(rounds, [it.test_loss for it in iterations], label="test")
left.set(xlabel="rounds", ylabel="mean cross-entropy")
left.legend(frameon=False)
right.plot(rounds, [100 * it.error for it in iterations], label="training")
right.plot(rounds, [100 * it.test_error for it in iterations], label="test")
right.set(xlabel="rounds", ylabel="error, %", ylim=(0, 20))
plt.show()

# %% [markdown]
# What each step was: the damping of its linear system, the number of Hessian products, the kind of direction, and the
# ratio of the actual to the predicted reduction of the loss.

# %%
print("iteration  damping  products  direction           ratio")
for it in iterations[1::3]:
    ratio = "–" if it.rho is None else f"{it.rho:.2f}"
    print(f"{it.iteration:9}  {it.damping:<7.3g}  {it.n_matvec:8}  {it.direction:<18}  {ratio}")

training.close()
held_out.close()
