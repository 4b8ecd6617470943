#!/usr/bin/env bash
# Runs an hfnumba command on a scheduler and workers that are processes of their own on this machine, as they would be
# on several:
#
#     cluster/local.sh 2 train mnist.zarr --hidden 400,150
#
# starts 2 workers, runs `hfnumba train … --cluster tls://…`, and takes everything down. Only processes with the keys that
# it makes can connect, because whoever connects can run code.
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

# In the scratch folder, which only its owner can enter.
python3 - "$scratch" <<'EOF'
import sys
from pathlib import Path
from hfnumba.launch.security import make_keys
for name, text in make_keys().items():
    Path(sys.argv[1], f"{name}.pem").write_text(text)
EOF
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=true
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$scratch/certificate.pem"
for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$scratch/certificate.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$scratch/key.pem"
done
# Python imports modules from the folder of Dask's temporary files.
export DASK_TEMPORARY_DIRECTORY="$scratch"

# In process groups of their own, so that Ctrl-C reaches the command alone, which then stops at a checkpoint.
set -m
dask scheduler --protocol tls:// --host 127.0.0.1 --port 0 --no-dashboard --dashboard-address 127.0.0.1:0 \
    --scheduler-file "$file" &>"$scratch/scheduler.log" &
dask worker --protocol tls:// --scheduler-file "$file" --host 127.0.0.1 --nworkers "$n_workers" --nthreads 1 --no-dashboard \
    --dashboard-address 127.0.0.1:0 --death-timeout 60 &>"$scratch/workers.log" &
set +m

for _ in $(seq 300); do
    [ -s "$file" ] && break
    sleep 0.1
done
[ -s "$file" ] || { cat "$scratch/scheduler.log" >&2; echo "the scheduler did not start" >&2; exit 1; }
address="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$file")"

hfnumba "$@" --cluster "$address"
