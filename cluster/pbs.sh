#!/usr/bin/env bash
# A training run in as many jobs as it takes, under PBS, with the MPI of the cluster:
#
#     qsub -v STORE=/data/mnist.zarr,RUN=/runs/first cluster/pbs.sh
#
# PBS sends SIGTERM before it kills a job (kill_delay says how long before: have it set to at least the time of an
# iteration). hfnumba then writes a checkpoint and exits with status 75, and the job submits its successor.
#PBS -N hfnumba
#PBS -l select=2:ncpus=17:mpiprocs=17
#PBS -l walltime=04:00:00
#PBS -j oe

cd "$PBS_O_WORKDIR" || exit 1
# source .venv/bin/activate

# 2 × 17 ranks: a scheduler, a client, 32 workers. In the background, because a shell answers signals only while it waits.
cluster/mpi.sh 34 train "$STORE" --hidden 400,150 --run "$RUN" --resume &
pid=$!
trap 'kill -TERM "$pid" 2>/dev/null || true' TERM

status=0
wait "$pid" || status=$?
while kill -0 "$pid" 2>/dev/null; do
    status=0
    wait "$pid" || status=$?
done

if [ "$status" -eq 75 ]; then
    qsub -v "STORE=$STORE,RUN=$RUN" cluster/pbs.sh
fi
exit "$status"
