#!/usr/bin/env bash
# Installs hfnumba, and what it needs, in a virtual environment of its own, for workers, scheduler and client:
#
#     cluster/install-worker.sh /opt/hfnumba dist/hfnumba-0.1.0-py3-none-any.whl
#
# The first word is the folder of the environment, which is made; the others are what pip shall install: a wheel, the
# folder of a checkout, hfnumba==0.1.0 once it is in a package index, or, with extras, such as '.[mpi]'. PYTHON names
# the interpreter, python3 without it. On a cluster without containers, run it on every machine, or once for a folder
# that all of them see; the Dockerfile beside this script runs it to make an image. It prints the versions that all
# processes of a cluster must have in common.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: $0 FOLDER REQUIREMENT…" >&2
    exit 2
fi
folder="$1"
shift

"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || {
    echo "hfnumba needs Python 3.12 or newer; name one: PYTHON=python3.13 $0 …" >&2
    exit 1
}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
"$folder/bin/python" -m pip check
"$folder/bin/python" -c 'from hfnumba.versions import as_text, installed; print(as_text(installed()))'
