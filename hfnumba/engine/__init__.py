"""Evaluating an objective over partitions: rounds, what lives on a worker, and the reduction."""

from hfnumba.engine.objective import ArrayObjective, DaskObjective, RoundObjective, SplitObjective
from hfnumba.engine.predict import predict

__all__ = ["ArrayObjective", "DaskObjective", "RoundObjective", "SplitObjective", "predict"]
