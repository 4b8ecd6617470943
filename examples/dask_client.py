# %% [markdown]
# # Train on the workers of a Dask client
#
# The rows lie in a store, a folder in Zarr format, in partitions. Workers read their own partitions, so a client sends
# them parameters and directions, and gets sums. Any `distributed.Client` will do: here two processes of a
# `LocalCluster`.

# %%
import tempfile
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

import hfnumba as hf

network = hf.Network([64, 50, 10], activation="relu", loss="softmax_cross_entropy")


def train(objective):
    """Make ten iterations and return the last."""
    *_, last = hf.optimizer("gn-cg", max_iterations=10).iterate(objective, network.initialize(seed=0))
    return last


# %% [markdown]
# In a script, worker processes import the file that starts them, so what starts them stands under
# `if __name__ == "__main__":`. A notebook does not need the condition.

# %%
if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory()
    X, y = load_digits(return_X_y=True)
    splits = {"train": (X[:1437], y[:1437]), "test": (X[1437:], y[1437:])}
    store = hf.write_store(Path(folder.name) / "digits.zarr", splits, scale=1 / 16, n_partitions=8)
    print(store)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        hf.DaskObjective(network, store["train"], client) as objective,
    ):
        there = train(objective)
    print(f"two workers: loss {there.loss:.4f}, error {there.error:.2%}, {there.rounds} rounds, {there.nbytes:,} bytes")

# %% [markdown]
# Sums are added along a fixed tree over the partitions, whoever computed them. So the same training on threads of this
# process gives the same parameters, to the bit.

# %%
if __name__ == "__main__":
    with hf.SplitObjective(network, store["train"]) as objective:
        here = train(objective)
    print("the same bits:", np.array_equal(here.state.theta, there.state.theta))
    folder.cleanup()
