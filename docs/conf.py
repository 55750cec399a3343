"""Sphinx's settings of the site: ``make site``. Every page also reads as it is, without Sphinx."""

import tomllib
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config", "docs"}  # beside each other, so that links hold

project = "nstm"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
language = "en_GB"

extensions = ["myst_parser"]
root_doc = "docs/index"
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in PAGES]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a page may begin below the first level

html_theme = "furo"
html_title = f"nstm {version}"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = False
html_math_renderer = "mathml"


def equation(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """An equation as MathML, which browsers show without a script; an equation that cannot be told is an error."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Equations need no script of another server."""
    app.add_html_math_renderer("mathml", (equation, None), (equation, None))
