"""Tables of Markdown pages, between the markers ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

The line under a table records the command that made it, the version, the day, and a digest of the code that was
measured; ``python benchmarks/tables.py`` lists the tables whose code has changed since.
"""

import ast
import hashlib
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import hfnumba

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN = "unknown"
_RECORD = re.compile(
    r"^Made by `(?P<command>[^`]+)` with hfnumba (?P<version>\S+) on (?P<day>[\d-]+)\. <!-- code: (?P<code>.*) -->$",
    re.MULTILINE,
)


_KERNELS = ("hfnumba/engine", "hfnumba/kernels")
_TRAINING = (*_KERNELS, "hfnumba/krylov", "hfnumba/optim")
_CODE = {
    "data": ("hfnumba/ingest", "hfnumba/store"),
    "defaults": (*_TRAINING, "hfnumba/estimator"),
    "search": (*_TRAINING, "hfnumba/estimator"),
    "iteration": _KERNELS,
    "kernels": _KERNELS,
    "minibatch": _KERNELS,
    "relay": ("hfnumba/engine",),
    "rounds": ("hfnumba/engine",),
    "scaling": _KERNELS,
    "streaming": (*_KERNELS, "hfnumba/store"),
    "waking": _KERNELS,
}
"""Folders of the package that a script measures; those that train are not listed."""


@dataclass(frozen=True)
class Record:
    """The line under a table.

    Attributes
    ----------
    command, version, day : str
    code : mapping of str to str
        Digest of each folder or file of the package that was measured, or ``UNKNOWN``.
    """

    command: str
    version: str
    day: str
    code: dict[str, str]

    @classmethod
    def new(cls, results: Iterable[Path] = ()) -> Self:
        """Record of a table that this process makes, from files of earlier results if any are given."""
        measured = min((path.stat().st_mtime for path in results), default=None)
        day = datetime.now(UTC) if measured is None else datetime.fromtimestamp(measured, UTC)
        code = {path: code_digest(path, measured) for path in _CODE.get(Path(sys.argv[0]).stem, _TRAINING)}
        return cls(_command(), hfnumba.__version__, f"{day:%Y-%m-%d}", code)

    @classmethod
    def find(cls, text: str) -> Self | None:
        """Record in a text between markers."""
        found = _RECORD.search(text)
        if found is None:
            return None
        code = dict(part.split(" ") for part in found["code"].split(", "))
        return cls(found["command"], found["version"], found["day"], code)

    def __str__(self) -> str:
        code = ", ".join(f"{path} {digest}" for path, digest in self.code.items())
        return f"Made by `{self.command}` with hfnumba {self.version} on {self.day}. <!-- code: {code} -->"


def code_digest(path: str, measured: float | None = None) -> str:
    """Digest of the code of a folder or file, without comments and docstrings.

    With the time of earlier results, ``UNKNOWN`` if a file was written since: it may be other code than was measured.
    """
    there = ROOT / path
    files = sorted(there.rglob("*.py")) if there.is_dir() else [there]
    if measured is not None and any(file.stat().st_mtime > measured for file in files):
        return UNKNOWN
    digest = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                ast.get_docstring(node, clean=False) is not None
            ):
                del node.body[0]
        digest.update(f"{file.relative_to(ROOT)}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:12]


def _command() -> str:
    """The command of this process, without the folders of this machine."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    words += [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", *words])


def marked(page: Path, name: str) -> str:
    """Return the text between the markers, without the record."""
    return _RECORD.sub("", _split(page, name)[1]).strip()


def insert(page: Path, name: str, table: str, results: Iterable[Path] = ()) -> None:
    """Replace the text between the markers by a table and its record.

    ``results`` are files of earlier measurements that the table was made from; the oldest gives the date.
    """
    before, _, after = _split(page, name)
    page.write_text(f"{before}\n{table.strip()}\n\n{Record.new(results)}\n{after}", "utf-8")


def publish(table: str, page: Path | None, name: str, results: Iterable[Path] = ()) -> None:
    """Print a table, or, if a page is given, insert it there."""
    if page is None:
        print(table)
    else:
        insert(page, name, table, results)


def _split(page: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"error: expected {begin} and {end} once each in {page}")
    before, rest = text.split(begin)
    between, after = rest.split(end)
    return before + begin, between, end + after
