"""The option that shows prompts as the model gets them, in place of what a command does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.cli.options.controls import Controls
    from steercpp.cli.options.engine import EngineOptions
    from steercpp.cli.options.inputs import Inputs, NamedInputs
    from steercpp.cli.options.pairs import PairOptions
    from steercpp.data.pairs import ContrastPair
    from steercpp.data.prompts import Template
    from steercpp.engine.engine import Engine
    from steercpp.engine.prompt_view import PromptView

USUAL = 2
LONGEST = 2000  # characters of a text and tokens of a prompt that are shown; --json has all
_STYLES = {"template": "", "special": "reverse", "data": "green"}
_MARKS = {"template": ("", ""), "special": ("⟦", "⟧"), "data": ("«", "»")}


def _number(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isdecimal() or not int(value):
        raise click.BadParameter(f"{value!r} is no number of prompts; put the option last, or write --show-prompts=2")
    return int(value)


show_prompts_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--show-prompts",
    "n_shown",
    is_flag=False,
    flag_value=str(USUAL),
    callback=_number,
    metavar="[=N]",
    help="Show the first N prompts of each kind (2) with their tokens, and stop.",
)


def emit_prompts(model: Path, views: Sequence[PromptView], *, as_json: bool) -> None:
    """Print prompts on stdout: with marks, or as one JSON document."""
    data = {"model": model, "prompts": [view.to_json() for view in views]}
    output.emit(data, as_json=as_json, render=lambda: _pieces(views))


def note_chats(engine: Engine, pairs: Iterable[ContrastPair], *, template: Template) -> None:
    """Note what is not as usual in how the first pair's chats are written."""
    if isinstance(pairs, Iterator):  # a look would use its first pair up
        return
    prompts = [(prompt, template) for pair in islice(pairs, 1) for _, prompt, _ in pair.sides]
    for note in engine.vocabulary.chat_notes(prompts):
        output.note(note)


def show_pairs(model: Path | None, pairs: PairOptions, n: int, options: EngineOptions, *, as_json: bool) -> None:
    """Print the prompts of the first n pairs of a command line; without pairs, the embedded model's."""
    from steercpp.engine.prompt_view import pair_views

    source: Iterable[ContrastPair] | None = pairs.source()
    if model is None or source is None:
        from steercpp.data.sets.embedded import load

        embedded = load()
        model, source = model or embedded.path, source or pairs.with_system(embedded.pairs())
    with options.open(model) as engine:
        emit_prompts(model, pair_views(engine, source, template=pairs.template, n=n), as_json=as_json)


def show_inputs(
    named: NamedInputs,
    inputs: Inputs,
    controls: Controls,
    n: int,
    options: EngineOptions,
    *,
    code_template: str = "raw",
    as_json: bool,
) -> None:
    """Print the first n prompts of each kind that a sweep measures, and those of n pairs that it extracts from."""
    from steercpp.engine.prompt_view import item_views, pair_views

    pairs: Iterable[ContrastPair] = ()
    if named.pairs:
        from steercpp.data.sets.names import contrast_pairs

        pairs = contrast_pairs(named.pairs, data=named.items.data)
    elif named.model is None and named.vector is None:
        from steercpp.data.sets.embedded import load

        pairs = load().pairs()
    instruction = controls["instruction"] if controls["prompt_baseline"] else ""
    items = [item for of_kind in inputs.items.values() for item in of_kind]
    with options.open(inputs.model) as engine:
        of_items = item_views(engine, items, n=n, instruction=instruction, code_template=code_template)
        emit_prompts(inputs.model, (*pair_views(engine, pairs, n=n), *of_items), as_json=as_json)


def _pieces(views: Sequence[PromptView]) -> list[output.Renderable]:
    pieces: list[output.Renderable] = []
    for view in views:
        pieces += prompt_pieces(view)
    legend = "⟦special token⟧  «data», in which nothing is read as a special token"
    return [*pieces, output.text(legend, "dim")]


def prompt_pieces(view: PromptView) -> list[output.Renderable]:
    """A prompt as a person sees it, with a blank line below."""
    head = f"{view.kind}  {view.name}" if view.name else view.kind
    tokens = [
        (f"{piece} ", "reverse" if special else "") for piece, special in zip(view.pieces, view.special, strict=True)
    ]
    more = [(f"… {len(tokens) - LONGEST} more", "dim")] if len(tokens) > LONGEST else []
    writers = {"tokenizer": "added by the tokenizer", "template": "written by the template", "": "none"}
    rows: list[tuple[str, output.Cell]] = [
        ("tokens", f"{len(view.tokens)}"),
        ("", output.joined([*_unspaced(tokens[:LONGEST]), *more])),
        ("begin token", writers[view.bos]),
    ]
    if view.spans:
        rows.append(("data", ", ".join(f"{span.field} {span.start}-{span.end}" for span in view.spans)))
    if view.foreign:
        rows.append(("no tokens here", output.text(", ".join(view.foreign), "yellow")))
    rows += [("note", output.text(note, "yellow")) for note in view.notes]
    rows += [(name, "  ".join(json_text(text) for text in texts)) for name, texts in view.scored.items()]
    return [output.text(head, "bold"), output.joined(_marked(view)), output.facts(rows), output.blank()]


def _unspaced(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The style of a token ends with it and not behind its blank."""
    return [cell for piece, style in pieces for cell in ((piece[:-1], style), (" ", ""))]


def json_text(text: str) -> str:
    """A text in quotes, so that its spaces and line breaks are seen."""
    import json

    return json.dumps(text, ensure_ascii=False)


def _marked(view: PromptView) -> list[tuple[str, str]]:
    marked: list[tuple[str, str]] = []
    room = LONGEST
    for text, kind in view.segments:
        before, after = _MARKS[kind]
        if len(text) > room:
            return [
                *marked,
                (before + text[:room], _STYLES[kind]),
                (f" … {len(view.text) - LONGEST} more characters", "dim"),
            ]
        room -= len(text)
        marked.append((before + text + after, _STYLES[kind]))
    return marked
