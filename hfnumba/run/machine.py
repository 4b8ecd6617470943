"""Machine and command line of a run, as its directory records them."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

from hfnumba.errors import printable
from hfnumba.processors import available_memory, available_processors, mebibytes


def machine() -> dict[str, str]:
    """Return processor, BLAS, operating system and command line of this process, as texts."""
    from hfnumba.kernels.blas import arithmetic  # noqa: PLC0415 - slow to import

    program = Path(sys.argv[0]).name if sys.argv else ""
    program = "python -m hfnumba" if program == "__main__.py" else shlex.quote(program)
    return {
        "arithmetic": arithmetic(),
        "processors": str(available_processors()),
        "memory": mebibytes(available_memory()),
        "system": platform.platform(),
        "command": printable(" ".join([program, shlex.join(sys.argv[1:])])),
    }
