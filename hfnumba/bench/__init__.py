"""Measurements against other libraries and the limits of this machine, as ratios within one run."""
