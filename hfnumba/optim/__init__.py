"""Optimisers: an outer loop, and methods that make steps from the answers of an objective. NumPy only.

The outer loop (:mod:`hfnumba.optim.loop`) is the same for every method. It asks a method for a proposal and for its
evaluation, and adds what all methods have in common: limits, costs, the test objective, records and resuming. The
registry of methods is :mod:`hfnumba.optim.methods`.

Notes
-----
A new method takes two steps:

1. A file with a frozen dataclass of settings that derives from :class:`hfnumba.optim.loop.Optimizer` and has its
   functions ``start``, ``resume``, ``propose`` and ``evaluate``. Vectors that a step needs from the one before are in
   ``OptimizerState.memory``, under the names in ``memory_names``.
2. A row in :data:`hfnumba.optim.methods.METHODS`.

``tests/optim/test_loop.py`` has two methods that are complete in about 30 lines each. A method made of an existing
class is a row alone: another solver or matrix in :data:`hfnumba.optim.second_order.SECOND_ORDER_METHODS`, another
stochastic update in :data:`hfnumba.optim.updates.UPDATE_RULES`.

Examples
--------
One iteration of ``hf-cg`` by hand, fitting the line y = w·x + b, so that theta = (w, b) and f is a quadratic:

>>> from functools import partial
>>> import numpy as np
>>> from hfnumba import ArrayObjective, Network, cg
>>> x = np.array([[-1.0], [0.0], [1.0], [2.0]])
>>> objective = ArrayObjective(Network([1, 1], "identity", "squared_error"), x, 2 * x + 1)
>>> theta = np.zeros(2, np.float32)
>>> def rounded(vector):
...     return [round(float(entry), 2) for entry in vector]

1. Linearise: value and gradient of f over all rows, and products with its Hessian, here on all rows as well.

   >>> lin = objective.linearize(theta)
   >>> round(lin.value, 3), rounded(lin.gradient)
   (4.5, [-3.5, -2.0])

2. Solve (B + damping·I) d = -g for a few products. The damping shortens the step; without it d would be (2, 1).

   >>> from hfnumba.optim.step import solve, try_candidates
   >>> damping = 0.1
   >>> result = solve(cg, lin.hessian(), lin.gradient, damping, maxiter=10)
   >>> result.status.name, result.n_matvec
   ('CONVERGED', 2)

3. Candidates: iterates of the solver, and the direction of lowest curvature where it is negative. Each has the change
   of f that the undamped model predicts.

   >>> from hfnumba.optim.direction import krylov_candidates
   >>> candidates = krylov_candidates(result, lin.gradient, lin.value, damping, indefinite=True)
   >>> [(c.kind, rounded(c.d), round(c.predicted(), 3)) for c in candidates]
   [('newton', [1.83, 1.05], -4.482), ('newton', [1.89, 0.96], -4.487)]

4. Rank the candidates by f in one round, and search along the best, all step lengths in one round.

   >>> from hfnumba.optim.line_search import search
   >>> line_search = partial(search, objective, theta, lin.value)
   >>> best, found = try_candidates(objective, lin, candidates, rows=None, line_search=line_search)
   >>> best.index, found.alpha, rounded(found.theta)
   (2, 1.0, [1.89, 0.96])

5. Adapt the damping: the model was right (rho is near 1), so the next solve is damped less.

   >>> from hfnumba.optim.damping import reduction_ratio, updated
   >>> rho = reduction_ratio(lin.value, found.value_at_one, best.predicted())
   >>> round(rho, 3), round(updated(damping, rho, found.alpha), 3)
   (1.0, 0.067)

The same as an iteration of the outer loop, without the preconditioner:

>>> from hfnumba import optimizer
>>> _, iteration = optimizer("hf-cg", preconditioner="none", max_iterations=1).iterate(objective, theta)
>>> bool((iteration.state.theta == found.theta).all()), iteration.rho == rho, round(iteration.state.damping, 3)
(True, True, 0.067)
"""
