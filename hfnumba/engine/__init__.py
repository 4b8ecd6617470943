"""Evaluating an objective over partitions: rounds, what runs on a worker, and the reduction."""

from hfnumba.engine.constructors import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.engine.objective import RoundObjective
from hfnumba.engine.predict import predict

__all__ = ["ArrayObjective", "DaskObjective", "RoundObjective", "SplitObjective", "predict"]
