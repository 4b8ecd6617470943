"""Every code block of the pages does what the page says; ``python -m tests.docs.page PAGE`` tests a single page."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from hfnumba.cli.progress import rate
from tests.docs.blocks import blocks, commands, faults
from tests.docs.page import PROGRESS, ROOT, matches, variables
from tests.limits import LIMIT_S

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES += [ROOT / folder / "README.md" for folder in ("cluster", "datasets", "examples")]
# What building the site writes among its sources.
PAGES = [
    page
    for page in PAGES
    if not {"_build", "generated"} & set(page.parts) and page.parent != ROOT / "docs" / "examples"
]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def executed(page):
    return [block for block in blocks(page) if block.is_executed]


def run(page):
    """The output of the blocks of a page; whatever they have started is ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.docs.page", str(page)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if executed(page)], ids=name_of)
def test_the_blocks_of_a_page_do_what_it_says(page, request):
    if any("data build mnist" in block.text for block in executed(page)):
        request.getfixturevalue("real_data")
    status, output = run(page)
    assert status == 0, output[-8000:]


def test_every_block_says_what_it_is():
    assert [fault for page in PAGES for fault in faults(page)] == []


def written(tmp_path, text):
    (tmp_path / "page.md").write_text(text, "utf-8")
    return tmp_path / "page.md"


GOOD = """
<!-- file: there.txt -->
```text
a line
```

```bash
export WORD=seven
cd "$PWD" && mkdir -p sub && cd sub
```

```python
from pathlib import Path

n = 2


def double(x):
    return n * x
```

```console
$ echo $WORD; cat ../there.txt
seven
a line
$ printf '%s\\n' a b \\
>     c
a
...
c
$ ls nowhere
...No such file...
```

<!-- not executed: it is an example -->
```bash
exit 1
```

```python
assert double(3) == 6
Path("out").write_text("x")
```
"""


def test_a_page_is_executed_in_order(tmp_path):
    page = written(tmp_path, GOOD)
    assert faults(page) == []
    status, output = run(page)
    assert status == 0, output


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```bash\nfalse | true\n```", "exit status 1"),
        ("```console\n$ echo a\nb\n```", "expected\nb\n"),
        ("```console\n$ false\n```", "exit status 1"),
        ("```python\nx = 1\nassert x == 2\n```", "page.md:4"),
        ("```toml\na = \n```", "TOMLDecodeError"),
    ],
)
def test_a_block_that_is_wrong_is_named(tmp_path, block, message):
    status, output = run(written(tmp_path, f"# Page\n\n{block}\n"))
    assert status != 0 and message in output and "page.md:4: " in output.replace("page.md:5", "page.md:4")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```\nls\n```", "without language"),
        ("```ruby\nputs 1\n```", "ruby"),
        ("para\n\n    indented code\n", "without language"),
        ("<!-- not executed: -->\n```bash\nls\n```", "has no text"),
        ("```{code-block} bash\nls\n```", "{code-block}"),
    ],
)
def test_a_block_of_no_known_form_is_a_fault(tmp_path, text, fault):
    (found,) = faults(written(tmp_path, text))
    assert fault in found


def test_directives_of_the_site_are_no_code(tmp_path):
    assert blocks(written(tmp_path, "```{toctree}\na\nb\n```\n")) == []


def test_lines_of_a_block_are_those_of_the_page(tmp_path):
    page = written(tmp_path, "a\n\n<!-- numbers within: 5% -->\n<!-- file: x.py -->\n```python\nx = 1\n```\n")
    (block,) = blocks(page)
    assert (block.line, block.comments) == (6, {"numbers within": "5%", "file": "x.py"})
    assert not block.is_executed


def test_hidden_blocks_are_blocks(tmp_path):
    page = written(tmp_path, "a\n\n<!-- hidden\n```python\nx = 1\n```\n-->\n\n```python\ny = x\n```\n")
    assert [(block.line, block.text) for block in blocks(page)] == [(5, "x = 1\n"), (10, "y = x\n")]


def test_commands_of_a_console_block():
    assert commands("$ a \\\n> b\nout\n> no command\n$ c\n") == [("a \\\nb", "out\n> no command"), ("c", "")]


@pytest.mark.parametrize(
    ("expected", "got", "tolerance", "holds"),
    [
        ("a  1\nb", "a 1 \n  b\n", 0, True),
        ("a 1", "a 2", 0, False),
        ("a 1 b", "a 1.1 b", 0.2, True),
        ("a 1 b", "a 1.1 c", 0.2, False),
        ("loss -2.5e-3 of 10", "loss -2.6e-3 of 30", 0.1, False),
        ("first\n...\nlast", "first\nlast", 0, True),
        ("first\n...\nlast", "first\n1\n2\nlast", 0, True),
        ("12 ± 1, ...", "13 ± 1, 3, 4", 0.1, True),
        ("", "anything", 0, False),
    ],
)
def test_an_output_and_what_is_expected(expected, got, tolerance, holds):
    assert matches(expected, got, tolerance) is holds


@pytest.mark.parametrize(
    ("done", "total", "unit", "seconds"),
    [
        (11, 24, "utterances", 5.2),
        (1, 1, "steps", 0),
        (9_999, 70_000, "rows of test", 7),
        (5e6, 4e9, "bytes", 5),
        (0, 9, "files", 5),
    ],
)
def test_progress_of_a_slow_machine_is_left_out(done, total, unit, seconds):
    line = f"Reading 'a: b': {rate(int(done), int(total), unit, seconds)}\n"
    assert PROGRESS.sub("", f"loss: 3 of 4\n{line}the end\n") == "loss: 3 of 4\nthe end\n"


def test_a_console_block_begins_with_a_prompt():
    with pytest.raises(ValueError, match="begins with"):
        commands("ls\n")


def test_options_become_variables():
    assert variables("train --max-iterations 2; data build --rows 500 --seed 1") == {
        "HFNUMBA_PAGE_TRAIN_MAX_ITERATIONS": "2",
        "HFNUMBA_PAGE_DATA_BUILD_ROWS": "500",
        "HFNUMBA_PAGE_DATA_BUILD_SEED": "1",
    }
