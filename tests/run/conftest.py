import pytest

from tests.toy_store import write_toy_store


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """The path of a small store."""
    return write_toy_store(tmp_path_factory.mktemp("store") / "toy.zarr")
