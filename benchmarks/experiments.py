"""Runs of docs/reproduction.md, by name; see reproduction.py."""

from hfnumba.figures.experiment import Experiment

TEXT, DEFAULTS, RELU = "the paper's text", "our defaults", "the paper's text, relu and He's start"
READINGS = {TEXT: {"paper": True}, DEFAULTS: {}, RELU: {"paper": True, "activation": "relu", "init": "he"}}
METHODS = ("hf-bicgstab", "hf-cg", "gn-cg", "hybrid-cg")
USUAL = 2048
SAMPLES = (64, 512, 1024, 2048, 4096, 8192)
BASES = (5, 10, 15, 20)
"""Numbers of products for a basis of hf-lanczos, besides its default of 12."""
TOO_SMALL = 64
"""Sample of SAMPLES that fails according to the paper; it has 25 iterations, as in figure 3."""

DEEP = Experiment.of(hidden=(400, 150), max_iterations=30, target_error=0.01, curvature_rows=USUAL)
FIRST = Experiment.of(hidden=(400, 150), max_iterations=40, target_error=0.01)
TINY = Experiment.of(hidden=(400, 150), init="tiny", max_iterations=20)

GRIDS = {
    "sgd": ((64, 256, 1024, 4096), (0.1, 0.3, 1.0)),
    "momentum": ((256, 1024, 4096), (0.03, 0.1, 0.3)),
    "adam": ((1024, 2048, 4096), (0.004, 0.008, 0.016)),
}
"""Rows of a minibatch, and the learning rates tried with each, by method."""
MANY_EPOCHS = 100
"""Number of epochs for minibatches of 4096 rows, with three steps per epoch."""


def name(method: str, reading: str, rows: int = USUAL) -> str:
    """Name of a run of a second-order method."""
    return f"{method}, {reading}" + ("" if rows == USUAL else f", {rows} curvature rows")


def first_order(method: str, rows: int, rate: float) -> tuple[str, Experiment]:
    """Name and experiment of a stochastic method."""
    experiment = FIRST.but(method=method, batch_rows=rows, learning_rate=rate)
    if rows >= 4096:
        experiment = experiment.but(max_iterations=MANY_EPOCHS)
    return f"{method}, {rows} rows, rate {rate:g}", experiment


def _samples(reading: str) -> dict[str, Experiment]:
    return {
        name("hf-bicgstab", reading, rows): DEEP.but(
            curvature_rows=rows, max_iterations=25 if rows == TOO_SMALL else 30, **READINGS[reading]
        )
        for rows in SAMPLES
        if rows != USUAL
    }


SMALL = {
    **{
        name(method, reading): DEEP.but(method=method, **READINGS[reading])
        for reading in READINGS
        for method in METHODS
    },
    "hf-bicgstab, our defaults, relu and He's start": DEEP.but(activation="relu", init="he"),
    **_samples(TEXT),
    **_samples(DEFAULTS),
    "hf-lanczos": DEEP.but(method="hf-lanczos"),
    **{f"hf-lanczos, {n} products": DEEP.but(method="hf-lanczos", krylov_iterations=n) for n in BASES},
    "hf-steihaug": DEEP.but(method="hf-steihaug"),
    "hf-minres": DEEP.but(method="hf-minres"),
    "lbfgs": FIRST.but(method="lbfgs", max_iterations=60),
    **dict([first_order("sgd", 64, 0.1)]),
    "sgd, 64 rows, rate 0.1, relu and He's start": first_order("sgd", 64, 0.1)[1].but(activation="relu", init="he"),
}
SADDLE = {
    f"{method}, tiny start": TINY.but(method=method, curvature_rows=USUAL)
    for method in ("hf-bicgstab", "gn-cg", "hf-steihaug")
}
"""Runs from a tiny start; momentum is run separately, until it has left the plateau."""
WHOLE = {"hf-bicgstab, all rows, 4096 curvature rows": DEEP.but(curvature_rows=4096, target_error=0.02)}
