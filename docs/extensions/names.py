"""What the pages of the Python reference show, where references in docstrings lead, and bars in formulas."""

from __future__ import annotations

import pkgutil
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

_OF_OBJECTIVES = "checked evaluate gradient_with_penalty penalty sample with_penalty"
_OF_OPTIMIZERS = "check_state evaluate propose resume start"
HIDDEN = {
    "hfnumba.ArrayObjective": _OF_OBJECTIVES,
    "hfnumba.DaskObjective": _OF_OBJECTIVES,
    "hfnumba.HessianFree": f"{_OF_OPTIMIZERS} derived_settings solver_iterations",
    "hfnumba.LBFGS": _OF_OPTIMIZERS,
    "hfnumba.Network": "primal_width require_autoencoder",
    "hfnumba.SGD": _OF_OPTIMIZERS,
    "hfnumba.SplitObjective": _OF_OBJECTIVES,
    "hfnumba.krylov.DiagonalOperator": "multiply_upper solve_lower solve_upper",
    "hfnumba.optim.iteration.Iteration": "as_ledger_line",
    "hfnumba.optim.iteration.OptimizerState": "restore scalars tensors",
    "hfnumba.optim.kfac.KFAC": _OF_OPTIMIZERS,
    "hfnumba.run.RunDirectory": "refuse_other refuse_used rewind surroundings write_config",
    "hfnumba.store.Split": "cells compact_nbytes expand load_compact load_labels load_stored partition_name",
}
"""Methods that the page of a class leaves out: the package itself calls them, or those who derive a class define them,
whom the pages of ``RoundObjective`` and ``Optimizer`` are for."""


def found(name: str) -> Any:
    """The object of a dotted name; None if there is none."""
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.TextElement) -> nodes.Node | None:
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    wanted = next((thing for name in (target, f"{node.get('py:module')}.{target}") if (thing := found(name))), None)
    if wanted is None:
        return None
    for name, entry in env.domains.python_domain.objects.items():
        if name.rpartition(".")[2] == target.rpartition(".")[2] and found(name) is wanted:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [contents], name)
    return None


def _escape_bars(_app: Sphinx, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    for i, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"(?<!\\)\|(?=\S)", r"\\|", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Be asked about references that Sphinx does not find, and see docstrings after numpydoc."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _escape_bars, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
