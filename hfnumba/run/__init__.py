"""A training run: its settings, its directory, and the loop between them."""

from hfnumba.run import model
from hfnumba.run.directory import RunDirectory
from hfnumba.run.loop import RunReporter
from hfnumba.run.records import RunRecord
from hfnumba.run.settings import TrainSettings
from hfnumba.run.training import Outcome, train

__all__ = ["Outcome", "RunDirectory", "RunRecord", "RunReporter", "TrainSettings", "model", "train"]
