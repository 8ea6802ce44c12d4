"""Sphinx builds these pages as a site: `make docs`, then open build/docs/index.html. _toc.yml holds the sidebar."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from textwrap import dedent

import click
import cloup
from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx
from sphinx_click.ext import _format_option as option_lines

project = "steercpp"
author = "steercpp contributors"
copyright = "steercpp contributors, MIT"
release = version = version_of("steercpp")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_external_toc",
]
exclude_patterns = ["_toc.yml"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of numpy and of the library's inner modules have no page

html_theme = "furo"
html_title = "steercpp"
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_exclude = ".linenos, .gp, .go"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # GitHub's anchors

default_role = "code"  # docstrings and help write `name`
smartquotes = False  # two hyphens begin an option
highlight_language = "none"  # indented blocks are commands and their output
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes_style")]


def literal(text: str) -> str:
    """The text with what reStructuredText would read as markup escaped; `code` stays."""
    return re.sub(r"(?<!`)([*|_\\])", r"\\\1", text)


def show_example(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """A command's help: its paragraphs as text, its example, which click sets apart, as a block of code."""
    paragraphs = [literal(line) for line in lines if not line.startswith("| ")]
    example = [line.removeprefix("| ") for line in lines if line.startswith("| ")]
    lines[:] = [*paragraphs, ""]
    if example:
        commands = dedent(" " * len("Example: ") + example[0].removeprefix("Example: ") + "\n" + "\n".join(example[1:]))
        lines += [".. code-block:: none", "", *(f"   {line}" for line in commands.splitlines()), ""]


def group_options(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Options of a command under the headings that its --help has."""
    options = [param for param in ctx.command.params if isinstance(param, click.Option) and not param.hidden]
    groups: list[tuple[str, str, list[click.Option]]] = []
    if isinstance(ctx.command, cloup.Command):
        groups = [(group.title, str(group.help or ""), list(group.options)) for group in ctx.command.option_groups]
        grouped = {option.name for _, _, members in groups for option in members}
        options = [option for option in options if option.name not in grouped]
    groups.append(("Output" if groups else "", "", options))
    lines.clear()
    for title, purpose, members in groups:
        lines += [f"**{title}.** {purpose}", ""] if title else []
        for option in members:
            head, *rest = option_lines(ctx, option)
            lines += [head, *(literal(line) for line in rest), ""]


def keep_bars(app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]) -> None:
    """In reStructuredText |d| would name a text to put there; in our docstrings it is a length."""
    lines[:] = [re.sub(r"\|(?=\S[^|]*\|)", r"\|", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect what the extensions leave to a project."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("autodoc-process-docstring", keep_bars, priority=900)  # after napoleon
    app.connect("sphinx-click-process-description", show_example)
    app.connect("sphinx-click-process-options", group_options)
