"""Everything compiled: BLAS calls, elementary functions, activations, losses, and the passes over row blocks.

These modules work on arrays only. Importing this package loads Numba and points its cache at a local, private folder.
"""

from hfnumba.kernels import cache as _cache

_cache.configure()
_cache.save_one_at_a_time()
