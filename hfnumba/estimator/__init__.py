"""Estimators for scikit-learn: a classifier and a regressor trained by the methods of this package."""

from hfnumba.errors import HfnumbaError

try:
    import sklearn as _sklearn  # noqa: F401 - only the message below explains its absence
except ModuleNotFoundError as missing:
    raise HfnumbaError(
        "the estimators need scikit-learn 1.6 or later; run `pip install 'hfnumba[sklearn]'`"
    ) from missing

from hfnumba.estimator.classifier import HessianFreeClassifier
from hfnumba.estimator.mlp import from_sklearn
from hfnumba.estimator.regressor import HessianFreeRegressor

__all__ = ["HessianFreeClassifier", "HessianFreeRegressor", "from_sklearn"]
