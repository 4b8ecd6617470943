"""Evaluating an objective over partitions: rounds, what lives on a worker, and the reduction."""

from hfnumba.engine.objective import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.engine.predict import predict
from hfnumba.engine.round_objective import RoundObjective

__all__ = ["ArrayObjective", "DaskObjective", "RoundObjective", "SplitObjective", "predict"]
