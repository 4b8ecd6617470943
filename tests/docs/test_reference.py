"""The reference has every public name, command, key, field and environment variable, and no others."""

import inspect
import json
import pkgutil
import re
import sys
from functools import cache

import numpy as np
import pytest

import hfnumba
from hfnumba.engine import RoundObjective
from hfnumba.ingest.recipes import Recipe
from hfnumba.optim.loop import Optimizer
from hfnumba.optim.methods import METHODS
from hfnumba.run.options import Group
from hfnumba.run.settings import OPTIONS
from hfnumba.store.manifest import VERSION, Manifest
from tests import docstrings, house
from tests.docs import variables

pytest.importorskip("sphinx", reason="Sphinx builds the documentation: pip install 'hfnumba[docs]'")
DOCS = house.ROOT / "docs"
sys.path.insert(0, str(DOCS))

import nbclient  # noqa: E402
from docutils import nodes  # noqa: E402
from extensions import drawings, examples, fields, links, long_code, names  # noqa: E402 - of the folder docs


def page(name):
    return (DOCS / "reference" / name).read_text("utf-8")


def arguments(directive, text):
    """Arguments of a directive on a page, in their order."""
    return re.findall(rf"^```\{{{directive}\}} ?(\S*)$", text, re.MULTILINE)


@cache
def documented_modules():
    """Modules whose public names are listed: those in the tables of the page about Python."""
    return re.findall(r"^   (hfnumba[\w.]*)$", page("python.md"), re.MULTILINE)


def test_every_room_that_exports_names_is_in_the_reference():
    assert len(documented_modules()) == len(set(documented_modules()))
    exporting = {
        ".".join(path.relative_to(house.ROOT).parent.parts)
        for path in house.PACKAGE.glob("**/__init__.py")
        if re.search(r"^__all__ = ", path.read_text("utf-8"), re.MULTILINE)
    }
    # The estimators are exported by hfnumba itself.
    assert exporting - {"hfnumba.estimator"} <= set(documented_modules())
    assert set(pkgutil.resolve_name("hfnumba.estimator").__all__) <= set(hfnumba.__all__)


def test_every_module_of_the_reference_has_public_names_or_a_text():
    for name in documented_modules():
        module = pkgutil.resolve_name(name)
        assert module.__doc__, name


def test_the_names_on_the_pages_are_those_whose_docstrings_are_complete():
    checked = set(docstrings.public())
    for module in map(pkgutil.resolve_name, documented_modules()):
        listed = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        things = [vars(module).get(name, getattr(module, name)) for name in listed]
        ours = [thing for thing in things if inspect.isclass(thing) or inspect.isfunction(thing)]
        own = [thing for thing in ours if hasattr(module, "__all__") or thing.__module__ == module.__name__]
        # Errors are made by the package alone.
        own = [thing for thing in own if not (inspect.isclass(thing) and issubclass(thing, Exception))]
        assert {f"{thing.__module__}.{thing.__qualname__}" for thing in own} <= checked, module.__name__


def test_methods_that_are_hidden_are_there():
    for cls, methods in names.HIDDEN.items():
        assert [name for name in methods.split() if not hasattr(pkgutil.resolve_name(cls), name)] == []


def test_pages_of_methods_and_objectives_leave_out_what_derived_classes_define():
    for base, hook in ((Optimizer, "propose"), (RoundObjective, "with_penalty")):
        hidden = {pkgutil.resolve_name(cls) for cls, methods in names.HIDDEN.items() if hook in methods.split()}
        # Benchmarks derive classes that no page shows.
        modules = {cls: cls.__module__.split(".") for cls in derived(base)}
        assert hidden == {cls for cls, path in modules.items() if path[0] == "hfnumba" and path[1] != "bench"}


def derived(cls):
    return {one for child in cls.__subclasses__() for one in (child, *derived(child))}


def test_every_variable_that_is_read_is_on_the_page_of_the_environment():
    used = variables.read(house.ROOT) - {"PATH"}
    rows = re.findall(r"^\| (`.*?) \|", page("environment.md"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {"HFNUMBA_CACHE_DIR", "HFNUMBA_FUZZ_EXAMPLES", "PMI_RANK", "SLURM_PROCID", "MPIRUN_OPTIONS"} <= used
    assert used <= listed
    # Click reads the name of the variable for completion itself.
    assert {name for name in listed - used if "HFNUMBA" in name} == {"_HFNUMBA_COMPLETE"}


def test_variables_are_found_by_how_they_are_read(tmp_path):
    (tmp_path / "a.py").write_text(
        "import os\nA = 'ONE'\nB = (('TWO', 'THREE'),)\nos.environ.get(A)\nos.getenv('FOUR')\n'FIVE' in os.environ\n"
        "for x, y in B:\n    os.environ[x]\nos.environ['SET'] = 'NOT'\n[os.environ.get(z, '') for z in ['SIX']]\n"
    )
    (tmp_path / "b.sh").write_text('# $NO\nOWN=1\nexport SET=$OWN\necho "${SEVEN:-1}" $EIGHT $1\n')
    assert variables.read(tmp_path) == {"ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT"}


def test_every_field_of_a_ledger_is_described():
    rng = np.random.default_rng(0)
    objective = hfnumba.ArrayObjective(hfnumba.Network([3, 2]), rng.standard_normal((8, 3)), np.arange(8) % 2)
    iterations = hfnumba.optimizer("gn-cg", max_iterations=1).iterate(objective, np.zeros(8, np.float32))
    line = list(iterations)[-1].as_ledger_line()
    (name,) = [name for name in arguments("fields", page("runs.md")) if name.endswith(":Iteration")]
    table = fields.fields_table(name)
    described = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*?) \|$", table, re.MULTILINE))
    assert set(described) == set(line)
    assert all(described.values())


def test_the_keys_of_a_ledgers_file_are_described(tmp_path):
    from hfnumba import ledger

    ledger.append(tmp_path / "ledger.jsonl", {"iteration": 0})
    added = json.loads((tmp_path / "ledger.jsonl").read_text()).keys() - {"iteration"}
    for key in {*added, ledger.LOST}:
        assert f"| `{key}` |" in page("runs.md")


@pytest.mark.parametrize(("cls", "name"), [(Recipe, "recipes.md"), (Manifest, "stores.md")])
def test_every_table_of_a_file_is_on_its_page(cls, name):
    listed = [pkgutil.resolve_name(argument) for argument in arguments("fields", page(name))]
    assert set(listed) == set(fields.nested(cls))
    for table in listed:
        for row in fields.rows(table):
            assert row.text, f"{table.__name__}.{row.name} has no description in the docstring"


def test_the_page_of_stores_has_the_number_of_the_schema():
    assert arguments("schema", page("stores.md"))
    assert f"version **{VERSION}**" in fields.schema_sentence("")


def test_every_setting_and_every_method_is_in_a_table():
    groups = arguments("settings", page("settings.md"))
    assert groups == [group.name for group in Group]
    tables = "\n".join(map(fields.settings_table, groups))
    assert sorted(re.findall(r"^\| `(\w+)` \| `--", tables, re.MULTILINE)) == sorted(OPTIONS)
    assert "{methods}" in (DOCS / "algorithms.md").read_text("utf-8")
    assert all(f"| `{name}` |" in fields.methods_table("") for name in METHODS)


def test_every_script_that_writes_a_page_says_how_it_is_called():
    table = fields.scripts_table("")
    for path in (house.ROOT / "benchmarks").glob("*.py"):
        if '"--write"' in path.read_text("utf-8"):
            assert f"python benchmarks/{path.name}" in table


@pytest.mark.slow
def test_the_drawing_of_the_layers_has_every_room_once():
    drawing = drawings.layers()
    drawn = re.findall(r'<text class="code centred"[^>]*>(\w+)<', drawing)
    assert sorted(drawn) == sorted(set(house.rooms(house.modules())) - {"__init__", "__main__"})


def test_a_drawing_leaves_out_what_follows():
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert drawings.reduced(graph) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_every_step_of_the_drawing_of_a_round_has_a_sentence():
    for file, functions in drawings.SHOWN.items():
        for name in functions:
            assert drawings.summary(file, name).endswith((".", "?")), name


def test_long_words_of_code_are_marked():
    paragraph = nodes.paragraph()
    for text in ("x" * 32, "x" * 33, "pytest -m slow tests/ingest/test_fuzz.py"):
        paragraph += nodes.literal("", text)
    long_code.mark(paragraph)
    assert [code["classes"] for code in paragraph] == [[], ["long"], []]


def test_a_kernel_of_the_examples_warns_of_nothing(capfd):
    notebook = examples.read("# %%\nprint(6 * 7)\n")
    client = nbclient.execute(notebook)
    assert client.cells[0].outputs[0].text == "42\n"
    assert capfd.readouterr().err == ""


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><a href="#top">up</a><a href="https://x.org/y">x</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p><img src="no.png"><a href="a.html#there">a</a>')
    assert links.broken(tmp_path) == ["b.html: no.png: no such file", "b.html: a.html#there: no such anchor"]
