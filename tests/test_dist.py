"""What is released: sdist and wheel hold what they should, and the wheel works in an empty environment.

``make dist-check`` runs these tests. The environment has the oldest Python that hfnumba supports and this machine has.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house import ROOT

pytestmark = pytest.mark.dist
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = PYPROJECT["project"]["version"]


def environment(**more):
    """Variables of this process, without those that let hfnumba be imported from the checkout."""
    left_out = ("PYTHON", "HFNUMBA", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | more


def run(*words, cwd=None, **variables):
    """What a command prints on stdout; it must succeed."""
    command = [str(word) for word in words]
    env = environment(**variables)
    # Without a limit of its own: how long pip takes is the network's matter.
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Dist:
    """What `python -m build` makes: an sdist of the checkout, and a wheel of the sdist."""

    sdist: Path
    wheel: Path

    @functools.cached_property
    def shipped(self):
        """Contents of the wheel by name."""
        with zipfile.ZipFile(self.wheel) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return Dist(folder / f"hfnumba-{VERSION}.tar.gz", folder / f"hfnumba-{VERSION}-py3-none-any.whl")


def oldest_python():
    """Path of the oldest Python of those that pyproject.toml names which is on this machine."""
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    code = "import sys; print(sys.executable)"
    for version in found:
        if (command := shutil.which(f"python{version}")) is not None:
            # pyenv has a command for each version, which runs only if that version is chosen.
            env = environment(PYENV_VERSION=version)
            done = subprocess.run([command, "-c", code], env=env, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
    return sys.executable


@pytest.fixture(scope="module")
def bin_folder(dist, tmp_path_factory):
    """Commands of an environment in which the script that makes images has installed the wheel with all extras."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    script = ROOT / "cluster/install-worker.sh"
    printed = run(script, folder, f"{dist.wheel}[all]", PYTHON=oldest_python())
    assert re.search(
        rf"^hfnumba {re.escape(VERSION)}, numpy [\d.]+, scipy [\d.]+, numba [\d.]+$", printed, re.MULTILINE
    )
    return folder / "bin"


def test_an_index_would_take_them(dist):
    run(sys.executable, "-m", "twine", "check", "--strict", dist.sdist, dist.wheel)


def test_the_sdist_holds_what_git_has(dist):
    with tarfile.open(dist.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    if not (ROOT / ".git").exists():
        pytest.skip("this folder is no git repository")
    files = run("git", "-C", ROOT, "-c", "core.quotepath=off", "ls-files").splitlines()
    assert names == {*files, "PKG-INFO"}


def test_a_wheel_of_the_checkout_is_the_same(dist, tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT)
    assert (tmp_path / dist.wheel.name).read_bytes() == dist.wheel.read_bytes()


def test_the_wheel_holds_hfnumba_with_its_recipes_and_scripts_and_nothing_else(dist):
    sources = [*(ROOT / "hfnumba").rglob("*.py"), ROOT / "hfnumba/py.typed"]
    expected = {str(path.relative_to(ROOT)): path.read_bytes() for path in sources}
    for name in ("cluster", "datasets"):
        expected |= {f"hfnumba/{name}/{path.name}": path.read_bytes() for path in (ROOT / name).iterdir()}
    ours = {name: content for name, content in dist.shipped.items() if ".dist-info/" not in name}
    assert ours == expected
    assert dist.shipped[f"hfnumba-{VERSION}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_installed_package_is_found_with_its_version(bin_folder, tmp_path):
    assert run(bin_folder / "hfnumba", "--version", cwd=tmp_path) == f"hfnumba {VERSION}\n"
    code = "import hfnumba; print(hfnumba.__version__, hfnumba.__file__)"
    version, path = run(bin_folder / "python", "-c", code, cwd=tmp_path).split()
    assert version == VERSION
    assert Path(path).is_relative_to(bin_folder.parent)


def test_recipes_and_scripts_come_along(bin_folder, tmp_path):
    listed = run(bin_folder / "hfnumba", "data", "list", cwd=tmp_path)
    assert all(path.stem in listed for path in (ROOT / "datasets").glob("*.toml"))
    run(bin_folder / "hfnumba", "cluster-scripts", "cluster", cwd=tmp_path)
    written = {path.name: path.read_bytes() for path in (tmp_path / "cluster").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (ROOT / "cluster").iterdir()}
    usage = subprocess.run([tmp_path / "cluster/mpi.sh"], capture_output=True, text=True, check=False)
    assert (usage.returncode, usage.stderr[:7]) == (2, "usage: ")


def test_the_demo_runs(bin_folder, tmp_path):
    run(bin_folder / "hfnumba", "demo", cwd=tmp_path, HFNUMBA_CACHE_DIR=str(tmp_path / "cache"))
    (picture,) = tmp_path.glob("runs/demo-*/curves.png")
    assert picture.stat().st_size > 10_000
    assert len(list((tmp_path / "cache").glob("*/compiled"))) == 1, "all kernels are compiled and saved"
