"""How a Dask client comes to be: none, worker processes of this machine, or the address of a cluster that runs."""

from hfnumba.launch.local import local
from hfnumba.launch.spec import Placement, open_cluster

__all__ = ["Placement", "local", "open_cluster"]
