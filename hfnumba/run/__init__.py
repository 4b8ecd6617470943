"""A training run: its settings, its directory, and the loop between them."""

from hfnumba.run.directory import RunDirectory, RunRecord
from hfnumba.run.settings import TrainSettings
from hfnumba.run.training import Outcome, Report, train

__all__ = ["Outcome", "Report", "RunDirectory", "RunRecord", "TrainSettings", "train"]
