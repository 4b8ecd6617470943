"""Runs the tests marked ``bits`` under each of OpenBLAS' kernels that ``make test`` does not use.

``python -m tests.every_blas``, or ``make test-bits``. Processors differ in what OpenBLAS chooses for them; the variable
OPENBLAS_CORETYPE chooses in its place. Under the kernels chosen here ``make test`` runs these tests.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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


def run(name):
    """Status and output of the tests under the kernels of a processor."""
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    tests = [str(path) for path in files if "pytest.mark.bits" in path.read_text()]
    words = [sys.executable, "-m", "pytest", "-m", "bits and not slow", *tests]
    env = os.environ | {"OPENBLAS_CORETYPE": name}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def main():
    here, others, failed = chosen(), {}, []
    for name in CORETYPES:
        kernels = chosen(OPENBLAS_CORETYPE=name)
        if kernels is None:
            print(f"{name}: not tested, since this processor lacks instructions that these kernels use", flush=True)
        elif kernels == here:
            print(f"{name}: these are the kernels of make test", flush=True)
        elif kernels in others:
            print(f"{name}: these are the kernels tested as {others[kernels]}", flush=True)
        else:
            others[kernels] = name
    # Each in one process, so that two keep two processors busy and nothing is imported or started twice.
    with ThreadPoolExecutor(2) as pool:
        for (kernels, name), (status, output) in zip(others.items(), pool.map(run, others.values()), strict=True):
            print(f"{name}: BLAS chooses {kernels}\n{output}", flush=True)
            if status:
                failed.append(name)
    sys.exit(f"failed with the kernels of {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
