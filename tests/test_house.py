"""Rules of the house that no single room can hold: who imports whom, how long things are, what an import costs."""

import ast
import os
import subprocess
import sys

import pytest

from tests import house

ROOT = house.ROOT

# Rooms that may import nothing of ours but these, and `errors`. The table in CONTRIBUTING.md has the others.
ONLY = {
    "errors": set(),
    "activations": set(),
    "kernels": {"activations"},
    "krylov": {"html", "processors", "threads"},
    "html": set(),
    "linux": set(),
    "processors": {"linux"},
    "threads": {"linux", "processors"},
    "network": {"activations", "html"},
    "path_text": set(),
    "progress": set(),
    "objective": {"krylov"},
    "package_files": set(),
    "optim": {"html", "krylov", "objective", "progress"},
    "store": {"atomic", "html", "linux", "progress", "versions"},
    "formats": set(),
    "ingest": {"atomic", "formats", "linux", "package_files", "path_text", "progress", "store"},
    "launch": {"atomic", "package_files", "processors", "stop", "versions"},
}
# Libraries that only some rooms may import.
LIBRARIES = {
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "dask": {"engine", "estimator", "launch", "processors", "run"},
    "distributed": {"bench", "engine", "estimator", "launch", "processors", "versions"},
    "dask_mpi": {"launch"},
    "mpi4py": {"launch"},
    "zarr": {"ingest", "store"},
    "sklearn": {"bench", "estimator", "ingest"},
    "matplotlib": {"figures"},
    "click": {"cli"},
    "rich": {"cli", "progress"},
    "tensorboardX": {"cli"},
}


HOUSE = house.modules()


def violations(room, tree):
    found = []
    for name in house.imports(tree):
        top, *rest = name.split(".")
        if top == "hfnumba" and room in ONLY:
            target = rest[0] if rest else "the package itself"
            if target not in ONLY[room] | {room, "errors"}:
                found.append(name)
        elif top in LIBRARIES and room not in LIBRARIES[top] | {"benchmarks"}:
            found.append(name)
    return found


def test_imports_go_one_way():
    found = {module.name: wrong for module in HOUSE if (wrong := violations(module.room, module.tree))}
    assert found == {}


def test_nothing_imports_in_a_circle():
    # Two classes of a room may name each other in their types.
    assert house.circles(house.arrows(HOUSE, for_types=False)) == []
    assert house.circles(house.rooms(HOUSE)) == []


def test_the_picture_of_the_rooms_is_that_of_the_code():
    page = house.PAGE.read_text("utf-8")
    assert page == house.with_picture(page, house.picture(HOUSE)), "run: python -m tests.house --write"


def test_modules_and_functions_are_short_and_no_room_is_large():
    assert house.long_modules(HOUSE) == []
    assert house.long_functions(HOUSE) == []
    assert max(house.shares(HOUSE).values()) < house.MAX_ROOM_SHARE


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("krylov", "from hfnumba.optim import methods"),
        ("optim", "def f():\n    import distributed.client"),
        ("launch", "from hfnumba import engine"),
        ("optim", "import numba"),
        ("store", "import hfnumba"),
        ("store", "from hfnumba.ingest import build"),
    ],
)
def test_the_walk_finds_what_is_forbidden(room, source):
    assert violations(room, ast.parse(source))


def test_circles_and_floors():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert house.circles(graph) == [["b", "c"]]
    assert house.floors({"a": {"b", "d"}, "b": {"d"}, "d": set()}) == {"d": 1, "b": 2, "a": 3}


def test_what_is_long_is_found():
    lines = ["def f():", '    """Text."""', *["    x = 1"] * (house.MAX_FUNCTION_LINES + 1)]
    module = house.Module("m", "room", house.MAX_MODULE_LINES + 1, ast.parse("\n".join(lines)))
    assert house.long_functions([module]) == ["m.f"]
    assert house.long_modules([module]) == ["m"]


def test_no_print_and_no_fastmath():
    for module in HOUSE:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") != "print" or module.room == "benchmarks", module.name
                for keyword in node.keywords:
                    if keyword.arg == "fastmath":
                        value = keyword.value
                        assert not (isinstance(value, ast.Constant) and value.value is True), module.name


def loaded_by(code):
    """Modules of interest that a fresh interpreter has loaded after some code."""
    heavy = ("numba", "dask", "distributed", "mpi4py", "zarr", "sklearn", "matplotlib", "scipy", "rich")
    code += f"\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import hfnumba",
        "import hfnumba; hfnumba.Network, hfnumba.HessianFree, hfnumba.SGD, hfnumba.optimizer, hfnumba.cg",
        "import hfnumba.ledger, hfnumba.run.settings",
        "from hfnumba.cli import main; main(['--help'], standalone_mode=False)",
        "from hfnumba.cli import main; main(['train', '--help'], standalone_mode=False)",
    ],
)
def test_imports_are_light(code):
    assert loaded_by(f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    {code}") == set()


def test_reading_a_store_loads_nothing_that_makes_one():
    code = "import hfnumba.store, sys; print(*[name for name in sys.modules if name.startswith('hfnumba')])"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    ours = done.stdout.split()
    assert len(ours) < 17, ours
    assert not [name for name in ours if name.startswith("hfnumba.ingest")]


def test_the_lightness_test_can_fail():
    assert "numba" in loaded_by("import hfnumba; hfnumba.ArrayObjective")


def test_public_names():
    import hfnumba

    for name in hfnumba.__all__:
        assert getattr(hfnumba, name) is not None
        assert name in dir(hfnumba)
    with pytest.raises(AttributeError, match="no attribute 'Netwrk'"):
        _ = hfnumba.Netwrk
