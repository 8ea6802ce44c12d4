"""Windows of consecutive layers, from texts like "1,3" or "8-15"; read this for which bands a scan steers at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from steercpp.errors import LayerError

Window: TypeAlias = tuple[int, ...]

_PART = re.compile(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?")


def windows_of(width: int, layers: Sequence[int]) -> tuple[Window, ...]:
    """Every window of so many consecutive layers, lowest first.

    Args:
        width: layers in a window.
        layers: those that may be steered, ascending; a window does not reach over a gap.

    Raises:
        LayerError: the width is below 1, or there is no such window.
    """
    if width < 1:
        raise LayerError(f"a window of {width} layers holds none; windows are 1 layer wide at least")
    allowed = set(layers)
    starts = [il for il in layers if all(il + k in allowed for k in range(width))]
    if not starts:
        shown = format_layers(layers) if layers else "none"
        raise LayerError(
            f"windows of {width} layers do not fit into layers {shown}; use narrower ones or name more layers"
        )
    return tuple(tuple(range(il, il + width)) for il in starts)


def parse_windows(text: str, layers: Sequence[int], band: Sequence[int]) -> tuple[Window, ...]:
    """Windows from widths and ranges: "1,3" is every layer and every 3 layers, "8-15" those layers alone.

    Args:
        text: parts joined by commas: a width, an inclusive range, or "default" for the default band.
        layers: those that may be steered, ascending.
        band: the default band.

    Returns:
        each window once, ordered by first layer, then by width.

    Raises:
        LayerError: anything else, or a window that is not within the layers.
    """
    windows: set[Window] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if part.strip() == "default":
            windows.add(_within(tuple(band), layers, text))
        elif match is None:
            raise LayerError(
                f"`windows={text}`: {part.strip()!r} is neither a width, nor a range of layers, nor default; "
                'write like "1,3" or "8-15"'
            )
        elif match[2] is None:
            windows.update(windows_of(int(match[1]), layers))
        else:
            first, last = int(match[1]), int(match[2])
            if first > last:
                raise LayerError(f"`windows={text}`: {first}-{last} runs backwards; write {last}-{first}")
            if missing := [il for il in (first, last) if il not in layers]:
                raise LayerError(f"`windows={text}`: layer {missing[0]} is not among layers {format_layers(layers)}")
            windows.add(_within(tuple(range(first, last + 1)), layers, text))
    return tuple(sorted(windows, key=lambda window: (window[0], len(window))))


def _within(window: Window, layers: Sequence[int], text: str) -> Window:
    if outside := sorted(set(window) - set(layers)):
        raise LayerError(
            f"`windows={text}`: layer {outside[0]} is not among layers {format_layers(layers)}; "
            "name others or widen `layers`"
        )
    return window


def default_layers(n_layer: int) -> tuple[int, ...]:
    """The bands of the paper: layers 8..15 of 40 blocks; otherwise round(0.31 n)..round(0.44 n), its 10..14 of 32.

    Raises:
        LayerError: fewer than 2 blocks, of which llama.cpp could steer none.
    """
    if n_layer < 2:
        raise LayerError(f"a model of {n_layer} block has no layer that llama.cpp can steer; use a deeper model")
    first, last = (8, 15) if n_layer == 40 else (round(0.31 * n_layer), round(0.44 * n_layer))
    return tuple(range(first, last + 1))


def parse_layers(text: str, n_layer: int) -> tuple[int, ...]:
    """Layers from a text like "8-15,20": numbers and inclusive ranges; "all" is 1..n_layer-1.

    Raises:
        LayerError: anything else, a range that runs backwards, or a layer outside 0..n_layer-1.
    """
    if text.strip() == "all":
        return tuple(range(1, n_layer))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?", part)
        if match is None:
            raise LayerError(f'`layers={text}`: {part.strip()!r} is not a layer or a range; write like "8-15,20"')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise LayerError(f"`layers={text}`: {first}-{last} runs backwards; write {last}-{first}")
        if last >= n_layer:
            raise LayerError(f"`layers={text}`: there is no layer {last}; the model has layers 0..{n_layer - 1}")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def format_layers(layers: Iterable[int]) -> str:
    """Layers as `parse_layers` reads them back: "8-15,20"."""
    ranges: list[list[int]] = []
    for il in sorted(layers):
        if ranges and il == ranges[-1][-1] + 1:
            ranges[-1].append(il)
        else:
            ranges.append([il])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ranges)
