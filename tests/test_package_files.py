"""Recipes and launch scripts are found in a checkout and in an installed package."""

import pytest

from hfnumba import package_files
from hfnumba.errors import HfnumbaError
from hfnumba.package_files import package_folder
from tests.house import ROOT


@pytest.mark.parametrize("name", ["cluster", "datasets"])
def test_a_checkout_has_them_beside_the_package(name):
    assert package_folder(name) == ROOT / name


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    package = tmp_path / "site-packages/hfnumba"
    monkeypatch.setattr(package_files, "_PACKAGE", package)
    # A folder of that name, but of another package.
    (package.parent / "cluster").mkdir(parents=True)
    with pytest.raises(HfnumbaError, match="install it again"):
        package_folder("cluster")
    (package / "cluster").mkdir(parents=True)
    (package / "cluster/README.md").touch()
    assert package_folder("cluster") == package / "cluster"
