"""Communication of runs: closed forms of rounds and bytes, from the operations in a ledger, compared with the counts.

The engine is data parallel: a worker has some of the rows and all parameters, and a round moves vectors of parameters.
Model parallelism is not implemented, and given here only as a formula: a worker has all rows and some units of each
layer, and values of units are moved for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from hfnumba import ledger
from hfnumba.errors import UsageError
from hfnumba.optim.direction import MAX_ITERATES, DirectionKind
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.kfac import KFAC
from hfnumba.optim.line_search import step_lengths
from hfnumba.optim.methods import Optimizer
from hfnumba.optim.second_order import SECOND_ORDER_METHODS

_ITEM, _VALUE = 4, 8  # Bytes of a float32 and of a float64.


@dataclass(frozen=True)
class Counts:
    """Counts of the operations of all workers.

    Attributes
    ----------
    gradients, losses : int
        Numbers of gradients and losses over all rows.
    diagonals : int
        Number of diagonals of the Fisher matrix, which are computed with a gradient.
    products : int
    rankings, candidates : int
        Numbers of rounds in which candidates were evaluated on the curvature sample, and of candidates.
    searches, lengths : int
        Numbers of rounds in which step lengths were evaluated, and of step lengths.
    minibatches : int
        Number of gradients of stochastic methods.
    """

    gradients: int = 0
    losses: int = 0
    diagonals: int = 0
    products: int = 0
    rankings: int = 0
    candidates: int = 0
    searches: int = 0
    lengths: int = 0
    minibatches: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add field by field."""
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def rounds(self) -> int:
        """Number of rounds of data parallelism."""
        return self.gradients + self.losses + self.products + self.rankings + self.searches + self.minibatches

    @property
    def vectors(self) -> int:
        """Number of vectors of n_params float32 sent to or from one worker, with data parallelism."""
        there = self.gradients + self.losses + self.products + self.candidates + self.searches + self.minibatches
        return there + self.gradients + self.diagonals + self.products + self.minibatches

    def nbytes(self, n_params: int) -> int:
        """Number of bytes sent to and from one worker, with data parallelism."""
        values = 2 * (self.gradients + self.losses + self.minibatches) + self.candidates + self.lengths
        return _ITEM * n_params * self.vectors + _VALUE * values


@dataclass(frozen=True)
class RowCounts:
    """Numbers of rows of gradients over all rows, products, minibatches and searches."""

    every: int
    curvature: int
    minibatch: int
    line: int


def rows_of(optimizer: Optimizer, n_rows: int) -> RowCounts:
    """Return the numbers of rows that a method reads."""
    curvature = optimizer.curvature_rows if isinstance(optimizer, HessianFree) else None
    line = optimizer.line_rows if isinstance(optimizer, HessianFree) else None
    minibatch = optimizer.batch_rows if isinstance(optimizer, SGD) else None
    return RowCounts(n_rows, *(min(rows or n_rows, n_rows) for rows in (curvature, minibatch, line)))


def model_parallel(counts: Counts, sizes: Sequence[int], rows: RowCounts) -> tuple[int, int]:
    """Return the number of synchronisations of all workers, and the bytes of one of many workers.

    A forward pass gathers the values of the units of each layer, a backward pass adds those of each hidden layer. One
    of P workers receives (sends) a share 1 - 1/P of them, for which 1 is used. The first layer is linear in the
    parameters, so step lengths along one direction share two gathers of it. Omitted, in favour of model parallelism:
    the inner products of the solver, each of which would be a synchronisation, and the rows, which all workers would
    read.
    """
    forward, hidden, first = sum(sizes[1:]), sum(sizes[1:-1]), sizes[1]
    both, n_layers = forward + hidden, len(sizes) - 1
    values = rows.every * (counts.gradients * both + counts.losses * forward)
    values += rows.line * (2 * first * counts.searches + (forward - first) * counts.lengths)
    values += rows.curvature * ((counts.products + counts.diagonals) * both + counts.candidates * forward)
    values += rows.minibatch * counts.minibatches * both
    ways = counts.gradients + counts.products + counts.minibatches
    waits = (2 * n_layers - 1) * ways + n_layers * (counts.losses + counts.rankings + counts.searches)
    return waits, _ITEM * values


def break_even(sizes: Sequence[int], n_params: int) -> float:
    """Return the number of rows above which a gradient or product moves fewer bytes by data parallelism."""
    return 2 * n_params / (sum(sizes[1:]) + sum(sizes[1:-1]))


def planned(optimizer: Optimizer, iterations: int, n_rows: int) -> Counts:
    """Return the counts of a number of iterations if none ends early, from the settings of the method alone.

    For the Hessian-free methods with CG or Bi-CG-STAB; for L-BFGS the first search, of steepest descent, is counted
    like the others.
    """
    _require_closed_form(optimizer)
    if isinstance(optimizer, SGD):
        rows = rows_of(optimizer, n_rows)
        return Counts(losses=1 + iterations, minibatches=iterations * (n_rows // rows.minibatch))
    if not isinstance(optimizer, HessianFree):
        lengths = len(step_lengths("newton"))
        return Counts(gradients=1 + iterations, searches=iterations, lengths=lengths * iterations)
    components = SECOND_ORDER_METHODS[optimizer.method]
    products = iterations * optimizer.solver_iterations * (2 if optimizer.method == "hf-bicgstab" else 1)
    if optimizer.warm_start > 0:
        products += max(0, iterations - 1)
    exact = components.matrix != "gauss-newton"
    return Counts(
        gradients=1 + iterations,
        diagonals=(1 + iterations) * (optimizer.preconditioner == "fisher"),
        products=products,
        rankings=iterations,
        candidates=iterations * (MAX_ITERATES + exact),
        searches=iterations,
        lengths=iterations * _n_lengths("newton", optimizer, n_rows),
    )


def _require_closed_form(optimizer: Optimizer) -> None:
    factored = isinstance(optimizer, HessianFree) and optimizer.preconditioner == "kfac"
    if factored or isinstance(optimizer, KFAC):
        raise UsageError("expected a method without Kronecker factors, whose bytes have no closed form here; got kfac")


def counts_of(optimizer: Optimizer, lines: Sequence[ledger.Line], n_rows: int, n_params: int) -> list[Counts]:
    """Return the counts of each line of a ledger, line 0 first.

    A ledger does not have the number of candidates; it is the number that fits the bytes best.
    """
    _require_closed_form(optimizer)
    found = []
    for number, line in enumerate(lines):
        choices = [_line(optimizer, line, n_rows, lengths) for lengths in _lengths(optimizer, line, n_rows)]
        before = lines[number - 1]["nbytes"] if number else 0
        choices = [_with_candidates(one, line["nbytes"] - before, n_params) for one in choices]
        found.append(min(choices, key=lambda one: abs(one.nbytes(n_params) - line["nbytes"] + before)))
    return found


def disagreements(lines: Sequence[ledger.Line], counts: Sequence[Counts], n_params: int) -> list[int]:
    """Return the iterations whose counted rounds or bytes differ from the closed form."""
    wrong, rounds, nbytes = [], 0, 0
    for line, one in zip(lines, counts, strict=True):
        if (line["rounds"] - rounds, line["nbytes"] - nbytes) != (one.rounds, one.nbytes(n_params)):
            wrong.append(line["iteration"])
        rounds, nbytes = line["rounds"], line["nbytes"]
    return wrong


def _line(optimizer: Optimizer, line: ledger.Line, n_rows: int, lengths: int) -> Counts:
    """Return the counts of a line without candidates; ``lengths`` is the number of step lengths of its first search."""
    if isinstance(optimizer, SGD):
        steps = n_rows // rows_of(optimizer, n_rows).minibatch
        return Counts(losses=1, minibatches=steps if line["iteration"] else 0)
    if line["iteration"] == 0:
        fisher = isinstance(optimizer, HessianFree) and optimizer.preconditioner == "fisher"
        return Counts(gradients=1, diagonals=int(fisher))
    if not isinstance(optimizer, HessianFree):
        searched = line["direction"] is not None
        return Counts(gradients=1 if line["alpha"] else 0, searches=int(searched), lengths=lengths * searched)
    return _second_order(optimizer, line, n_rows, lengths)


def _second_order(optimizer: HessianFree, line: ledger.Line, n_rows: int, lengths: int) -> Counts:
    direction, note = line["direction"], line["note"]
    gradients = 2 if "the loss at the new point" in note else 1
    counts = Counts(gradients, diagonals=gradients * (optimizer.preconditioner == "fisher"), products=line["n_matvec"])
    fallback = _n_lengths("gradient", optimizer, n_rows)
    if direction is None:
        return counts
    if direction == "gradient" and ("could be ranked" in note or "no step length" in note):
        return replace(counts, searches=1, lengths=fallback)
    if direction == "gradient" or "along steepest descent" in note:
        return replace(counts, rankings=1, searches=2, lengths=lengths + fallback)
    return replace(counts, rankings=1, searches=1, lengths=lengths)


def _lengths(optimizer: Optimizer, line: ledger.Line, n_rows: int) -> list[int]:
    """Return the possible numbers of step lengths of the first search of a line."""
    direction = line["direction"]
    if not isinstance(optimizer, HessianFree):
        return [len(step_lengths(direction or "newton"))]
    if direction == "gradient":
        # The ledger names the fallback, not the direction searched before.
        return [_n_lengths("newton", optimizer, n_rows), _n_lengths("negative_curvature", optimizer, n_rows)]
    return [_n_lengths(direction or "newton", optimizer, n_rows)]


def _n_lengths(kind: DirectionKind, optimizer: HessianFree, n_rows: int) -> int:
    """Number of step lengths of a search; on a sample of the rows also 0."""
    return len(step_lengths(kind, optimizer.line_search)) + (rows_of(optimizer, n_rows).line < n_rows)


def _with_candidates(counts: Counts, nbytes: int, n_params: int) -> Counts:
    if not counts.rankings:
        return counts
    each = Counts(candidates=1).nbytes(n_params)
    candidates = round((nbytes - counts.nbytes(n_params)) / each)
    return replace(counts, candidates=min(max(candidates, 1), MAX_ITERATES + 1))
