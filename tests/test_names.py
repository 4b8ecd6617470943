"""Dotted names in the documentation and in docstrings: each is there in a fresh interpreter."""

import ast
import re
import subprocess
import sys

from tests import house
from tests.limits import LIMIT_S

NAME = re.compile(r"(?<![\w./-])hfnumba(?:\.[A-Za-z_]\w*)+")
# After `import hfnumba` alone; each name in a process of its own, so that none is there because of another one.
AS_A_USER_DOES = """
import os, sys
import distributed, numba, scipy.sparse.linalg, sklearn.base, zarr  # slow, and without names of the package
import hfnumba
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            eval(name)
        except BaseException as error:
            os.write(1, f"{name}: {error!r}\\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
"""
# As documentation tools do: the modules of a name are imported.
AS_REFERENCES = """
import pkgutil, sys
for name in sys.argv[1:]:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        print(f"{name}: {error!r}")
"""


def wrong(program, names):
    done = subprocess.run(
        [sys.executable, "-c", program, *sorted(names)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pages():
    """The pages for users; the changelog may name what is no more."""
    return [house.ROOT / "README.md", *(house.ROOT / "docs").glob("*.md"), *(house.ROOT / "cluster").glob("*.md")]


def in_pages(path):
    """Names in a page: those of the package, also by the short name of the examples."""
    text = path.read_text("utf-8")
    short = {f"hfnumba.{name}" for name in re.findall(r"(?<![\w.])hf\.([A-Za-z_]\w*)", text)}
    return short | set(NAME.findall(text))


def docstrings(tree):
    """All texts that stand alone: docstrings, and those after a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_names_in_the_documentation_work_after_importing_the_package():
    names = set().union(*map(in_pages, pages())) | {"hfnumba.launch.local", "hfnumba.store.class_weights.balanced"}
    assert len(names) > 5
    assert wrong(AS_A_USER_DOES, names) == []


def test_names_in_docstrings_tutorials_and_the_reference_lead_somewhere():
    texts = [text for module in house.modules() if module.room != "benchmarks" for text in docstrings(module.tree)]
    names = {name for text in texts for name in NAME.findall(text)}
    inner = (house.ROOT / "docs").glob("*/*.md")
    names |= set().union(*map(in_pages, [*inner, *(house.ROOT / "examples").glob("*.py")]))
    assert len(names) > 50 and "hfnumba.launch.local" in names
    assert wrong(AS_REFERENCES, names) == []


def test_a_name_that_is_not_there_is_noticed():
    assert wrong(AS_A_USER_DOES, ["hfnumba.nothing"]) == [
        "hfnumba.nothing: AttributeError(\"module 'hfnumba' has no attribute 'nothing'\")"
    ]
    assert len(wrong(AS_REFERENCES, ["hfnumba.krylov.cg.nothing", "hfnumba.krylov.cg.cg"])) == 1
