"""How every figure looks: colors, text and axes, empty figures, legends; read this to change all of them at once."""

from __future__ import annotations

import io
import re
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from steercpp.aliases import Floats
from steercpp.encoding import visible
from steercpp.reports.svg import name_titled, with_titles

# Of the colors that Okabe and Ito chose so that people with any color vision tell them apart.
BLUE, ORANGE, LEAF, VIOLET = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
GREEN, GREY, INK, PALE, LINE = "#e9f2e9", "#8c949c", "#30363d", "#c9d6df", "#e6e8eb"
CSS_COLORS = {  # what a page has for them, which its dark mode changes
    BLUE: "var(--blue)", ORANGE: "var(--orange)", LEAF: "var(--leaf)", VIOLET: "var(--violet)", GREEN: "var(--band)",
    GREY: "var(--grey)", INK: "var(--ink)", PALE: "var(--pale)", LINE: "var(--line)", "#ffffff": "var(--page)",
}  # fmt: skip
DIVERGING = LinearSegmentedColormap.from_list("diverging", [ORANGE, "#f6f7f8", BLUE])  # of heat maps, -1 to 1
DASHED = (0, (4, 3))
LONGEST_LINE = 160  # letters
_HYPHEN = re.compile(r"(?<![\w.)\]:/=-])-(?=\.?[0-9])")  # a sign: before a number, behind no word
BELOW_PT = 38  # from the axes to a legend: the ticks' and the axis' labels are between them
LEGEND_PT = 9
STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"], "font.size": 10, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": LEGEND_PT,
    "svg.hashsalt": "steercpp", "svg.fonttype": "none", "pdf.fonttype": 42,  # text, not outlines
    "text.parse_math": False,  # names hold $ as it is
    "figure.dpi": 100, "savefig.dpi": 160,
}  # fmt: skip


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as a "png", "svg" or "pdf" file, without date or version: the same figure gives the same bytes."""
    data = io.BytesIO()
    undated: dict[str, dict[str, Any]] = {
        "svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None}
    }  # fmt: skip
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text("\n".join(map(_line, text.get_text().split("\n"))))
    titles = name_titled(figure) if kind == "svg" else {}
    titles = {name: tuple(map(true_minus, of_points)) for name, of_points in titles.items()}
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format=kind, metadata=undated[kind])
    return with_titles(data.getvalue(), titles)


def true_minus(text: str) -> str:
    """A text with true minus signs before its numbers, as the axes have them; hyphens in words and ranges stay.

    >>> true_minus("B -0.25 at layers 5-6")
    'B −0.25 at layers 5-6'
    """
    return _HYPHEN.sub("−", str(text)) if not isinstance(text, Markup) else text


def _line(line: str) -> str:
    """A line of a figure's text: names may hold what no picture can, and be longer than one is wide."""
    shown = true_minus(visible(line))
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: LONGEST_LINE - 1]}…"


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, whose parts are laid out so that they do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, and room for a legend below them."""
    figure = blank_figure(7.2, 5.2)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def legend_below(figure: Figure, axes: Axes, *, ncols: int = 3) -> None:
    """A legend under the axes' label, where it covers nothing; what was measured comes before what was fitted to it."""
    handles, labels = axes.get_legend_handles_labels()
    fitted = ["fit," in label or label.startswith(("recommended", "candidate")) for label in labels]
    order = sorted(range(len(labels)), key=lambda i: (fitted[i], not isinstance(handles[i], ErrorbarContainer)))
    place = axes.transAxes + ScaledTranslation(0, -BELOW_PT / 72, figure.dpi_scale_trans)
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], ncols=ncols, loc="upper left", borderaxespad=0,
        bbox_to_anchor=(0, 0), bbox_transform=place, columnspacing=1.5,
    )  # fmt: skip


def heat_map(axes: Axes, values: Floats, *, aspect: Literal["equal", "auto"] = "equal") -> AxesImage:
    """Values of -1 to 1 as colored cells, without lines around them."""
    image = axes.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect=aspect)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def dodged(s: Floats, i: int, n: int) -> Floats:
    """Strengths (n_s,) moved a little, so that the bars of series i of n stand beside those of the others."""
    gap = max(float(np.diff(np.sort(s)).min()), float(np.ptp(s)) / 20) if len(s) > 1 else 1.0
    return np.asarray(s + (i - (n - 1) / 2) * 0.14 * gap)
