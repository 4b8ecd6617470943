"""How a Dask client comes to be: worker processes of this machine, a cluster that runs, or the ranks of a job."""

from hfnumba.launch.local import local
from hfnumba.launch.spec import Placement, open_cluster

__all__ = ["Placement", "local", "open_cluster"]
