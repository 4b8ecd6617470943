"""The code blocks of a Markdown page, and what the comments before them say.

========  ==============================================================================================
fence     what happens
========  ==============================================================================================
console   commands after ``$ `` (continued by ``> ``), each followed by its output, in which ``...`` stands for
          what varies
bash      commands without output
python    all blocks of a page run in order in one namespace
toml,     parsed
json,
yaml
text      nothing
========  ==============================================================================================

Comments on lines of their own directly before a fence:

``<!-- not executed: REASON -->``
``<!-- file: NAME -->``
    The block is written to that file instead of being executed.
``<!-- executed with: train --max-iterations 2; data build --rows 500 -->``
    Options that the commands of the block have in the test unless they name them, so that the test is short.

``<!-- numbers within: 10% -->``
    Numbers of the output may differ by this share, for those that depend on the processor.

A comment that begins with ``<!-- hidden`` has blocks that the test needs, but not the reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

EXECUTED, PARSED, PLAIN = ("console", "bash", "python"), ("toml", "json", "yaml"), ("text",)
_HIDDEN = re.compile(r"<!--\s*hidden$(.*?)-->", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--\s*(not executed|file|executed with|numbers within)\b:?\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block: its language, text, first line in the page (from 1), and the comments before it by name."""

    language: str
    text: str
    line: int
    comments: dict[str, str]

    @property
    def is_executed(self) -> bool:
        """Whether the block is executed."""
        return self.language in EXECUTED and not self.comments.keys() & {"not executed", "file"}


def blocks(page: Path) -> list[Block]:
    """Code blocks of a page in their order; directives of MyST such as ``{toctree}`` are none."""
    found, comments = [], {}
    text = _HIDDEN.sub(r"\1", page.read_text("utf-8"))
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            comments |= dict(_COMMENT.findall(token.content))
            continue
        if token.type in ("fence", "code_block") and not re.match(r"\{(?!code)", token.info):
            found.append(Block(token.info.strip(), token.content, token.map[0] + 2 - (token.type != "fence"), comments))
        comments = {}
    return found


def faults(page: Path) -> list[str]:
    """What is wrong with the form of the blocks of a page."""
    found = []
    for block in blocks(page):
        if block.language not in EXECUTED + PARSED + PLAIN:
            known = ", ".join(EXECUTED + PARSED + PLAIN)
            found.append(
                f"{page.name}:{block.line}: a code block is {block.language or 'without language'}, not {known}"
            )
        for name in ("not executed", "file", "executed with"):
            if block.comments.get(name) == "":
                found.append(f"{page.name}:{block.line}: '<!-- {name}: … -->' has no text")
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block with the output that is expected of each."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise ValueError("a console block begins with '$ '")
        elif line.startswith("> ") and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [("\n".join(command), "\n".join(output)) for command, output in found]
