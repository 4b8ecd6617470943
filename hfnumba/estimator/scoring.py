"""Scores of scikit-learn, for arrays without masked values."""

from __future__ import annotations

from typing import Any

from hfnumba.store.checks import refuse_masked


class MaskedScoreMixin:
    """Method ``score`` that refuses masked values, of which scikit-learn would use what is under the mask."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of a classifier, R² of a regressor.

        Parameters
        ----------
        X : array_like of shape (n_rows, n_features)
            Features.
        y : array_like of shape (n_rows,) or (n_rows, n_outputs)
            Labels or targets.
        sample_weight : array_like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        float
            Share of the rows whose labels are predicted, or 1 minus the share of the variance that is left.

        Raises
        ------
        DataError
            If values are masked.
        """
        refuse_masked("y", y)
        refuse_masked("sample_weight", sample_weight)
        return float(super().score(X, y, sample_weight=sample_weight))  # type: ignore[misc]
