"""Explanation of a run in words: what went well or badly, found in its ledger, its parameters and some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from hfnumba import ledger
from hfnumba.errors import CheckpointError
from hfnumba.run.directory import RunDirectory
from hfnumba.run.evidence import Evidence
from hfnumba.run.method_settings import optimizer_of
from hfnumba.run.model import load_model
from hfnumba.run.sample_facts import sample_facts
from hfnumba.store.columns import feature_names, listed

__all__ = ["Finding", "explain"]

_GOOD_RHO, _POOR_RHO = 0.9, 0.7
"""Median reduction ratios: 1 is a perfect model. Samples that are large enough give more than 0.9."""
_UNIT_SIZE = 10.0
"""Mean or deviation of a feature beyond which weights of unit size saturate units."""
_DEAD_SHARE = 0.1
_SHRUNK = 0.1
_EXPLODED = 100.0
_OVERFIT_LOSS, _OVERFIT_GAP = 1.5, 0.1
_STILL_FALLING = 0.02


@dataclass(frozen=True)
class Finding:
    """One thing that went well or badly.

    Attributes
    ----------
    good : bool
        False for a fault.
    cause : str
        Name of the kind of finding, for programs.
    text : str
        What was seen, and for a fault what to do.
    """

    good: bool
    cause: str
    text: str


def explain(path: Path, checkpoint: Literal["best", "newest"] = "best") -> list[Finding]:
    """Explain a run; faults come first.

    Parameters
    ----------
    path : Path
        Directory of the run.
    checkpoint : {"best", "newest"}
        Parameters that are looked at, see :func:`hfnumba.run.model.load_model`.

    Returns
    -------
    list of Finding
        All that was found.

    Raises
    ------
    CheckpointError
        If this is no run, or it has no iteration or no checkpoint yet.
    """
    lines = ledger.read(RunDirectory(path).ledger)
    model = load_model(path, checkpoint)
    if not lines:
        raise CheckpointError(f"{path} has no ledger yet; a run is explained after its first iteration")
    facts = sample_facts(model.record.store, model.network, model.theta)
    return findings(Evidence(model.record, lines, model.network, model.theta, facts))


def findings(evidence: Evidence) -> list[Finding]:
    """Return all findings, faults first."""
    found = [finding for rule in RULES for finding in rule(evidence)]
    return sorted(found, key=lambda finding: finding.good)


_Found = Iterator[Finding]
good, fault = partial(Finding, True), partial(Finding, False)


def _overflow(run: Evidence) -> _Found:
    losses = run.values("loss")
    missing = [line["iteration"] for line in run.lines if line["loss"] is None]
    if missing:
        yield fault("overflow", f"the loss was not finite in iteration {missing[0]}: {_SMALLER}")
    elif losses and max(losses) > _EXPLODED * max(losses[0], 1e-30):
        at = next(line["iteration"] for line in run.lines if line["loss"] == max(losses))
        yield fault(
            "overflow", f"the loss grew from {losses[0]:.4g} to {max(losses):.4g} in iteration {at}: {_SMALLER}"
        )
    nonfinite = sum(line["krylov_status"] == "NONFINITE" for line in run.lines)
    if nonfinite:
        yield fault("overflow", f"products were not finite in {nonfinite} iterations: raise --damping, scale features")


_SMALLER = "lower --learning-rate, raise --damping, or scale the features to about unit size"


def _features(run: Evidence) -> _Found:
    if run.facts is None:
        return
    size = np.maximum(abs(run.facts.mean), run.facts.deviation)
    large = np.flatnonzero(size > _UNIT_SIZE)
    if not len(large):
        return
    names = feature_names(run.record.store.columns or ())
    order = large[np.argsort(-size[large])]
    shown = [names[k] if len(names) == len(size) else f"number {k}" for k in order[:5]]
    yield fault(
        "unscaled features",
        f"{len(large)} of {len(size)} features are far from unit size, up to {size.max():.3g} ({listed(shown)}): "
        "set standardise = true in the recipe, or scale them, and build the store again",
    )


def _labels(run: Evidence) -> _Found:
    facts = run.facts
    if facts is None or run.record.store.task == "autoencode":
        return
    if facts.largest_share == 1.0:
        what = "class" if run.network.takes_labels else "target"
        yield fault(
            "constant labels",
            f"all {facts.n_seen} training rows that were looked at have the same {what}, so there is nothing "
            "to learn: check the column of labels in the recipe",
        )
    elif run.network.takes_labels and run.chosen["error"] is not None:
        least = 1 - facts.largest_share
        if run.chosen["error"] > 0.95 * least:
            yield fault(
                "nothing learned",
                f"the training error of {run.chosen['error']:.1%} is no better than always choosing the most "
                f"frequent class ({least:.1%}): see the other findings, or train longer",
            )


def _dead_units(run: Evidence) -> _Found:
    for number, dead, width in run.facts.dead if run.facts is not None else ():
        if dead >= max(1, _DEAD_SHARE * width):
            yield fault(
                "dead units",
                f"{dead} of {width} relu units of hidden layer {number} are 0 for every row that was looked at and "
                "learn nothing: scale the features, use --init he, a smaller step, or softplus instead",
            )


def _penalty(run: Evidence) -> _Found:
    settings = run.record.settings
    if settings.l2 == 0:
        return
    start = run.network.initialize(settings.seed, settings.init)  # type: ignore[arg-type]  # checked when it was read
    before, after = (float(np.linalg.norm(run.network.weights_only(theta))) for theta in (start, run.theta))
    if after < _SHRUNK * before:
        yield fault(
            "l2 too large",
            f"the penalty --l2 {settings.l2:g} has shrunk the weights to {after / before:.1%} of their initial length, "
            "so that the outputs hardly depend on the features: give a value a hundred times smaller",
        )


def _overfitting(run: Evidence) -> _Found:
    split = next((name for name in ("validation", "test") if run.lines[-1].get(f"{name}_loss") is not None), None)
    if split is None or run.lines[-1]["loss"] is None:
        return
    last, judged = run.lines[-1], [line for line in run.lines if line.get(f"{split}_loss") is not None]
    best = min(judged, key=lambda line: line[f"{split}_loss"])
    lowest, end = best[f"{split}_loss"], last[f"{split}_loss"]
    rose = end > _OVERFIT_LOSS * lowest and last["loss"] < best["loss"]
    seen, unseen = run.chosen["error"], run.chosen.get(f"{split}_error")
    shares, has_errors = "", run.network.takes_labels and None not in (seen, unseen)
    if has_errors:
        rose = rose and last[f"{split}_error"] >= best[f"{split}_error"]
        at = run.chosen["iteration"]
        shares = f"; the errors of iteration {at} are {seen:.2%} in training and {unseen:.2%} there"
    course = f"the {split} loss was lowest in iteration {best['iteration']} ({lowest:.4g}) and ends at {end:.4g}"
    if (has_errors and unseen - seen > _OVERFIT_GAP) or (rose and split == "test"):
        remedy = "use more rows, a larger --l2, a smaller network, or fewer iterations"
        yield fault("over-fitting", f"{course}{shares}: {remedy}")
    elif rose:
        yield good("best iteration kept", f"{course}: predictions use iteration {run.chosen['iteration']}")
    elif has_errors and run.lines[0]["error"] is not None and seen < run.lines[0]["error"] / 2:
        yield good("generalises", f"the {split} error of {unseen:.2%} is near the training error of {seen:.2%}")


def _curvature(run: Evidence) -> _Found:
    method = optimizer_of(run.record.settings, run.record)
    sample: int | None = getattr(method, "curvature_rows", None)
    ended = "stopped: " in run.lines[-1]["note"]
    steps = [line for line in run.lines[1:] if line["krylov_status"] is not None]
    while ended and steps and steps[-1]["alpha"] == 0:
        # These found the end.
        steps.pop()
    if not steps:
        return
    rho = median(0.0 if line["rho"] is None else line["rho"] for line in steps)
    rejected = sum(line["alpha"] == 0 for line in steps)
    sampled = run.facts is not None and sample is not None and sample < run.facts.n_rows
    if sampled and (rho < _POOR_RHO or rejected > len(steps) / 4):
        assert sample is not None
        yield fault(
            "curvature sample too small",
            f"the quadratic model promised more than steps gave (median reduction ratio {rho:.2f}, {rejected} of "
            f"{len(steps)} steps rejected) on a curvature sample of {sample} rows: try --curvature-rows {4 * sample}",
        )
    elif rejected > len(steps) / 4 and len(steps) > 4:
        yield fault(
            "rejected steps",
            f"{rejected} of {len(steps)} steps were rejected: the loss is flat or rough there; try another --seed, "
            "or take the point as converged",
        )
    elif rho > _GOOD_RHO:
        yield good("good model", f"the quadratic model predicted the steps well (median reduction ratio {rho:.2f})")
    curved = sum(line["direction"] == "negative_curvature" for line in steps)
    if curved:
        yield good("negative curvature", f"{curved} of {len(steps)} steps went along negative curvature")


def _progress(run: Evidence) -> _Found:
    first, last = run.lines[0], run.lines[-1]
    if first["loss"] is None or last["loss"] is None:
        return
    if last["loss"] < first["loss"] and len(run.lines) > 1:
        error = (
            ""
            if not run.network.takes_labels
            else f", the training error from {first['error']:.2%} to {last['error']:.2%}"
        )
        yield good("loss fell", f"the loss fell from {first['loss']:.4g} to {last['loss']:.4g}{error}")
    elif len(run.lines) > 1:
        yield fault("loss did not fall", f"the loss did not fall: {first['loss']:.4g} to {last['loss']:.4g}")
    recent = run.values("loss")[-4:]
    learned = run.network.takes_labels and last["error"] == 0
    overfits = run.chosen is not last or any(finding.cause != "generalises" for finding in _overfitting(run))
    falls = len(recent) == 4 and all(b < (1 - _STILL_FALLING) * a for a, b in pairwise(recent))
    if falls and not learned and not overfits:
        yield good(
            "still falling", "the loss was still falling at the end: more --max-iterations with --resume lower it"
        )
    if "stopped: " in last["note"]:
        yield good("ended by itself", last["note"].partition("stopped: ")[2])


RULES: tuple[Callable[[Evidence], _Found], ...] = (
    _overflow,
    _features,
    _labels,
    _dead_units,
    _penalty,
    _curvature,
    _overfitting,
    _progress,
)
"""All rules; each yields findings from the evidence."""
