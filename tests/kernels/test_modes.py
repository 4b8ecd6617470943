"""The derivative tests again, with bounds checks compiled in, and as plain Python."""

import os
import subprocess
import sys

import pytest

from tests.limits import LIMIT_S


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "tests"),
    [
        ("NUMBA_BOUNDSCHECK", "odd_shapes or plain_loops or bytes_scaled"),
        ("NUMBA_DISABLE_JIT", "central or plain_loops or (against_jax and tanh)"),
    ],
)
def test_derivatives_in_another_mode(variable, tests, tmp_path):
    environment = {**os.environ, variable: "1", "HFNUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "pytest", "tests/kernels/test_derivatives.py", "-k", tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
