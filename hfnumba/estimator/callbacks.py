"""Callbacks of scikit-learn, from the version on that has them."""

from __future__ import annotations

from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ModuleNotFoundError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Empty mixin: this version of scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method itself."""
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]


class FitTasks:
    """Tasks of a fit as callbacks see them: the fit, and in it one task for each iteration.

    Parameters
    ----------
    estimator : CallbackSupportMixin
    data : dict
        ``X``, ``y`` and ``metadata`` for the hooks.
    n_iterations : int
        Maximum number of iterations.
    """

    def __init__(self, estimator: Any, data: dict[str, Any], n_iterations: int) -> None:
        self._estimator, self._data = estimator, data
        self._fit: Any = None
        self._iteration: Any = None
        # A context takes a millisecond an iteration, as long as the iteration itself on a small set.
        if hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx"):
            self._fit = estimator._init_callback_context(max_subtasks=n_iterations)
            self._fit.call_on_fit_task_begin(estimator=estimator, **data)

    def begin(self) -> None:
        """Call the hooks at the beginning of an iteration."""
        if self._fit is not None:
            self._iteration = self._fit.subcontext(task_name="iteration")
            self._iteration.call_on_fit_task_begin(**self._arguments())

    def end(self) -> bool:
        """Call the hooks at the end of an iteration; return whether one of them asks to stop."""
        return self._iteration is not None and bool(self._iteration.call_on_fit_task_end(**self._arguments()))

    def close(self) -> None:
        """Call the hooks at the end of the fit."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        fitted = {"theta_": self._estimator.theta_}
        return {"estimator": self._estimator, "reconstruction_attributes": fitted, **self._data}
