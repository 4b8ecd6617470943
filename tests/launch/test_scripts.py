"""Launch scripts written to a folder: they are those of cluster/, can be run, and replace nothing unasked."""

import os

import pytest

from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.launch.scripts import write_scripts
from tests.house import ROOT

CLUSTER = ROOT / "cluster"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_they_are_those_of_the_checkout(tmp_path):
    written = write_scripts(tmp_path / "a/cluster")
    assert written == sorted((tmp_path / "a/cluster").iterdir())
    assert contents(tmp_path / "a/cluster") == contents(CLUSTER)
    assert {path.name for path in written if os.access(path, os.X_OK)} == {
        name for name, content in contents(CLUSTER).items() if content.startswith(b"#!")
    }


def test_files_that_are_there_are_kept_unless_asked(tmp_path):
    (tmp_path / "pbs.sh").write_text("mine")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match=r"already has pbs\.sh; choose another folder, or add --overwrite"):
        write_scripts(tmp_path)
    assert contents(tmp_path) == {"pbs.sh": b"mine", "notes": b"mine"}
    write_scripts(tmp_path, overwrite=True)
    assert contents(tmp_path) == contents(CLUSTER) | {"notes": b"mine"}


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "cluster").touch()
    with pytest.raises(HfnumbaError, match=r"/cluster/.* could not be written \(File exists\)"):
        write_scripts(tmp_path / "cluster")
