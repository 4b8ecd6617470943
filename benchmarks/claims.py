"""The paper's claims, what was measured of each, and the verdict by a stated rule; see reproduction.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import median

from hfnumba.figures.saddle import leaves
from hfnumba.figures.summary import Series, markdown, spread

Found = Mapping[str, Series]
RIVALS = ("hf-cg", "gn-cg", "hybrid-cg")
PAPER = "hf-bicgstab, the paper's text"


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    claim: str
    measured: str
    verdict: str
    rule: str


def cost(series: Series, what: str, error: float = 0.01) -> float:
    """The median cost to an error; infinite if a seed does not get there."""
    found = [float("inf") if value is None else value for value in series.to_error(error, what)]
    return median(found)


def verdict(holds: bool, partly: bool, *needed: float) -> str:
    """Apply a rule; undecided where a cost that it needs is infinite, since a run did not get there."""
    if not all(map(isfinite, needed)):
        return "undecided: a run did not get there"
    return "holds" if holds else "holds partly" if partly else "does not hold"


def claims(found: Found) -> list[Claim]:
    return [wins(found), communication(found), communication_tuned(found), samples(found), saddles(found)]


def wins(found: Found) -> Claim:
    ours = {what: cost(found[PAPER], what) for what in ("iteration", "rounds")}
    beaten = [sum(ours[what] < cost(found[f"{name}, the paper's text"], what) for name in RIVALS) for what in ours]
    names = (PAPER, *(f"{name}, the paper's text" for name in RIVALS))
    shown = "; ".join(
        f"{name.split(',')[0]} {spread(found[name].to_error(0.01, 'iteration'))} iterations, "
        f"{spread(found[name].to_error(0.01, 'rounds'))} rounds"
        for name in names
    )
    return Claim(
        "HF with Bi-CG-STAB and negative curvature is the fastest of the second-order methods",
        f"to 1 %: {shown}",
        verdict(beaten == [3, 3], max(beaten) == 3, *ours.values()),
        "holds: fewest iterations and rounds to 1 %; partly: fewest of one of them",
    )


def communication(found: Found) -> Claim:
    return _ratio(found, "sgd, 64 rows, rate 0.1", "SGD needs an order of magnitude more communication")


def communication_tuned(found: Found) -> Claim:
    rivals = ("adam, 1024 rows, rate 0.008", "adam, 2048 rows, rate 0.016", "momentum, 1024 rows, rate 0.3", "lbfgs")
    best = min(rivals, key=lambda name: cost(found[name], "rounds"))
    return _ratio(found, best, "The same of the best first-order method or L-BFGS that was tried")


def _ratio(found: Found, rival: str, claim: str) -> Claim:
    theirs, ours = cost(found[rival], "rounds"), cost(found[PAPER], "rounds")
    best = cost(found["hf-bicgstab"], "rounds")
    measured = f"rounds to 1 %: {rival} {theirs:,.0f}; the paper's text {ours:,.0f}, our defaults {best:,.0f}"
    if isfinite(theirs) and isfinite(ours) and isfinite(best):
        measured += f" (ratios {theirs / ours:.1f} and {theirs / best:.1f})"
    return Claim(
        claim,
        measured,
        verdict(theirs >= 10 * ours, theirs >= 2 * ours, ours, theirs),
        "holds: 10 times the rounds of the paper's text; partly: twice",
    )


def samples(found: Found) -> Claim:
    names = [f"{PAPER}, 512 curvature rows", PAPER, f"{PAPER}, 4096 curvature rows"]
    its = [cost(found[name], "iteration", 0.04) for name in names]
    passes = [cost(found[name], "epoch", 0.04) for name in names]
    return Claim(
        "Large curvature samples help",
        f"to 4 % with 512, 2048, 4096 rows: {its[0]:.0f}, {its[1]:.0f}, {its[2]:.0f} iterations and "
        f"{passes[0]:.0f}, {passes[1]:.0f}, {passes[2]:.0f} passes",
        verdict(its[0] >= 1.5 * its[2] and passes[0] > passes[2], its[0] >= its[1] >= its[2] and its[0] > its[2], *its),
        "holds: 1.5 times fewer iterations with 4096 rows than with 512, and fewer passes; partly: fewer iterations",
    )


def saddles(found: Found) -> Claim:
    names = ("hf-bicgstab", "gn-cg", "hf-steihaug", "momentum")
    left = {n: [leaves(lines, "iteration") for lines in found[f"{n}, tiny start"].ledgers] for n in names}
    stays = [name for name in ("gn-cg", "momentum") if None in left[name]]
    ours, theirs = left["hf-bicgstab"], left["gn-cg"]
    sooner = None not in ours and (
        None in theirs or median(filter(None, ours)) < median(v for v in theirs if v is not None)
    )
    return Claim(
        "Negative curvature is what leaves saddles",
        "iterations (momentum: epochs) on the plateau: " + "; ".join(f"{n} {spread(v)}" for n, v in left.items()),
        verdict(len(stays) == 2 and None not in ours, bool(stays) or sooner),
        "holds: gn-cg and momentum stay; partly: one stays, or gn-cg stays longer than hf-bicgstab",
    )


def table(found: Found) -> str:
    rows = [[c.claim, c.measured, f"**{c.verdict}**", c.rule] for c in claims(found)]
    return markdown(["claim", "measured", "verdict", "rule of the verdict"], rows)
