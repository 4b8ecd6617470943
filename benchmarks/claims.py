"""Claims of the paper, the measurements for each, and verdicts by stated rules; see reproduction.py."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median

from experiments import DEFAULTS, METHODS, RELU, SAMPLES, TEXT, name

from hfnumba.figures.saddle import leaves
from hfnumba.figures.summary import Series, markdown, spread

SGD = "sgd, 64 rows, rate 0.1"


@dataclass(frozen=True)
class Found:
    """All runs by name, and the names of the runs with the best rate, by stochastic method and rows of a minibatch."""

    series: Mapping[str, Series]
    tuned: Mapping[tuple[str, int], str]

    def cost(self, run: str, what: str, error: float = 0.01) -> float:
        """Median cost to reach an error; infinite if a seed does not reach it."""
        found = self.series[run].to_error(error, what)
        return median(float("inf") if value is None else value for value in found)

    def best(self, method: str) -> str:
        """Run of a stochastic method with the fewest rounds."""
        runs = [run for (one, _), run in self.tuned.items() if one == method]
        return min(runs, key=lambda run: self.cost(run, "rounds"))


@dataclass(frozen=True)
class Claim:
    """Row of the table of claims."""

    claim: str
    measured: str
    verdict: str
    rule: str


def verdict(holds: bool, partly: bool, *needed: float) -> str:
    """Apply a rule; undecided if a cost that it needs is infinite."""
    if not all(map(isfinite, needed)):
        return "undecided: a run did not reach the error"
    return "holds" if holds else "holds partly" if partly else "does not hold"


def shown(cost: float) -> str:
    return f"{cost:,.0f}" if isfinite(cost) else "not reached"


def wins(found: Found, reading: str = TEXT) -> Claim:
    costs = {m: [found.cost(name(m, reading), what) for what in ("iteration", "rounds")] for m in METHODS}
    ours, rivals = costs["hf-bicgstab"], [costs[m] for m in METHODS if m != "hf-bicgstab"]
    beaten = [sum(ours[i] < rival[i] for rival in rivals) for i in range(2)]
    runs = {method: found.series[name(method, reading)] for method in METHODS}
    parts = [
        f"{method} {spread(run.to_error(0.01, 'iteration'))} iterations, {spread(run.to_error(0.01, 'rounds'))} rounds"
        for method, run in runs.items()
    ]
    return Claim(
        "HF with Bi-CG-STAB and negative curvature is the fastest of the second-order methods",
        "to 1 %: " + "; ".join(parts),
        verdict(beaten == [3, 3], max(beaten) == 3, *ours),
        "holds: fewest iterations and rounds to 1 %; partly: fewest of one of them",
    )


def communication(found: Found, rival: str = SGD, reading: str = TEXT) -> Claim:
    theirs, ours = found.cost(rival, "rounds"), found.cost(name("hf-bicgstab", reading), "rounds")
    measured = f"rounds to 1 %: {rival} {shown(theirs)}; hf-bicgstab, {reading}, {shown(ours)}"
    if isfinite(theirs) and isfinite(ours):
        measured += f" (ratio {theirs / ours:.1f})"
    return Claim(
        "SGD needs an order of magnitude more communication",
        measured,
        verdict(theirs >= 10 * ours, theirs >= 2 * ours, ours, theirs),
        "holds: 10 times the rounds; partly: twice",
    )


def samples(found: Found, reading: str = TEXT) -> Claim:
    sizes = (512, 2048, 4096)
    names = [name("hf-bicgstab", reading, rows) for rows in sizes]
    its = [found.cost(run, "iteration", 0.04) for run in names]
    passes = [found.cost(run, "epoch", 0.04) for run in names]
    return Claim(
        "Large curvature samples help",
        f"to 4 % with 512, 2048, 4096 rows: {', '.join(map(shown, its))} iterations and "
        f"{', '.join(map(shown, passes))} passes",
        verdict(its[0] >= 1.5 * its[2] and passes[0] > passes[2], its[0] >= its[1] >= its[2] and its[0] > its[2], *its),
        "holds: 1.5 times fewer iterations with 4096 rows than with 512, and fewer passes; partly: fewer iterations",
    )


def batches(found: Found, rival: str = "sgd") -> Claim:
    ours = {rows: found.cost(name("hf-bicgstab", TEXT, rows), "epoch", 0.02) for rows in SAMPLES}
    theirs = {rows: found.cost(run, "epoch", 0.02) for (one, rows), run in found.tuned.items() if one == rival}
    measured = [
        f"{method}, {what} of " + ", ".join(f"{rows}: {shown(cost)}" for rows, cost in passes.items())
        for method, what, passes in (("hf-bicgstab", "curvature samples", ours), (rival, "minibatches", theirs))
    ]
    a, b = largest(ours), largest(theirs)
    return Claim(
        "HF works with batches that are larger by up to an order of magnitude",
        f"passes to 2 %: {'; '.join(measured)}. Largest with at most twice the fewest: {shown(a)} and {shown(b)} rows",
        verdict(a >= 10 * b, a >= 2 * b, a, b),
        "the largest batch with at most twice the fewest passes of its method; holds: 10 times larger; partly: twice",
    )


def largest(passes: Mapping[int, float]) -> float:
    """Largest batch with at most twice the fewest passes; infinite if no batch reaches the error."""
    fewest = min(passes.values())
    return max(rows for rows, cost in passes.items() if cost <= 2 * fewest) if isfinite(fewest) else fewest


def saddles(found: Found) -> Claim:
    names = ("hf-bicgstab", "gn-cg", "hf-steihaug", "momentum")
    left = {n: [leaves(lines, "iteration") for lines in found.series[f"{n}, tiny start"].ledgers] for n in names}
    stays = [run for run in ("gn-cg", "momentum") if None in left[run]]
    ours, theirs = left["hf-bicgstab"], left["gn-cg"]
    sooner = None not in ours and (
        None in theirs or median(filter(None, ours)) < median(v for v in theirs if v is not None)
    )
    return Claim(
        "Negative curvature is what leaves saddles",
        "iterations (momentum: epochs) on the plateau: " + "; ".join(f"{n} {spread(v)}" for n, v in left.items()),
        verdict(len(stays) == 2 and None not in ours, bool(stays) or sooner),
        "holds: gn-cg stays, momentum for 100 epochs; partly: one stays, or gn-cg stays longer than hf-bicgstab",
    )


def scaling(numbers: Path) -> Claim:
    """Claim about scaling, from the numbers of figure 2: two processes measured, more modelled."""
    two = json.loads(numbers.read_text())
    rows, sample = max(run["rows"] for run in two["model"]), 2048
    run_s = {
        run["workers"]: run["iteration"]["run_s"]
        for run in two["checks"]
        if run["kernel"] == "computing" and run["curvature_rows"] == sample
    }
    star_s = {
        run["workers"]: run["star"]["iteration"]
        for run in two["model"]
        if run["rows"] == rows and run["curvature_rows"] == sample
    }
    speed = {p: star_s[1] / star_s[p] for p in (16, 32)}
    return Claim(
        "Near linear speed-up on up to 32 nodes",
        f"an iteration with 2 processes: {run_s[1] / run_s[2]:.2f} times as fast (measured); with 16 and 32 workers "
        f"of one thread, on {rows:,} rows: {speed[16]:.1f} and {speed[32]:.1f} (modelled, see [scaling](scaling.md))",
        verdict(speed[32] >= 0.8 * 32, speed[16] >= 0.8 * 16),
        "holds: at least 0.8 of the number of workers up to 32; partly: up to 16",
    )


def table(found: Found, numbers: Path) -> str:
    """Table of the claims, each with its verdict."""
    rows = [
        wins(found),
        communication(found),
        samples(found),
        batches(found),
        saddles(found),
        scaling(numbers),
    ]
    return markdown(
        ["claim", "measured", "verdict", "rule of the verdict"],
        [[c.claim, c.measured, f"**{c.verdict}**", c.rule] for c in rows],
    )


def changes(found: Found) -> str:
    """Table of the same rules on other settings than those of the claims."""
    rows = [(what, wins(found, reading)) for what, reading in (("our defaults", DEFAULTS), ("relu, He's start", RELU))]
    rows += [(f"{one} at its best size and rate", communication(found, found.best(one))) for one in ("sgd", "momentum")]
    rows += [("adam at its best size and rate", communication(found, found.best("adam")))]
    rows += [("L-BFGS in the place of SGD", communication(found, "lbfgs"))]
    rows += [("our defaults", communication(found, reading=DEFAULTS))]
    rows += [("relu, He's start", communication(found, f"{SGD}, relu and He's start", RELU))]
    rows += [("our defaults", samples(found, DEFAULTS))]
    rows += [(f"{one} in the place of SGD", batches(found, one)) for one in ("momentum", "adam")]
    return markdown(
        ["claim", "changed", "measured", "verdict"],
        [[c.claim, what, c.measured, f"**{c.verdict}**"] for what, c in rows],
    )
