"""A page as a PDF, by WeasyPrint, which is an extra: `pip install "steercpp[pdf]"`."""

from __future__ import annotations

import base64

from markupsafe import Markup

from steercpp.errors import InputError

NEEDS = (
    'a PDF needs WeasyPrint: run pip install "steercpp[pdf]", on macOS also brew install pango; or choose another form'
)


def pdf_bytes(html: str) -> bytes:
    """A page of HTML that holds all it shows as a PDF.

    Raises:
        InputError: WeasyPrint or its libraries are not installed.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # the latter without pango
        raise InputError(NEEDS) from error
    held = URLFetcher(allowed_protocols=("data",))  # nothing but what the page itself holds
    return bytes(HTML(string=html, url_fetcher=held).write_pdf())


def picture(svg: bytes, label: str) -> Markup:
    """A drawing as an `<img>` element in its own colors."""
    data = base64.b64encode(svg).decode()
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}">').format(data, label)
