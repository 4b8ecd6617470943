"""What decides the bits of a sum: the versions of a few packages, in any process."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("hfnumba", "numpy", "scipy", "numba")
"""Processes that share a sum must have the same versions of these. SciPy brings the BLAS."""


def installed() -> dict[str, str]:
    """Versions of :data:`PACKAGES` in the process that calls this; "missing" for one that is not there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """What other versions somebody has, for a message."""
    return ", ".join(f"{name} {theirs.get(name, 'missing')}" for name in PACKAGES if theirs.get(name) != ours[name])


def spelled(versions: dict[str, str]) -> str:
    """All versions, for a message."""
    return ", ".join(f"{name} {versions[name]}" for name in PACKAGES)
