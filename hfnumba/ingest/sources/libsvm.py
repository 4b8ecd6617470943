"""Sparse rows of libsvm, ``label index:value …``, read line by line and made dense."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hfnumba.errors import DataError, encoding_hint, is_utf16
from hfnumba.formats.numbers import plain
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.raw import RawData, opened
from hfnumba.ingest.sources.table import Block, gather, located, options_of
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.rounding import Ranges

MAX_LINE = 2**24
BLOCK_CELLS = 2**21
MAX_BLOCK_ROWS = 8192


class _Line(NamedTuple):
    label: str
    indices: list[int]
    values: list[float]


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[table]`` names; without a test split, the seed holds training rows out."""
    options, root = options_of(recipe), paths["source"]
    n_features = options.n_features
    if n_features is None:
        files = located(recipe, root)
        progress = FileProgress(reporter.progress("Counting features", "bytes"), files)
        lines = (line for path in chain(*files.values()) for line in progress.follow(path, _lines(path, options)))
        n_features = max((max(line.indices, default=-1) + 1 for line in lines), default=0)
    width = n_features
    regression = recipe.task == "regression"

    def blocks(split: str, path: Path) -> Iterator[tuple[Block, float]]:
        pending: list[_Line] = []
        for line, share in _lines(path, options):
            pending.append(line)
            if len(pending) >= min(MAX_BLOCK_ROWS, max(1, BLOCK_CELLS // width)):
                yield _dense(path, pending, width, regression), share
                pending = []
        if pending:
            yield _dense(path, pending, width, regression), 1.0

    return gather(recipe, root, seed, reporter, blocks, n_features=width, ranges=Ranges(parsed=True))


def _dense(path: Path, lines: list[_Line], width: int, regression: bool) -> Block:
    X = np.zeros((len(lines), width))
    for row, line in zip(X, lines, strict=True):
        row[line.indices] = line.values
    words = [line.label for line in lines]
    if not regression:
        return Block(X, words, None)
    try:
        return Block(X, None, np.array([float(word) for word in words]).reshape(-1, 1))
    except ValueError as error:
        raise DataError(f"{path}: a target is not a number ({error})") from error


def _lines(path: Path, options: TableOptions) -> Iterator[tuple[_Line, float]]:
    """Read the non-empty lines, each with the share of the file that is read by then."""
    limit, nbytes = options.n_features or options.max_features, path.stat().st_size
    with opened(path) as file:
        number = 0
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                if is_utf16(text):
                    raise DataError(f"{path} cannot be read: {encoding_hint(text)}")
                text = text.removeprefix(codecs.BOM_UTF8)
            where = f"{path}, line {number}"
            if len(text) > MAX_LINE:
                raise DataError(f"{where} is longer than {MAX_LINE} bytes")
            content = text.partition(b"#")[0].strip()
            if content:
                share = getattr(file, "fileobj", file).tell() / nbytes  # of the compressed bytes, where it is
                yield _line(where, content, limit, 0 if options.zero_based else 1), share
    if not number:
        raise DataError(f"{path} is empty")


def _line(where: str, text: bytes, limit: int, base: int) -> _Line:
    try:
        words = plain(text).split()
        pairs = [word.split(b":") for word in words[1:]]
        indices = [int(index) - base for index, _ in pairs]
        values = [float(value) for _, value in pairs]
        label = words[0].decode("ascii")
        float(label)
    except (ValueError, UnicodeDecodeError):
        hint = "; rows of queries (qid) are for ranking, so take the pairs qid:number out" if b"qid:" in text else ""
        raise DataError(f"{where}: expected a label and pairs index:value{hint}") from None
    if indices and (min(indices) < 0 or max(indices) >= limit):
        worst = min(indices) if min(indices) < 0 else max(indices)
        raise DataError(
            f"{where}: the feature number {worst + base} is out of range ({base} to {limit - 1 + base}); see "
            f"zero_based, n_features and max_features of [table]"
        )
    if len(set(indices)) != len(indices):
        raise DataError(f"{where}: a feature number is given twice")
    return _Line(label, indices, values)
