"""Long names in code have a class of their own, by which the style sheet may divide them."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

# Characters that fit on a telephone.
LONGEST = 32


def mark(tree: nodes.Node) -> None:
    """Give the class ``long`` to code in which a word has more than `LONGEST` characters."""
    for code in tree.findall(nodes.literal):
        if max(map(len, code.astext().split()), default=0) > LONGEST:
            code["classes"].append("long")


def setup(app: Sphinx) -> None:
    """Mark each page when its references are resolved."""
    app.connect("doctree-resolved", lambda app, tree, page: mark(tree))
