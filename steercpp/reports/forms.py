"""The forms of a page, HTML, Markdown and PDF, and the kinds of files of its figures: what every page shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steercpp.choices import PAGE_FORMS, PageForm
from steercpp.errors import InputError
from steercpp.reports.templates import rendered_page

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


def check_form(form: str) -> None:
    """Refuse what is no form of a page.

    Raises:
        InputError: it is unknown.
    """
    if form not in PAGE_FORMS:
        raise InputError(f"a page in the form {form!r} is unknown; choose one of {', '.join(PAGE_FORMS)}")


def figure_files(figures: Mapping[str, Figure], kinds: Sequence[str]) -> dict[str, bytes]:
    """Files of figures by their names, of each the kinds that are asked for and SVG, which pages show."""
    from steercpp.reports.style import rendered

    return {
        f"{name}.{kind}": rendered(figure, kind)
        for name, figure in figures.items()
        for kind in dict.fromkeys((*kinds, "svg"))
    }


def in_form(
    form: PageForm,
    template: str,
    files: Mapping[str, bytes],
    captions: Mapping[str, str],
    content: Callable[[Mapping[str, Markup], bool], Mapping[str, Any]],
) -> bytes:
    """A page in one of its forms.

    Args:
        form: which.
        template: its name without an ending.
        files: of figures, as `figure_files` gives them.
        captions: of figures, by their names; those whose SVG is among the files are on the page, in the files' order.
        content: what the page says, made of the drawings by name, and of whether it is for paper.

    Raises:
        InputError: a PDF, and WeasyPrint is not installed.
    """
    from steercpp.reports.paper import pdf_bytes, picture
    from steercpp.reports.style import CSS_COLORS
    from steercpp.reports.svg import inline

    svgs = {name.removesuffix(".svg"): data for name, data in files.items() if name.endswith(".svg")}
    if form == "pdf":
        pictures = {name: picture(svg, captions[name]) for name, svg in svgs.items()}
        return pdf_bytes(rendered_page(f"{template}.html", content(pictures, True)))
    inlined = {name: inline(svg, name, captions[name], CSS_COLORS) for name, svg in svgs.items()}
    return rendered_page(f"{template}.{form}", content(inlined, False)).encode()
