#!/usr/bin/env bash
# Runs an hfnumba command on a scheduler and workers that are processes of their own on this machine, as they would be
# on several:
#
#     cluster/local.sh 2 train mnist.zarr --hidden 400,150
#
# starts 2 workers, runs `hfnumba train … --cluster tcp://…`, and takes everything down.
set -euo pipefail

if [ "$#" -lt 2 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: $0 N_WORKERS HFNUMBA_COMMAND…" >&2
    exit 2
fi
n_workers="$1"
shift

here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=cluster/env.sh
source "$here/env.sh"

scratch="$(mktemp -d)"
file="$scratch/scheduler.json"
stop() {
    for pid in $(jobs -p); do kill -- "-$pid" 2>/dev/null || true; done
    # A worker that has not reached its scheduler yet does not listen to SIGTERM.
    for _ in $(seq 30); do
        [ -z "$(jobs -rp)" ] && break
        sleep 0.1
    done
    for pid in $(jobs -rp); do kill -KILL -- "-$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap stop EXIT

# In process groups of their own, so that Ctrl-C reaches the command alone, which then stops at a checkpoint.
set -m
dask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file "$file" &>"$scratch/scheduler.log" &
dask worker --scheduler-file "$file" --host 127.0.0.1 --nworkers "$n_workers" --nthreads 1 --no-dashboard --death-timeout 60 \
    --local-directory "$scratch" &>"$scratch/workers.log" &
set +m

for _ in $(seq 300); do
    [ -s "$file" ] && break
    sleep 0.1
done
[ -s "$file" ] || { cat "$scratch/scheduler.log" >&2; echo "the scheduler did not start" >&2; exit 1; }
address="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$file")"

hfnumba "$@" --cluster "$address"
