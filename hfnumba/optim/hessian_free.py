"""Hessian-free optimisation: the settings and the iteration of all second-order methods.

Source: He, Mudigere, Smelyanskiy and Takáč, *Distributed Hessian-free optimization for deep neural network*
(2016), Algorithm 2. Where the paper is silent (damping, candidates, step lengths, warm start) the choices
are stated at :class:`HessianFree`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from hfnumba.errors import UsageError
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.krylov.result import KrylovStatus
from hfnumba.objective import Linearization, Objective
from hfnumba.optim.checks import require_choice, require_common, require_integer, require_real
from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import MAX_REJECTED, StopReason, flat_stop, require_finite
from hfnumba.optim.line_search import SEARCH_RULES, SearchRule, search
from hfnumba.optim.loop import Evaluated, Optimizer
from hfnumba.optim.samples import curvature_sample, line_sample
from hfnumba.optim.second_order import SECOND_ORDER_METHODS, SecondOrderMethod
from hfnumba.optim.step import Step, confirm, escape_step, newton_step, probe, record_fields, solve
from hfnumba.optim.trust import MAX_RADIUS, MIN_RADIUS, Radius, damping_of, radius_of
from hfnumba.optim.vectors import Vector, all_finite, norm

_RTOL = 1e-6  # Below it the true residual of a float32 solve has stalled.

Candidates = Literal["kept", "last"]
CANDIDATES: tuple[Candidates, ...] = ("kept", "last")
"""Which iterates of a solve compete: those selected by the backtracking ratio, or the last one."""


@dataclass(frozen=True)
class HessianFree(Optimizer[Linearization, Step]):
    """Hessian-free optimisation by any of the second-order methods; :func:`hfnumba.optimizer` has an example.

    An iteration linearises f at theta (loss and gradient over all rows, curvature on a fresh sample),
    solves (B + damping·I) x = -g for a few products, ranks iterates of the solver and the direction of most negative
    curvature by f on the sample, searches along the best over all rows or ``line_rows`` others, and adapts the
    damping. If no step length is acceptable it falls back on steepest descent; if that fails too, theta stays and the
    damping rises. The loss over all rows never rises from one yield to the next, and nothing that is not finite is
    accepted. Where f is flat to float32 precision, the exact methods solve once with a random right-hand side to
    distinguish a saddle from a minimum. A run ends by itself where f is flat, or after
    :data:`~hfnumba.optim.limits.MAX_REJECTED` consecutive rejected steps.

    Parameters
    ----------
    method : str
        One of ``hf-bicgstab``, ``hf-cg``, ``gn-cg``, ``hybrid-cg``, ``hf-minres``, ``hf-steihaug``, ``hf-lanczos``.
        B is the exact Hessian (hf), the Gauss–Newton matrix (gn), or the Gauss–Newton matrix in the iteration
        after a CG solve that met non-positive curvature and the Hessian otherwise (hybrid). ``hf-steihaug``
        minimises the model within a trust radius instead of damping it; ``hf-lanczos`` takes the absolute value
        of B on one Krylov basis, and lets five dampings compete.
    curvature_rows : int or None, default 4096
        Size of the curvature sample, redrawn every iteration. None or a value >= n_rows uses all rows. Below 512 a
        sample may show negative curvature that the data do not have.
    damping : float, optional
        Initial damping, from 1e-6 to 1e4. Default 0.1; 0.01 with the preconditioner "kfac".
    radius : float, default 1
        Initial trust radius of ``hf-steihaug``, from 1e-6 to 1e6; the other methods have none.
    krylov_iterations : int, optional
        Maximum number of solver iterations per outer iteration. Default: 3, or 2 of Bi-CG-STAB, with the preconditioner
        "kfac"; otherwise 10 products, and 12 for ``hf-lanczos``, whose basis serves all dampings.
    warm_start : float, default 0.95
        Factor of the last step taken, from which a solve starts, for one more product. With 0, and after a rejected
        step, a solve starts from zero.
    backtracking_ratio : float, default 1.3
        Ratio r of the indices 1, r, r², … (rounded up) of the solver iterates that become candidates (Martens' CG
        backtracking).
    preconditioner : {"kfac", "fisher", "none"}
        "kfac": the inverse of a Kronecker-factored approximation of the Gauss–Newton matrix, see
        :func:`hfnumba.krylov.kronecker.kfac`. "fisher": Martens' (2010, section 4.7), see
        :func:`hfnumba.krylov.preconditioners.martens`. Both are made on the curvature sample, with the damping. For
        ``hf-steihaug`` and ``hf-lanczos`` it is the metric in which they measure, see
        :mod:`hfnumba.krylov.metric`.
    candidates : {"kept", "last"}
        Candidates that compete: the iterates selected by ``backtracking_ratio``, or only the last iterate; the
        direction of negative curvature in either case.
    line_search : {"lowest", "backtracking"}
        "lowest" takes the step length with the lowest loss, from 2^-7 to 2, or 2^8 along negative curvature;
        "backtracking" the longest sufficient one of 1, 1/2, 1/4, … Both evaluate all lengths in one round.
    line_rows : int or None, default 4096
        Number of rows used to evaluate step lengths, others than those of the curvature sample; None for all rows.
    seed : int
        Seed for the curvature samples.
    max_iterations, target_error : int, float, optional
        Total number of iterations, and training error, at which the run ends.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: products + 3 (ranking, line search, linearisation at the new point), + 1 for the
    fallback, + 1 if a step was taken back because f at the new point, evaluated anew, was higher or not
    finite. Memory on the client: about 20 n-vectors, 32 for ``hf-lanczos``. A preconditioner comes with the
    linearisation: no round, and no pass over the network that products do not need anyway.

    The paper has no damping update; here it is that of Levenberg and Marquardt (Martens 2010). Its line
    search backtracks; here all step lengths, longer ones too, are evaluated in one round. Martens starts a solve
    from the last solution; here it is the last step, alpha·d after ranking and search.

    The memory of the state has ``warm_start``, the last step taken, where there is one.
    """

    memory_names: ClassVar = frozenset({"warm_start"})

    method: str = "hf-bicgstab"
    curvature_rows: int | None = 4096
    damping: float | None = None
    radius: float = 1.0
    krylov_iterations: int | None = None
    warm_start: float = 0.95
    backtracking_ratio: float = 1.3
    preconditioner: str = "kfac"
    candidates: Candidates = "kept"
    line_search: SearchRule = "lowest"
    line_rows: int | None = 4096
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        if self.method not in SECOND_ORDER_METHODS:
            known = ", ".join(SECOND_ORDER_METHODS)
            raise UsageError(f"expected one of the methods {known}, got {self.method!r}; choose one of them")
        if self.curvature_rows is not None:
            require_integer("curvature_rows", self.curvature_rows, 1, "give None for all rows")
        if self.line_rows is not None:
            require_integer("line_rows", self.line_rows, 1, "give None for all rows")
        if self.krylov_iterations is not None:
            require_integer("krylov_iterations", self.krylov_iterations, 1, "leave it out for about 10 products")
        if self.damping is not None:
            require_real("damping", self.damping, MIN_DAMPING, MAX_DAMPING, "leave it out for a usual start")
        require_real("radius", self.radius, MIN_RADIUS, MAX_RADIUS, "1 is a good start")
        require_choice("preconditioner", self.preconditioner, ("none", *PRECONDITIONERS))
        require_choice("candidates", self.candidates, CANDIDATES)
        require_choice("line_search", self.line_search, SEARCH_RULES)
        require_real("warm_start", self.warm_start, 0.0, 1.0, "0.95 is a good choice, 0 switches it off")
        require_real(
            "backtracking_ratio", self.backtracking_ratio, 1.01, 1e6, "1.3 selects iterates 1, 2, 3, 4, 5, 7, 9, 11, …"
        )
        require_common(self.seed, self.max_iterations, self.target_error)

    def check_state(self, state: OptimizerState) -> None:
        """Raise a UsageError if the state is of another method."""
        super().check_state(state)
        damping_of(state)
        if self._has_radius:
            radius_of(state)

    def start(self, objective: Objective, theta: Vector) -> tuple[Linearization, Evaluated]:
        """Linearise at the starting point. One round."""
        lin = require_finite(self._linearize(objective, theta, 1))
        grad_norm = norm(lin.gradient)
        vanished = grad_norm == 0
        state = OptimizerState(
            theta,
            damping=self._initial_damping,
            radius=float(self.radius) if self._has_radius else None,
            probe_next=vanished,
            stopped=flat_stop(exact=self._exact, probed=False) if vanished else None,
        )
        note = "" if state.stopped is None else state.stopped.value
        fields = {"damping": state.damping, "radius": state.radius, "grad_norm": grad_norm, "note": note}
        return lin, Evaluated(state, lin.value, lin.error, fields)

    def resume(self, objective: Objective, state: OptimizerState) -> Linearization:
        """Linearise at the theta of a state. One round."""
        return require_finite(self._linearize(objective, state.theta, state.iteration + 1))

    def propose(self, objective: Objective, point: Linearization, state: OptimizerState) -> Step:
        """Solve for directions and search along the best; where f is flat, probe for negative curvature."""
        lin, solver, trust = point, self._components.solver, self._components.trust
        iteration, gauss_newton = state.iteration + 1, self._uses_gauss_newton(state)
        matrix = lin.gauss_newton() if gauss_newton else lin.hessian()
        x0 = None if state.probe_next else self._warm_start(state)
        M = None
        if self.preconditioner != "none":
            M = lin.preconditioner(self.preconditioner, trust.metric_damping(state))
        length = norm if M is None or not self._has_radius else partial(_length, M)
        settings = trust.arguments(state, x0, float(self.backtracking_ratio), length) | {
            "rtol": _RTOL,
            "maxiter": self.solver_iterations,
            "M": M,
        }
        line_rows = line_sample(objective.n_rows, self.line_rows, self.seed, iteration, self.curvature_rows)
        common: dict[str, Any] = {
            "damping": trust.shift(state),
            "rows": curvature_sample(objective.n_rows, self.curvature_rows, self.seed, iteration),
            "line_search": partial(
                search, objective, lin.theta, float(lin.value), rule=self.line_search, rows=line_rows
            ),
        }
        if state.probe_next:
            result = probe(solver, matrix, common["damping"], (int(self.seed), iteration), **settings)
            return replace(escape_step(objective, lin, result, **common), length=length)
        result = solve(solver, matrix, lin.gradient, common["damping"], **settings)
        # The iterates of a solver without backtracking are alternatives: all of them compete.
        last_only = self.candidates == "last" and "candidates" not in self._components.without
        step = newton_step(objective, lin, result, indefinite=not gauss_newton, last_only=last_only, **common)
        return replace(step, length=length)

    def evaluate(self, objective: Objective, proposal: Step, state: OptimizerState) -> tuple[Linearization, Evaluated]:
        """Linearise at the new point, or at theta again if f is higher there. One or two rounds."""
        linearize = partial(self._linearize, objective, iteration=state.iteration + 2)
        lin, step = confirm(linearize, state.theta, proposal)
        grad_norm = norm(lin.gradient)
        following = self._next_state(state, step, grad_norm == 0)
        fields = {"damping": state.damping, "radius": state.radius, "grad_norm": grad_norm}
        fields |= record_fields(step, following.stopped)
        return lin, Evaluated(following, lin.value, lin.error, fields)

    def _linearize(self, objective: Objective, theta: Vector, iteration: int) -> Linearization:
        """Linearise f at theta, with the curvature sample of the iteration that starts there. One round."""
        rows = curvature_sample(objective.n_rows, self.curvature_rows, self.seed, iteration)
        return objective.linearize(theta, rows, preconditioner=self.preconditioner)

    @property
    def _components(self) -> SecondOrderMethod:
        return SECOND_ORDER_METHODS[self.method]

    @property
    def _initial_damping(self) -> float:
        if self._has_radius:
            return 0.0
        usual = 0.01 if self.preconditioner == "kfac" else 0.1
        return usual if self.damping is None else float(self.damping)

    @property
    def solver_iterations(self) -> int:
        """Maximum number of solver iterations of an outer iteration."""
        factored = self.preconditioner == "kfac"
        usual = self._components.factored_iterations if factored else self._components.default_iterations
        return int(self.krylov_iterations or usual)

    @property
    def derived_settings(self) -> dict[str, Any]:
        """Settings whose defaults depend on others, with their values."""
        damping = {} if self._has_radius else {"damping": self._initial_damping}
        return {"krylov_iterations": self.solver_iterations} | damping

    @property
    def _exact(self) -> bool:
        """Whether the method has products with the exact Hessian."""
        return self._components.matrix != "gauss-newton"

    @property
    def _has_radius(self) -> bool:
        return isinstance(self._components.trust, Radius)

    def _uses_gauss_newton(self, state: OptimizerState) -> bool:
        return not self._exact or (state.gauss_newton_next and not state.probe_next)

    def _warm_start(self, state: OptimizerState) -> Vector | None:
        """Return the starting point of a solve: the last step, decayed.

        It need not point downhill: it adds a direction that the few products of a solve would not reach, and a
        candidate that climbs is flipped or loses the ranking.
        """
        last = state.memory.get("warm_start")
        if last is None:
            return None
        x0: Vector = last * last.dtype.type(self.warm_start)
        return x0 if all_finite(x0) else None

    def _next_state(self, before: OptimizerState, step: Step, gradient_vanished: bool) -> OptimizerState:
        rejected = step.found.theta is None
        n_rejected = before.n_rejected + 1 if rejected else 0
        flat = gradient_vanished or (rejected and (step.flat or before.probe_next))
        probed = before.probe_next and step.candidate is None and step.flat
        stopped = flat_stop(exact=self._exact, probed=probed) if flat else None
        if stopped is None and n_rejected >= MAX_REJECTED:
            stopped = StopReason.STUCK
        met_curvature = not self._uses_gauss_newton(before) and step.krylov.status is KrylovStatus.NONPOSITIVE_CURVATURE
        taken = step.displacement() if self.warm_start > 0 else None
        return replace(
            before,
            theta=before.theta if step.found.theta is None else step.found.theta,
            iteration=before.iteration + 1,
            memory={} if taken is None else {"warm_start": taken},
            gauss_newton_next=met_curvature and self._components.matrix == "hybrid",
            n_rejected=n_rejected,
            probe_next=flat,
            stopped=stopped,
            **self._components.trust.following(before, step),
        )


def _length(M: Any, v: Vector) -> float:
    """Length of a vector in the metric of a preconditioner."""
    return norm(M.multiply_upper(v))
