"""Executes the code blocks of a Markdown page from top to bottom, in an empty folder.

    python -m tests.docs.page docs/commands.md

:mod:`tests.docs.blocks` has the rules. Folders of the checkout that a block names (``benchmarks/…``) are copied into
that folder. ``hfnumba data build mnist`` finds its files in ``$HFNUMBA_DATA/mnist`` instead of downloading them.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import types
from pathlib import Path

from tests.docs.blocks import Block, blocks, commands

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
# A step that takes more than a few seconds prints these lines on stderr where it is no terminal.
PROGRESS = re.compile(
    r"^.*: [\d,]+ of [\d,]+ (?:MB, [\d,.]+ MB/s|.*, [\d,.]+ a second)(?:, [\d.:]+(?: s)? left)?\n", re.M
)
FOLDERS = ("benchmarks", "cluster", "datasets", "docs", "examples")
# Worker processes import it, as they do the installed command.
PROGRAM = """#!{python}
from hfnumba.cli import main
if __name__ == "__main__":
    main(prog_name="hfnumba", auto_envvar_prefix="HFNUMBA_PAGE")
"""
# Exported variables and the working folder pass from one block to the next, as in a terminal.
SHELL = """set -eo pipefail
if [ -f {state} ]; then . {state}; fi
trap '{{ export -p; printf "cd %q\\n" "$PWD"; }} > {state}' EXIT
"""


class PageError(Exception):
    """A block that does not do what the page says."""


class Session:
    """A reader who executes the blocks of a page one after another."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.work, self.aside = page, folder / "work", folder / "aside"
        for made in (self.work, self.aside, self.aside / "home", self.aside / "tmp", self.aside / "bin"):
            made.mkdir()
        program = self.aside / "bin" / "hfnumba"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        # A new home is for what a page writes; the list of this machine's fonts would be made again for each.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
        path = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        os.environ |= {"PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "HOME": str(self.aside / "home")}
        os.environ |= {"TMPDIR": str(self.aside / "tmp"), "XDG_CACHE_HOME": str(self.aside / "cache")}
        self._offer_mnist()
        # Like an interactive session: worker processes do not import it.
        self.module = sys.modules["__main__"] = types.ModuleType("__main__")
        os.chdir(self.work)
        sys.path[0] = ""

    def _offer_mnist(self) -> None:
        """Put the files of MNIST where a download would have left them."""
        data = Path(os.environ.get("HFNUMBA_DATA", "nowhere")) / "mnist"
        cache = self.aside / "cache" / "hfnumba" / "datasets" / "mnist"
        cache.mkdir(parents=True)
        for file in data.glob("*.gz"):
            (cache / file.name).symlink_to(file)

    def run(self, block: Block) -> None:
        """Execute, write or parse a block."""
        if "file" in block.comments:
            path = self.work / block.comments["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            import yaml

            list(yaml.safe_load_all(block.text))
        if not block.is_executed:
            return
        for name in FOLDERS:
            if f"{name}/" in block.text and not (self.work / name).exists():
                shutil.copytree(ROOT / name, self.work / name, ignore=shutil.ignore_patterns("__pycache__", "*.zarr"))
        getattr(self, f"_{block.language}")(block)

    def _python(self, block: Block) -> None:
        # Lines of the page, so that a traceback shows them.
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        exec(code, self.module.__dict__)

    def _bash(self, block: Block) -> None:
        status, stdout, stderr = self._shell(block, block.text)
        print(stdout, stderr, sep="\n")
        if status:
            raise PageError(f"exit status {status}")

    def _console(self, block: Block) -> None:
        for command, expected in commands(block.text):
            status, stdout, stderr = self._shell(block, command)
            stderr = PROGRESS.sub("", stderr)
            # What a terminal shows; notes on stderr need not be shown.
            shown = [stdout, stderr + stdout, stdout + stderr] if not status else [stdout + stderr, stderr + stdout]
            tolerance = float(block.comments.get("numbers within", "0%").rstrip("%")) / 100
            if not any(matches(expected, one, tolerance) for one in shown):
                raise PageError(f"$ {command}\nexpected\n{expected}\ngot status {status} and\n{stdout}{stderr}")
            if status and not expected.strip():
                raise PageError(f"$ {command}\nexit status {status}\n{stderr}")

    def _shell(self, block: Block, code: str) -> tuple[int, str, str]:
        script = SHELL.format(state=shlex.quote(str(self.aside / "state"))) + code
        # Files, since processes that go on in the background keep pipes open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            env = os.environ | variables(block.comments.get("executed with", ""))
            bash = ["bash", "-c", script]
            done = subprocess.run(
                bash, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.work, env=env, check=False
            )
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return done.returncode, *texts


def variables(options: str) -> dict[str, str]:
    """The environment variables by which click takes options: ``train --max-iterations 2; data build --rows 500``."""
    found = {}
    for part in filter(None, map(str.strip, options.split(";"))):
        command, *pairs = re.split(r"\s+--", part)
        for pair in pairs:
            name, value = pair.split(maxsplit=1)
            found["_".join(["HFNUMBA_PAGE", *command.split(), name]).replace("-", "_").upper()] = value
    return found


def matches(expected: str, got: str, tolerance: float = 0.0) -> bool:
    """Whether an output is as expected: ``...`` stands for any text, and any white space for any other."""
    pattern, numbers = "", []
    for piece in re.split(rf"(\s*\.\.\.\s*|\s+|{NUMBER})", expected.strip()):
        if piece.strip() == "...":
            pattern += ".*?"
        elif piece.isspace():
            pattern += r"\s+"
        elif tolerance and re.fullmatch(NUMBER, piece):
            pattern += f"({NUMBER})"
            numbers.append(float(piece))
        else:
            pattern += re.escape(piece)
    found = re.fullmatch(pattern, got.strip(), re.DOTALL)
    if found is None:
        return False
    return all(math.isclose(a, float(b), rel_tol=tolerance) for a, b in zip(numbers, found.groups(), strict=True))


def execute(page: Path, folder: Path) -> None:
    """Execute a page in a folder; the first block that fails ends this with a message that names its line."""
    session = Session(page.resolve(), folder)
    for block in blocks(session.page):
        print(f"{page}:{block.line}: {block.language}", flush=True)
        try:
            session.run(block)
        except Exception as error:
            raise PageError(f"{page}:{block.line}: {type(error).__name__}: {error}") from error


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as made:
        execute(Path(sys.argv[1]), Path(made))
