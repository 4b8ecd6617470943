"""Formulas as MathML, which browsers show without scripts of other sites."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def _mathml(node: nodes.Element, as_block: bool) -> str:
    code = node.astext().strip()
    try:
        lines = r"\\" in code and r"\begin" not in code
        text: str = tex2mathml(f"\\begin{{align*}}{code}\\end{{align*}}" if lines else code, as_block=as_block)
    except MathError as error:
        _log.warning("the formula %r is not understood: %s", code, error, location=node)
        return ""
    return text


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f"{translator.starttag(node, 'div', CLASS='math')}{_mathml(node, as_block=True)}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer under its name, and choose it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
