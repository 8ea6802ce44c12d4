"""What becomes of a figure's SVG: every point has a title, and a page can hold the drawing itself.

    points = axes.plot(strengths, means, "o")
    title_points(points[0], ["+0.02: B +0.59", ...])      # shown where the pointer rests, read by screen readers
    inline(rendered(figure, "svg"), "alignment", label)   # an <svg> element in the page's own colors and type

matplotlib draws the markers of a line as one `<use>` element for each of its points, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from steercpp.encoding import visible

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REACH = "6"  # radius around a point in which its title shows
_TITLES: WeakKeyDictionary[Artist, tuple[str, ...]] = WeakKeyDictionary()


def title_points(artist: Artist, titles: Sequence[str]) -> None:
    """Give the points of a line, or one patch, titles for SVG.

    Args:
        artist: a line with markers, or a patch.
        titles: one for each point of the line, in their order, points that are not finite included; of a patch one.
    """
    _TITLES[artist] = tuple(titles)


def name_titled(figure: Figure) -> dict[str, tuple[str, ...]]:
    """Name everything in a figure that has titles, before it is drawn; the titles of what is drawn, by that name."""
    titles: dict[str, tuple[str, ...]] = {}
    for artist in figure.findobj(lambda artist: artist in _TITLES):
        of_points = _TITLES[artist]
        if isinstance(artist, Line2D):
            is_drawn = np.isfinite(np.asarray(artist.get_xydata())).all(axis=1)
            of_points = tuple(title for title, is_one in zip(of_points, is_drawn, strict=True) if is_one)
        if of_points:
            name = f"titled-{len(titles)}"
            artist.set_gid(name)
            titles[name] = of_points
    return titles


def with_titles(svg: bytes, titles: Mapping[str, Sequence[str]]) -> bytes:
    """An SVG file with titles on its points.

    Args:
        svg: as matplotlib writes it.
        titles: of points, by the name of their group; see `name_titled`.
    """
    if not titles:
        return svg
    root = _parsed(svg)
    groups = {group.get("id"): group for group in root.iter(f"{{{SVG}}}g")}
    for name, of_points in titles.items():
        group = groups[name]
        markers = [(parent, use) for parent in group.iter() for use in parent if use.tag == f"{{{SVG}}}use"]
        if not markers:  # a patch
            _titled(group, of_points[0])
            continue
        for (parent, use), title in zip(markers, of_points, strict=True):
            place = list(parent).index(use)
            parent.remove(use)
            point = ElementTree.Element(f"{{{SVG}}}g", {"class": "point"})
            _titled(point, title)
            around = {"cx": use.get("x", "0"), "cy": use.get("y", "0"), "r": REACH, "style": "fill: none; stroke: none"}
            ElementTree.SubElement(point, f"{{{SVG}}}circle", {**around, "pointer-events": "all"})
            point.append(use)
            parent.insert(place, point)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def inline(svg: bytes, name: str, label: str, colors: Mapping[str, str]) -> Markup:
    """The `<svg>` element of a drawing for a page of HTML, as wide as its place.

    Args:
        svg: the file.
        name: of the drawing on the page, which sets its ids apart from those of others.
        label: what it shows, for those who do not see it.
        colors: hexadecimal colors of the drawing, and the CSS that the page has for each.
    """
    root = _parsed(svg)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "group", "aria-label": label}
    for element in root.iter():  # attributes alone: a title may hold what looks like one
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key == f"{{{XLINK}}}href":
                element.set(key, value.replace("#", f"#{name}-", 1))
            elif key != "aria-label":
                value = re.sub(r"url\(#", f"url(#{name}-", value)
                value = re.sub(r"#[0-9a-f]{6}\b", lambda color: colors.get(color[0], color[0]), value)
                element.set(key, re.sub(r"font-family: [^;]*;?", "", value))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _titled(element: ElementTree.Element, title: str) -> None:
    """Give an element a title of its own."""
    of_element = ElementTree.Element(f"{{{SVG}}}title")
    of_element.text = title = visible(title)
    element.insert(0, of_element)
    element.attrib |= {"role": "img", "aria-label": title}


def _parsed(svg: bytes) -> ElementTree.Element:
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.fromstring(svg)
