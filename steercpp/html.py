"""Small pieces of HTML for notebooks; read this to change how results look there.

    card("Use strength +0.5", facts([("gain", "+0.41 in B")]), table(("strength", "B"), [("+0.5", "0.61")]))

All text is escaped, whoever wrote it. Colors and type are the notebook's own, so that light and dark both do.
"""

from __future__ import annotations

import html
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from steercpp.encoding import visible

# Who shows a result that is drawn by a room above its own. The names are text, as those of a face, and no import.
SHOWN_BY = {"SweepResult": "steercpp.reports.notebook:run_html"}
_CELL = "padding: 0.15em 0.7em; background: none; vertical-align: top; white-space: pre-wrap"
_FAINT = "opacity: 0.7"


def shown_by(name: str) -> Callable[[Any], str]:
    """What makes the HTML of a class, by its name in `SHOWN_BY`."""
    shows: Callable[[Any], str] = pkgutil.resolve_name(SHOWN_BY[name])
    return shows


def escaped(content: object) -> str:
    r"""A text as HTML shows it: no tags, no control characters, no change of direction.

    >>> escaped("<b>\u202etxt</b>")
    '&lt;b&gt;\\u202etxt&lt;/b&gt;'
    """
    return html.escape(visible(str(content)))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, words: Sequence[bool] = ()) -> str:
    """A table.

    Args:
        headings: of the columns; none for no line of headings.
        rows: cells.
        words: of each column, whether it stands on the left; by default the first does.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        return "".join(
            f'<{tag} style="text-align: {"left" if is_word else "right"}; {_CELL}">{escaped(cell)}</{tag}>'
            for cell, is_word in zip(cells, sides(len(cells)), strict=True)
        )

    def sides(n: int) -> list[bool]:
        return [i < len(words) and words[i] if words else i == 0 for i in range(n)]

    head = f"<thead><tr>{line(headings, 'th')}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<table style="border-collapse: collapse">{head}<tbody>{body}</tbody></table>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Names and what stands behind them; "" without any."""
    known = list(rows)
    return table((), known, words=(True, True)) if known else ""


def note(content: str) -> str:
    """A faint sentence; "" of none."""
    return f'<p style="{_FAINT}; margin: 0.4em 0">{escaped(content)}</p>' if content else ""


def card(title: str, *parts: str) -> str:
    """A result: what matters first, then the parts, which are HTML already."""
    headline = f'<p style="margin: 0.4em 0"><strong>{escaped(title)}</strong></p>'
    return f'<div class="steercpp" style="max-width: 60em">{headline}{"".join(parts)}</div>'
