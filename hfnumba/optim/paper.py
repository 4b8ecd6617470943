"""The literal reading of the paper: every choice as He et al. (2016) print it, or as near as the text allows.

Source: He, Mudigere, Smelyanskiy and Takáč, *Distributed Hessian-free optimization for deep neural network*.
"""

from __future__ import annotations

from typing import Any

from hfnumba.errors import UsageError
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.second_order import SECOND_ORDER_METHODS

_BUDGET = 2
"""Number of solver iterations, as a multiple of the default of the method."""


def paper(method: str = "hf-bicgstab", **settings: Any) -> HessianFree:
    """Make a method as the paper describes it; settings that are given take precedence over its choices.

    ====================  ======================  =================================================================
    setting               here                    why
    ====================  ======================  =================================================================
    krylov_iterations     10 for Bi-CG-STAB,      The paper fixes the number and does not give it. 10 iterations of
                          20 for CG               Bi-CG-STAB are 20 products; CG gets as many products.
    warm_start            0                       Algorithm 2 names a decay for it and gives no value; none is the
                                                  reading that adds nothing.
    candidates            ``"kept"``              The paper does not say which candidate wins, and the residual of
                                                  Bi-CG-STAB says nothing on an indefinite system: several iterates
                                                  and the direction of negative curvature are compared by their loss.
    line_search           ``"backtracking"``      Armijo's condition from step length 1 downwards, first fit. The
                                                  constants, which are not given, are 1e-4 and 1/2.
    preconditioner        ``"none"``              The paper has none.
    line_rows             None                    The objective is evaluated over all rows.
    damping               0.1                     The damping has an initial value and is never updated in print;
                                                  with a constant one nothing bounds a step where the model is wrong.
                                                  So Levenberg and Marquardt's rule stays.
    ====================  ======================  =================================================================

    Two differences from print do not change what is computed: all step lengths of the line search are evaluated in one
    round (the step taken is that of backtracking), and a direction of zero slope, for which sgn(g'd) is undefined, is
    searched along without a change of sign.

    Raises
    ------
    UsageError
        If the paper has no such method, or a setting is wrong.
    """
    compared = [name for name, components in SECOND_ORDER_METHODS.items() if components.in_paper]
    if method not in compared:
        raise UsageError(
            f"expected a second-order method of the paper ({', '.join(compared)}), got {method!r}; choose one of them"
        )
    choices: dict[str, Any] = {
        "krylov_iterations": _BUDGET * SECOND_ORDER_METHODS[method].default_iterations,
        "warm_start": 0.0,
        "candidates": "kept",
        "line_search": "backtracking",
        "preconditioner": "none",
        "line_rows": None,
    }
    return HessianFree(method=method, **(choices | settings))
