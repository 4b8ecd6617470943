"""Configuration of the site, which `make docs` builds.

Its sources are the pages of the whole repository, so that a link between two files is the same on a code host and here:
`sphinx-build -c docs . build/docs`.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

# Examples and drawings compute on few rows.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from extensions import names  # noqa: E402

import hfnumba  # noqa: E402 - of this checkout

project = "hfnumba"
author = "The hfnumba developers"
copyright = author
version = release = hfnumba.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/reference/api/*.rst",
    "examples/*",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "cluster/README.md",
    "datasets/README.md",
]
# Folders that are not even walked.
exclude_patterns = [
    *(".*", "build", "dist", "runs", "tests", "hfnumba", "benchmarks", "**.zarr"),
    *("docs/templates", "docs/root"),
]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_click",
    "extensions.fields",
    "extensions.drawings",
    "extensions.long_code",
    "extensions.mathml",
    "extensions.names",
]
templates_path = [str(DOCS / "templates")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# Examples: scripts and Markdown that jupytext reads as notebooks, executed once, their output shown.
nb_custom_formats = {".py": "extensions.examples.read"}
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / "build" / "examples")
nb_execution_in_temp = True
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False
autosummary_context = {"top_level": hfnumba.__all__, "hidden": names.HIDDEN}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "hfnumba"
# Options such as --resume stay as they are typed.
smartquotes = False
html_static_path = ["static"]
html_css_files = ["site.css"]
# Light or dark as the reader's system is.
html_context = {"default_mode": "auto"}
# The root page is docs/index.html.
html_extra_path = ["root"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {page: [] for page in ("README", "docs/index", "docs/start", "docs/choosing")}
html_theme_options = {
    "header_links_before_dropdown": 10,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_nav_level": 1,
    "secondary_sidebar_items": {"**": ["page-toc"], "docs/index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# `make docs-links` asks the addresses of other sites; those of this machine, in examples of output, are left out.
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1)"]
linkcheck_anchors = False
linkcheck_timeout = 30
