# Source this before starting workers: a worker's threads are those it is given; BLAS and OpenMP must not add any.
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1
export NUMEXPR_NUM_THREADS=1
export NUMBA_NUM_THREADS=1

# Python imports no modules from the current folder.
export PYTHONSAFEPATH=1

# The network between the machines, if the one that a machine uses by default is not it (see `ip address`):
# export HFNUMBA_INTERFACE=ib0
