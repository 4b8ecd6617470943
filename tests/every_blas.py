"""Runs the tests marked ``bits`` under each set of OpenBLAS' kernels for this processor that ``make test`` does not use.

``python -m tests.every_blas``, or ``make test-bits``. Processors differ in what OpenBLAS chooses for them; the variable
OPENBLAS_CORETYPE chooses in its place. Under the kernels chosen here ``make test`` runs these tests.
"""

import os
import subprocess
import sys
from pathlib import Path

CORETYPES = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX")
# Uses the kernels, which ends the process where the processor lacks their instructions, and prints what was chosen.
PROBE = """
import numpy as np
from scipy.linalg.blas import dgemm, sgemm
from threadpoolctl import threadpool_info
for gemm in (sgemm, dgemm):
    gemm(1.0, np.ones((99, 99)), np.ones((99, 99)))
print(*sorted({str(lib.get("architecture")) for lib in threadpool_info() if lib["user_api"] == "blas"}))
"""


def chosen(**variables):
    """Kernels that BLAS chooses; None where the processor lacks instructions that they use."""
    words = [sys.executable, "-c", PROBE]
    probe = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False)
    if probe.returncode < 0:
        return None
    probe.check_returncode()
    return probe.stdout.strip()


def main():
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    tests = [path for path in files if "pytest.mark.bits" in path.read_text()]
    tested, failed = {chosen(): "this machine's own, by make test"}, []
    for name in CORETYPES:
        kernels = chosen(OPENBLAS_CORETYPE=name)
        if kernels is None:
            print(f"{name}: not tested, since this processor lacks instructions that these kernels use", flush=True)
            continue
        if kernels in tested:
            print(f"{name}: these are the kernels tested as {tested[kernels]}", flush=True)
            continue
        print(f"{name}: BLAS chooses {kernels}", flush=True)
        tested[kernels] = name
        words = [sys.executable, "-m", "pytest", "-n", "2", "-m", "bits and not slow", *map(str, tests)]
        if subprocess.run(words, env=os.environ | {"OPENBLAS_CORETYPE": name}, check=False).returncode:
            failed.append(name)
    sys.exit(f"failed with the kernels of {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
