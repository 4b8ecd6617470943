#!/usr/bin/env bash
# Runs `hfnumba train` on N ranks of MPI: rank 0 is the scheduler, rank 1 the client, the other N - 2 are workers:
#
#     cluster/mpi.sh 4 train mnist.zarr --hidden 400,150 --run runs/first
#
# Options for mpirun itself, such as a list of machines, go into MPIRUN_OPTIONS. SIGTERM and SIGINT end the run at its
# next checkpoint with exit status 75 under every MPI: they are passed on as SIGUSR1, because Open MPI answers SIGTERM
# by killing the ranks.
set -euo pipefail

if [ "$#" -lt 2 ] || ! [ "$1" -ge 3 ] 2>/dev/null; then
    echo "usage: $0 N_RANKS HFNUMBA_COMMAND…   (at least 3 ranks)" >&2
    exit 2
fi
n_ranks="$1"
shift

# shellcheck source=cluster/env.sh
source "$(cd "$(dirname "$0")" && pwd)/env.sh"

# Scheduler and client mostly wait, so two ranks more than processors are right. Open MPI would refuse them, and would
# bind each rank, with all the threads of its worker, to one processor; other MPIs do not look at these variables.
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:OVERSUBSCRIBE}"
export PRTE_MCA_rmaps_default_binding_policy="${PRTE_MCA_rmaps_default_binding_policy:-none}"

# In a process group of its own, so that Ctrl-C reaches this script alone; such a group must not read the terminal.
set -m
# shellcheck disable=SC2086 # the options are words
mpirun ${MPIRUN_OPTIONS:-} -n "$n_ranks" hfnumba "$@" --cluster mpi </dev/null &
pid=$!
set +m
trap 'kill -USR1 "$pid" 2>/dev/null || true' TERM INT USR1

# A signal that is trapped ends `wait` early.
status=0
wait "$pid" || status=$?
while kill -0 "$pid" 2>/dev/null; do
    status=0
    wait "$pid" || status=$?
done
exit "$status"
