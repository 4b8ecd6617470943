"""Files of predictions: tables with the names of classes and targets, arrays, and archives of utterances."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import explain, write_file
from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.formats.extras import require
from hfnumba.ingest.sources.spool import Spool
from hfnumba.run.model import TrainedModel
from hfnumba.run.predictions import Part


class Names(NamedTuple):
    """Names of the outputs of a model, and whether they are probabilities of classes that exclude each other."""

    outputs: tuple[str, ...]
    classifies: bool

    @classmethod
    def of(cls, model: TrainedModel) -> Names:
        """Return the names of classes or targets of a run; numbers where they have none."""
        n = model.network.n_outputs
        own = model.classes or model.record.store.targets or ()
        if model.classifies or model.classes:
            return cls(own or tuple(map(str, range(n))), model.classifies)
        return cls(own or tuple(f"output {k}" for k in range(n)), False)

    @property
    def columns(self) -> list[str]:
        """Columns of a table of predictions, without those of utterances."""
        if not self.classifies:
            return list(self.outputs)
        return ["class", "probability", *(f"probability of {name}" for name in self.outputs)]

    def answer(self, values: NDArray[Any]) -> dict[str, Any]:
        """Return columns with the predictions of a block; numbers have the dtype of ``values``."""
        columns: dict[str, Any] = {}
        if self.classifies:
            best = values.argmax(axis=1)
            columns = {"class": np.array(self.outputs, object)[best], "probability": values.max(axis=1)}
        rest = self.columns[len(columns) :]
        return columns | dict(zip(rest, values.T, strict=True))


def write_answers(out: Path, parts: Iterable[Part], names: Names, dtype: np.dtype[Any]) -> int:
    """Write predictions to a file, block by block, in the format of its suffix; return the number of rows.

    A failure leaves what was there before.

    Parameters
    ----------
    out : Path
        ``.csv`` or ``.parquet``: a row for each row, with the class and its probability and those of all classes, or
        the targets; for utterances also their names. ``.npy``: an array of all outputs. ``.ark``: a matrix of float32
        for each utterance, or one called ``rows``.
    parts : iterable of Part
    names : Names
    dtype : dtype
        Dtype of the outputs.

    Raises
    ------
    HfnumbaError
        If the file cannot be written, and what reading of the rows raises.
    """
    count = _Count()
    counted = (part.__class__(part.name, part.n_rows, count.counted(part.blocks)) for part in parts)
    try:
        write_file(out, _writer(out)(counted, names, dtype))
    except OSError as error:
        raise HfnumbaError(explain(error, out)) from error
    return count.n_rows


def refuse_format(out: Path) -> None:
    """Raise if the suffix of a file of predictions is none of the known ones.

    Raises
    ------
    UsageError
    """
    _writer(out)


_Writer = Callable[[Iterable[Part], Names, np.dtype[Any]], Iterator[bytes]]


def _writer(out: Path) -> _Writer:
    writers: dict[str, _Writer] = {".csv": _csv, ".parquet": _parquet, ".npy": _npy, ".ark": _ark}
    if out.suffix not in writers:
        raise UsageError(f"expected --out to end in {', '.join(writers)}, got {out}")
    return writers[out.suffix]


class _Count:
    n_rows = 0

    def counted(self, blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for block in blocks:
            self.n_rows += len(block)
            yield block


def _csv(parts: Iterable[Part], names: Names, dtype: np.dtype[Any]) -> Iterator[bytes]:
    text, first = io.StringIO(), True
    writer = csv.writer(text, lineterminator="\n")
    for part in parts:
        of_part = {} if part.name is None else {"utterance": part.name}
        if first:
            writer.writerow([*of_part, *names.columns])
            first = False
        for block in part.blocks:
            # As Python's floats of the numbers' shortest texts: 0.1, not 0.10000000149.
            columns = [map(str, column) for column in names.answer(block).values()]
            writer.writerows([*of_part.values(), *row] for row in zip(*columns, strict=True))
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


class _Pieces(io.RawIOBase):
    """File that is written to pieces, which are taken away as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._at += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._at

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _parquet(parts: Iterable[Part], names: Names, dtype: np.dtype[Any]) -> Iterator[bytes]:
    arrow, parquet = require("pyarrow", "tables"), require("pyarrow.parquet", "tables")
    of_table = [(name, arrow.string() if name == "class" else arrow.from_numpy_dtype(dtype)) for name in names.columns]
    pieces, writer = _Pieces(), None
    try:
        for part in parts:
            of_part = [] if part.name is None else [("utterance", arrow.string())]
            if writer is None:
                writer = parquet.ParquetWriter(pieces, arrow.schema([*of_part, *of_table]))
            for block in part.blocks:
                own = [arrow.array([part.name] * len(block), arrow.string())] if of_part else []
                columns = zip(names.answer(block).values(), of_table, strict=True)
                arrays = [*own, *(arrow.array(values, kind) for values, (_, kind) in columns)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=writer.schema))
                yield from pieces.taken()
    finally:
        if writer is not None:
            writer.close()
    yield from pieces.taken()


def _npy(parts: Iterable[Part], names: Names, dtype: np.dtype[Any]) -> Iterator[bytes]:
    several = iter(parts)
    part = next(several)
    if part.n_rows is None or part.name is not None:
        blocks = chain(part.blocks, chain.from_iterable(other.blocks for other in several))
        part = Part(None, len(spool := _spooled(blocks, names, dtype)), iter([spool]))
    shape = (part.n_rows, len(names.outputs))
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    yield header.getvalue()
    yield from (block.tobytes() for block in _cut(part.blocks))


def _ark(parts: Iterable[Part], names: Names, dtype: np.dtype[Any]) -> Iterator[bytes]:
    for part in parts:
        n_rows, blocks = part.n_rows, part.blocks
        if n_rows is None:
            spool = _spooled(blocks, names, dtype)
            n_rows, blocks = len(spool), iter([spool])
        sizes = struct.pack("<bibi", 4, n_rows, 4, len(names.outputs))
        yield (part.name or "rows").encode() + b" \0BFM " + sizes
        yield from (block.astype("<f4", copy=False).tobytes() for block in _cut(blocks))


def _spooled(blocks: Iterable[NDArray[Any]], names: Names, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Outputs of rows of which there is no number yet, by way of a temporary file."""
    spool = Spool(len(names.outputs), dtype)
    for block in blocks:
        spool.append(block)
    return spool.array()


def _cut(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Blocks of a size of which a copy may be in memory."""
    for block in blocks:
        yield from (block[first : first + 65_536] for first in range(0, len(block), 65_536))
