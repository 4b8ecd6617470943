"""Standard streams that do not end a command when they are closed or their reader is gone."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any


class _Forgiving(io.FileIO):
    """File whose writes may fail unnoticed: the reader of a pipe is gone, or the terminal is."""

    def write(self, data: Any) -> int:
        """Write, and report what cannot be written as written."""
        written = None
        with suppress(OSError):
            written = super().write(data)
        # It is None where a terminal would have to be waited for.
        return memoryview(data).nbytes if written is None else written


def protect_streams() -> None:
    """Open closed standard streams on ``/dev/null``, and let commands continue when no one reads their messages.

    The next file that is opened would take the number of a closed stream, and receive what is written to that.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free, so this one; processes that are started inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    stderr = io.BufferedWriter(_Forgiving(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(stderr, encoding, "backslashreplace", line_buffering=True, write_through=True)
