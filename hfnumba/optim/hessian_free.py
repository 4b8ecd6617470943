"""Hessian-free optimisation: the outer loop of all second-order methods.

Source: He, Mudigere, Smelyanskiy and Takáč, *Distributed Hessian-free optimization for deep neural network*
(2016), Algorithm 2. Where the paper is silent (damping, candidates, step lengths, warm start) the choices
are stated at :class:`HessianFree`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from hfnumba.errors import NumericalError, UsageError
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.krylov.result import KrylovStatus
from hfnumba.objective import Linearization, Objective, RowSample
from hfnumba.optim.checks import require_choice, require_common, require_integer, require_real
from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING
from hfnumba.optim.iteration import Iteration, Meter, OptimizerState, finite_or_none, record, starting_theta
from hfnumba.optim.limits import FLAT, MAX_REJECTED, START_NOT_FINITE, STUCK, is_finite, is_over, verdict
from hfnumba.optim.line_search import SearchRule, search
from hfnumba.optim.second_order import COMPOSITIONS
from hfnumba.optim.step import Attempt, attempt_escape, attempt_newton, confirm, describe, probe, solve
from hfnumba.optim.trust import MAX_RADIUS, MIN_RADIUS, Radius, damping_of, radius_of
from hfnumba.optim.vectors import Vector, all_finite, norm

_RTOL = 1e-6  # Below it the true residual of a float32 solve has stalled.


@dataclass(frozen=True)
class HessianFree:
    """Hessian-free optimisation by any of the second-order methods.

    An iteration linearises f at theta (loss and gradient over all rows, curvature on a fresh sample),
    solves (B + damping·I) x = -g for a few products, ranks kept iterates and the direction of most negative
    curvature by f on the sample, searches along the best over all rows or ``line_rows`` others, and adapts the
    damping. If no step length is acceptable it falls back on steepest descent; if that fails too, theta stays and the
    damping rises. The loss over all rows never rises from one yield to the next, and nothing that is not finite is
    accepted. Where f is flat to float32 precision, the exact methods solve once with a random right-hand
    side to tell a saddle from a minimum.

    Parameters
    ----------
    method : str
        One of ``hf-bicgstab``, ``hf-cg``, ``gn-cg``, ``hybrid-cg``, ``hf-minres``, ``hf-steihaug``, ``hf-lanczos``.
        B is the exact Hessian (hf), the Gauss-Newton matrix (gn), or the Gauss-Newton matrix in the iteration
        after a CG solve that met non-positive curvature and the Hessian otherwise (hybrid). ``hf-steihaug``
        minimises the model within a trust radius instead of damping it; ``hf-lanczos`` takes the absolute value
        of B on one Krylov basis, and lets five dampings compete.
    curvature_rows : int or None, default 4096
        Rows in total on which B is sampled, anew in each iteration; all rows if None or not fewer than there
        are. Below 512 a sample may show negative curvature that the data do not have.
    damping : float, default 0.1
        The first one, from 1e-6 to 1e4.
    radius : float, default 1
        The first trust radius of ``hf-steihaug``, from 1e-6 to 1e6; nothing to the other methods.
    krylov_iterations : int, optional
        Most solver iterations per outer iteration; by default 10 products: 5 for Bi-CG-STAB, 10 otherwise;
        12 of ``hf-lanczos``, whose basis serves all dampings (15 or 20 cost more rounds than they save).
    warm_start : float, default 0.95
        A solve starts at this multiple of the last step taken, for one product more; 0 always starts at zero,
        and so does the solve after a rejected step.
    keep : float, default 1.3
        Iterates 1, keep, keep², … (rounded up) of a solve become candidates (Martens' CG backtracking).
    preconditioner : {"none", "fisher"}
        "fisher": Martens' (2010, section 4.7), made of the empirical Fisher diagonal on the curvature sample and the
        damping; see :func:`hfnumba.krylov.preconditioners.martens`. ``hf-steihaug`` and ``hf-lanczos`` refuse it.
    candidates : {"kept", "last"}
        "last": the last iterate of a solve and the direction of negative curvature compete, and nothing else.
    line_search : {"lowest", "backtracking"}
        "lowest" takes the step length of the lowest loss, from 2^-7 to 2, or 2^8 along negative curvature;
        "backtracking" the longest sufficient one of 1, 1/2, 1/4, … Both price all lengths in one round.
    line_rows : int or None, default None
        Rows in total on which step lengths are priced, drawn after those of the curvature sample; all rows if None.
        Worth it where there are many rows and the layers above the first are wide, so that pricing nine lengths costs
        more than a gradient. A step that raises f over all rows is taken back when it is linearised.
    seed : int
        Of the curvature samples.
    max_iterations, target_error : optional
        End after so many iterations in total, or once the training error is at most this share.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: products + 3 (ranking, line search, linearisation at the new point), + 1 for the
    fallback, + 1 if a step was taken back because f at the new point, evaluated anew, was higher or not
    finite. Memory on the client: about 20 n-vectors, 32 of ``hf-lanczos``. The Fisher diagonal comes with the
    linearisation: no round, one n-vector more in its answer, one GEMM a layer on the curvature sample. It is taken on
    that sample because it stands for the matrix of that sample, whose primal pass is there anyway.

    The paper has no damping update; here it is that of Levenberg and Marquardt (Martens 2010). Its line
    search backtracks; here all step lengths, longer ones too, are priced in one round. Martens starts a solve
    from the last solution; here it is the last step, alpha·d after ranking and search: on 6,000 rows of MNIST
    (784-100-50-10, 15 iterations, 3 seeds) the loss ended at 0.005 to 0.017 with hf-bicgstab and 0.016 to
    0.020 with hf-cg, against 0.017 to 0.44 and 0.29 to 0.55 from the last solution, and 0.05 to 0.08 from
    zero.
    """

    method: str = "hf-bicgstab"
    curvature_rows: int | None = 4096
    damping: float = 0.1
    radius: float = 1.0
    krylov_iterations: int | None = None
    warm_start: float = 0.95
    keep: float = 1.3
    preconditioner: str = "none"
    candidates: Literal["kept", "last"] = "kept"
    line_search: SearchRule = "lowest"
    line_rows: int | None = None
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        if self.method not in COMPOSITIONS:
            known = ", ".join(COMPOSITIONS)
            raise UsageError(f"expected one of the methods {known}, got {self.method!r}; choose one of them")
        if self.curvature_rows is not None:
            require_integer("curvature_rows", self.curvature_rows, 1, "leave it out for all rows")
        if self.line_rows is not None:
            require_integer("line_rows", self.line_rows, 1, "leave it out for all rows")
        if self.krylov_iterations is not None:
            require_integer("krylov_iterations", self.krylov_iterations, 1, "leave it out for about 10 products")
        require_real("damping", self.damping, MIN_DAMPING, MAX_DAMPING, "0.1 is a good start")
        require_real("radius", self.radius, MIN_RADIUS, MAX_RADIUS, "1 is a good start")
        require_choice("preconditioner", self.preconditioner, ("none", *PRECONDITIONERS))
        if self.preconditioner != "none" and (why := COMPOSITIONS[self.method].without.get("preconditioner")):
            raise UsageError(f"{self.method} cannot have a preconditioner: {why}; leave it out or take another method")
        require_choice("candidates", self.candidates, ("kept", "last"))
        require_choice("line_search", self.line_search, ("lowest", "backtracking"))
        require_real("warm_start", self.warm_start, 0.0, 1.0, "0.95 is a good choice, 0 switches it off")
        require_real("keep", self.keep, 1.01, 1e6, "1.3 keeps iterates 1, 2, 3, 4, 5, 7, 9, 11, …")
        require_common(self.seed, self.max_iterations, self.target_error)

    def iterate(
        self,
        objective: Objective,
        theta: Vector | None = None,
        *,
        test: Objective | None = None,
        state: OptimizerState | None = None,
    ) -> Iterator[Iteration]:
        """Yield iteration 0 (the state before the first step), then every iteration as it is done.

        A plain generator: stop whenever you like, and go on from any ``iteration.state`` with the same
        bits. It ends by itself at a limit, where f is flat to float32 precision, or after ``MAX_REJECTED``
        rejected steps in a row; the last ``note`` says why.

        Parameters
        ----------
        objective : Objective
        theta : ndarray, shape (n_params,), optional
            Where to start; copied as float32. Not read if ``state`` is given.
        test : Objective, optional
            Evaluated once an iteration for the record; its rounds and time do not count.
        state : OptimizerState, optional
            Continue after it, without yielding it again. Settings must be those of the run it is from.

        Raises
        ------
        UsageError
            If theta does not fit the objective, or the state is of a first-order method.
        NumericalError
            If the loss or the gradient is not finite at the starting point.
        """
        if state is not None:
            damping_of(state)
            if self._has_radius:
                radius_of(state)
        return self._run(objective, starting_theta(objective, theta, state), test, state)

    def _run(
        self, objective: Objective, theta: Vector, test: Objective | None, state: OptimizerState | None
    ) -> Iterator[Iteration]:
        if state is not None and is_over(state, self.max_iterations, self.target_error):
            return
        meter = Meter(objective)
        lin = self._linearize(objective, theta, 1 if state is None else state.iteration + 1)
        if not is_finite(lin):
            raise NumericalError(START_NOT_FINITE)
        if state is None:
            state = self._first_state(theta, lin, meter)
            told: dict[str, Any] = {"damping": state.damping, "radius": state.radius, "note": state.stopped}
            yield record(state, lin.value, lin.error, objective, test, grad_norm=norm(lin.gradient), **told)
            meter.go_on()
        else:
            state = replace(state, theta=theta)
            meter.resume(state)
        while not is_over(state, self.max_iterations, self.target_error):
            value, told = float(lin.value), {"damping": state.damping, "radius": state.radius}
            attempt = self._attempt(objective, lin, state)
            # Workers keep a primal pass while anything here refers to it: let go before the next one is made.
            del lin
            linearize = partial(self._linearize, objective, iteration=state.iteration + 2)
            lin, attempt = confirm(linearize, state.theta, value, attempt)
            state = self._next_state(state, attempt, lin, meter)
            told |= describe(attempt, state.stopped)
            del attempt
            yield record(state, lin.value, lin.error, objective, test, grad_norm=norm(lin.gradient), **told)
            meter.go_on()

    def _sample(self, objective: Objective, iteration: int) -> RowSample | None:
        """The curvature sample of an iteration; None for all rows."""
        return self._drawn(objective, self.curvature_rows, iteration)

    def _line_sample(self, objective: Objective, iteration: int) -> RowSample | None:
        """The rows that price step lengths: behind those of the curvature sample in the order they are drawn in."""
        if self.line_rows is None:
            return None
        return self._drawn(objective, self.line_rows, iteration, -(-(self.curvature_rows or 1) // self.line_rows))

    def _drawn(self, objective: Objective, rows: int | None, iteration: int, index: int = 0) -> RowSample | None:
        if rows is None or rows >= objective.n_rows:
            return None
        return RowSample(n_rows=int(rows), seed=int(self.seed), draw=iteration, index=index)

    def _linearize(self, objective: Objective, theta: Vector, iteration: int) -> Linearization:
        """Ask for f at theta, with the curvature sample of the iteration that starts there. One round."""
        return objective.linearize(theta, self._sample(objective, iteration), preconditioner=self.preconditioner)

    @property
    def _curvature(self) -> str:
        return COMPOSITIONS[self.method].curvature

    @property
    def _has_radius(self) -> bool:
        return isinstance(COMPOSITIONS[self.method].trust, Radius)

    def _uses_gauss_newton(self, state: OptimizerState) -> bool:
        return self._curvature == "gauss-newton" or (state.gauss_newton_next and not state.probe_next)

    def _attempt(self, objective: Objective, lin: Linearization, state: OptimizerState) -> Attempt:
        composition, iteration = COMPOSITIONS[self.method], state.iteration + 1
        trust, gauss_newton = composition.trust, self._uses_gauss_newton(state)
        matrix = lin.gauss_newton() if gauss_newton else lin.hessian()
        x0 = None if state.probe_next else self._start(state)
        settings = trust.arguments(state, x0, float(self.keep)) | {
            "rtol": _RTOL,
            "maxiter": int(self.krylov_iterations or composition.default_iterations),
        }
        if self.preconditioner != "none":
            settings["M"] = lin.preconditioner(self.preconditioner, trust.shift(state))
        others = self._line_sample(objective, iteration)
        along = partial(search, objective, lin.theta, float(lin.value), rule=self.line_search, rows=others)
        rest: dict[str, Any] = {
            "damping": trust.shift(state),
            "rows": self._sample(objective, iteration),
            "along": along,
        }
        if state.probe_next:
            result = probe(composition.solver, matrix, rest["damping"], (int(self.seed), iteration), **settings)
            return attempt_escape(objective, lin, result, **rest)
        result = solve(composition.solver, matrix, lin.gradient, rest["damping"], **settings)
        # The iterates of a solver that has none to backtrack over are alternatives: all of them compete.
        last_only = self.candidates == "last" and "candidates" not in composition.without
        rest |= {"indefinite": not gauss_newton, "last_only": last_only}
        return attempt_newton(objective, lin, result, **rest)

    def _start(self, state: OptimizerState) -> Vector | None:
        """Return where a solve starts: at the last step, decayed.

        It need not point downhill: it tells the solver of directions its few products would not reach, and a
        candidate that climbs is flipped or loses the ranking.
        """
        if state.warm_start is None:
            return None
        x0: Vector = state.warm_start * state.warm_start.dtype.type(self.warm_start)
        return x0 if all_finite(x0) else None

    def _first_state(self, theta: Vector, lin: Linearization, meter: Meter) -> OptimizerState:
        vanished = norm(lin.gradient) == 0
        return OptimizerState(
            theta,
            damping=0.0 if self._has_radius else float(self.damping),
            radius=float(self.radius) if self._has_radius else None,
            error=finite_or_none(lin.error),
            probe_next=vanished,
            stopped=FLAT if vanished and self._curvature == "gauss-newton" else "",
            **meter.cost(),
        )

    def _next_state(self, before: OptimizerState, attempt: Attempt, lin: Linearization, meter: Meter) -> OptimizerState:
        rejected = attempt.found.theta is None
        n_rejected = before.n_rejected + 1 if rejected else 0
        flat = norm(lin.gradient) == 0 or (rejected and (attempt.flat or before.probe_next))
        found_none = before.probe_next and attempt.candidate is None and attempt.flat
        stopped = verdict(self._curvature != "gauss-newton", found_none) if flat else ""
        of_hessian = not self._uses_gauss_newton(before)
        met_curvature = of_hessian and attempt.krylov.status is KrylovStatus.NONPOSITIVE_CURVATURE
        return replace(
            before,
            theta=before.theta if attempt.found.theta is None else attempt.found.theta,
            iteration=before.iteration + 1,
            warm_start=attempt.step() if self.warm_start > 0 else None,
            error=finite_or_none(lin.error),
            gauss_newton_next=met_curvature and self._curvature == "hybrid",
            n_rejected=n_rejected,
            probe_next=flat,
            stopped=stopped or (STUCK if n_rejected >= MAX_REJECTED else ""),
            **COMPOSITIONS[self.method].trust.following(before, attempt),
            **meter.cost(),
        )
