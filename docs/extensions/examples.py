"""Examples: scripts in jupytext's percent format, read as notebooks."""

from __future__ import annotations

import jupytext
from jupyter_client.manager import KernelManager
from nbformat import NotebookNode

# A kernel executes what comes by its TCP ports; encryption, which older versions lack, is off by default.
if hasattr(KernelManager, "transport_encryption"):
    KernelManager.transport_encryption.default_value = "auto"


def read(text: str) -> NotebookNode:
    """Read a script, and say what scripts do not: that it is Python, and by which kernel it is executed."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook
