"""The outer loops: how the answers of an objective become steps. NumPy only, no Dask, no Numba."""
