"""Clusters: worker processes on this machine, a running Dask cluster, or the ranks of a job."""

from hfnumba.launch.local import local
from hfnumba.launch.spec import Placement, open_cluster

__all__ = ["Placement", "local", "open_cluster"]
