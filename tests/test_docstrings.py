"""Docstrings of public names are complete, and the examples in docstrings print what they say."""

import ast
import doctest
import re
from importlib import import_module

import pytest

from tests import docstrings, house


def package():
    return [module for module in house.modules() if module.room != "benchmarks"]


def modules_with_examples():
    """Names of the modules of the package with an example in a docstring."""
    return [module.name for module in package() if any(">>> " in text for text in texts(module.tree))]


def texts(tree):
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


FRAGMENT = re.compile(r"(?:\A|^ *[\w*, ]+ : .*\n|\n\n) *Of (?!course)", re.MULTILINE)
"""Beginning of a text, a paragraph or the description of a parameter that lacks its subject."""


def test_no_description_begins_without_its_subject():
    fragments = [
        f"{module.name}: {text.strip()[:60]}"
        for module in package()
        for text in texts(module.tree)
        if FRAGMENT.search(text)
    ]
    assert fragments == []


@pytest.mark.parametrize("text", ["Of the rows.", "Rows.\n\nOf each.", "Rows.\n\nrows : int\n    Of the split."])
def test_a_fragment_is_found(text):
    assert FRAGMENT.search(text)
    assert not FRAGMENT.search(text.replace("Of", "Number of"))


def test_docstrings_of_public_names_are_complete():
    assert docstrings.findings() == []


def test_every_exported_name_is_checked():
    public = set(docstrings.public())
    for module in map(import_module, docstrings.PACKAGES):
        for name in set(module.__all__) - {"__version__", "model"}:
            thing = getattr(module, name)
            assert f"{thing.__module__}.{thing.__qualname__}" in public


@pytest.mark.parametrize(
    ("name", "code"),
    [("without_parameters", "PR01"), ("without_result", "RT01"), ("without_type", "PR04"), ("bare", "GL08")],
)
def test_what_is_missing_is_found(name, code, monkeypatch):
    monkeypatch.setattr(docstrings, "public", lambda: [f"{__name__}.{name}"])
    assert any(f" {code} " in line for line in docstrings.findings())


def without_parameters(n):
    """Do nothing."""


def without_result(n):
    """Return a number.

    Parameters
    ----------
    n : int
        The number.
    """
    return n


def without_type(n):
    """Do nothing.

    Parameters
    ----------
    n
        A number.
    """


def bare(n):
    pass


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_print_what_they_say(module):
    result = doctest.testmod(import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
