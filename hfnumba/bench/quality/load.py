"""Share of the processors that other processes take while something is measured."""

from __future__ import annotations

import time

import psutil


class MachineLoad:
    """Times of the processors since this was made."""

    def __init__(self) -> None:
        self._machine, self._own, self._since = _busy_seconds(), time.process_time(), time.perf_counter()

    def others(self) -> float:
        """Return the mean share of the machine's processors that other processes took, from 0 to 1.

        In a container these may be processes of others; they disturb as much.
        """
        machine, own = _busy_seconds() - self._machine, time.process_time() - self._own
        available = (time.perf_counter() - self._since) * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, (machine - own) / available)) if available > 0 else 0.0


def _busy_seconds() -> float:
    """Processor time of all processes, and what the host of a virtual machine took away."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    # What guests take is part of user and nice.
    return sum(float(getattr(times, name, 0.0)) for name in names)
