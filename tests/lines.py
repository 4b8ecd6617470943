"""Lines of a ledger with all fields."""


def line(iteration, /, **rest):
    """Make a line whose loss and error fall, with other fields as given."""
    optional = ("test_loss", "test_error", "grad_norm", "damping", "radius", "rho", "alpha", "direction")
    found = dict.fromkeys((*optional, "krylov_status", "lowest_rayleigh", "curvature"))
    found |= {"iteration": iteration, "epoch": 7.0 * iteration, "loss": 2.0 / (iteration + 1), "note": ""}
    found |= {"error": 0.9 / (iteration + 1), "rounds": 14 * iteration, "nbytes": 0, "elapsed_s": 0.3 * iteration}
    return found | {"n_matvec": 0, "n_negative_curvature": 0} | rest
