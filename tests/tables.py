"""Cells of printed tables."""

import re


def cells(line):
    """Cells of a line of a table without a terminal: columns are at least two spaces apart."""
    return re.split(r" {2,}", line.strip())
