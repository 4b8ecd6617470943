"""Measurements against named peers and against this machine's own limits, as ratios within one run."""
