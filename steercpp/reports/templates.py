"""Pages from their templates in pages/: HTML, which escapes what it shows, and Markdown, which does so by filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from steercpp.encoding import visible
from steercpp.reports.style import true_minus

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")  # what Markdown would take for its own


def rendered_page(name: str, values: Mapping[str, Any]) -> str:
    """A page.

    Args:
        name: of a template; what ends with .html escapes all that is not markup.
        values: what it shows, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("steercpp.reports", "pages"),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(minus=true_minus, plain=_plain, plain_piece=_plain_piece, code=_code)
    page = environment.get_template(name).render(values)
    return re.sub(r"\n{3,}", "\n\n", page).lstrip() if name.endswith(".md") else page


def _shown(value: Any) -> Any:
    """What stands on a page: of texts that are not markup nothing hides."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _plain(text: object) -> str:
    """Text for one line of Markdown, in which nothing is markup."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _plain_piece(text: str) -> str:
    """The same for a piece of a text, with the gaps at its ends."""
    head, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{' ' if head else ''}{_plain(text)}{' ' if tail and text.strip() else ''}"


def _code(text: str) -> str:
    """Text as a block of code, whatever it holds."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
