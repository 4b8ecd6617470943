"""Commands that pages name, in their text or in blocks that are not executed: command, options and scripts exist."""

import re
from functools import cache

import click
import pytest
from markdown_it import MarkdownIt

from hfnumba.cli import main
from tests.docs.blocks import blocks
from tests.docs.page import ROOT
from tests.docs.test_blocks import PAGES, name_of

OPTION = re.compile(r"(?<!\S)\[?(--?[a-zA-Z][\w-]*)")


def spans(page):
    """Code within the text."""
    for token in MarkdownIt().enable("table").parse(page.read_text("utf-8")):
        yield from (child.content for child in token.children or () if child.type == "code_inline")


def lines(page):
    """Lines of the blocks that are not executed, without continuations and remarks."""
    for block in blocks(page):
        if block.language in ("bash", "console") and not block.is_executed:
            yield from (re.sub(r"\s#.*", "", line) for line in block.text.replace("\\\n", " ").splitlines())


@cache
def options_of(script):
    return set(re.findall(r"\"(--?[a-z][\w-]*)\"", (ROOT / script).read_text("utf-8")))


def wrong(line):
    """What a command line names that is not there."""
    if found := re.search(r"\bpython (benchmarks/\S+\.py)(.*)", line):
        script, rest = found.groups()
        if not (ROOT / script).exists():
            return [script]
        return [option for option in OPTION.findall(rest) if option not in options_of(script)]
    found = re.search(r"(?:^|\s)(?<!import )hfnumba (.*)", line)
    if found is None:
        return []
    words, command = found[1].split(), main
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z0-9-]*", words[0]):
        with click.Context(command) as context:
            name, command = words[0], command.get_command(context, words.pop(0))
        if command is None:
            return [name]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "--version"}
    return [option for option in OPTION.findall(" ".join(words)) if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_in_a_page_exist(page):
    assert {line: found for line in [*spans(page), *lines(page)] if (found := wrong(line))} == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hfnumba train x.zarr --hiden 3 --run r", ["--hiden"]),
        ("hfnumba trian x.zarr", ["trian"]),
        ("hfnumba data biuld mnist --rows 3", ["biuld"]),
        ("mpirun -n 3 hfnumba data build mnist [--rows 3] --lable y", ["--lable"]),
        ("python benchmarks/nothing.py --write x", ["benchmarks/nothing.py"]),
        ("python benchmarks/methods.py --wirte x", ["--wirte"]),
        ("hfnumba train … --hidden 3 -v", []),
        ("import hfnumba as hf", []),
    ],
)
def test_a_wrong_command_is_found(line, expected):
    assert wrong(line) == expected
