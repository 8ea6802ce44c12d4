"""Where presets of studies are found: those in the package by name, and files of a user's own."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from steercpp.errors import PresetError
from steercpp.experiments.study.preset import Preset, parse_preset

ENDING = ".toml"


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package, such as "wolf2024/mmlu"."""
    root = _root()
    return tuple(sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob(f"*{ENDING}")))


def load_preset(name: str) -> Preset:
    """A preset by its name in the package, or from a file of one's own, which ends in .toml.

    Raises:
        PresetError: no such preset (near names are offered), the file cannot be read, or it is malformed.
    """
    own = name.endswith(ENDING)
    if not own and name not in preset_names():
        near = get_close_matches(name, [*preset_names(), *(each.partition("/")[2] for each in preset_names())], n=1)
        full = next((each for each in preset_names() if near and near[0] in (each, each.partition("/")[2])), "")
        advice = f"did you mean {full}?" if full else f"use one of {', '.join(preset_names())}, or a {ENDING} file"
        raise PresetError(f"preset {name!r} is unknown; {advice}")
    path = Path(name) if own else _root() / f"{name}{ENDING}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PresetError(f"{path}: cannot be read ({reason}); check the path of the preset") from error
    return parse_preset(text, name=path.stem if own else name, place=str(path) if own else name)


def with_included(preset: Preset) -> tuple[Preset, ...]:
    """The presets that a study consists of: those it includes, in their order, then itself if it has runs.

    Raises:
        PresetError: one is unknown or malformed, or includes itself.
    """
    found: dict[str, Preset] = {}

    def visit(one: Preset, above: tuple[str, ...]) -> None:
        if one.name in above:
            raise PresetError(f"{one.name}: includes itself; take it out of include")
        for name in one.include:
            visit(load_preset(name), (*above, one.name))
        if one.runs:
            found.setdefault(one.name, one)

    visit(preset, ())
    return tuple(found.values())


def _root() -> Path:
    return Path(__file__).parent / "presets"
