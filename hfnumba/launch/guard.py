"""Recognises a script that starts worker processes while such a process imports it."""

from __future__ import annotations

import multiprocessing

UNGUARDED = 77
"""Exit status of a worker process that imports such a script."""


def end_if_imported() -> None:
    """End this process if it is a worker process that imports the script; its nanny recognises the exit status."""
    # The mark by which multiprocessing itself refuses to start processes then.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)
