"""Texts to calibrate on, as tokens: a text file, contrast pairs, behavior items, choice items."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from steercpp.aliases import Tokens
from steercpp.data.items import Item, choice_form_of, named, prompt_of
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Prompt, Template
from steercpp.engine.engine import Engine
from steercpp.errors import ContextOverflowError, InputError, PromptError
from steercpp.inputs import read_input

_WINDOW = 512  # tokens


def file_texts(engine: Engine, path: Path | str) -> list[Tokens]:
    """A text file, cut every 512 tokens (or the context, if that is less), each piece begun as the model begins texts.

    Raises:
        InputError: it cannot be read, is not UTF-8 or holds nothing.
    """
    try:
        words = read_input(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; convert the file first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    if not words.strip():
        raise InputError(f"{path}: holds no text; give it some")
    tokens = _encoded(engine, str(path), words, template="raw", most=None)
    head = tokens[:1] if tokens[0] == engine.bos else ()
    size = min(_WINDOW, engine.n_ctx) - len(head)
    if size < 1:
        raise InputError(f"{path}: a context of {engine.n_ctx} token holds none of it; raise `n_ctx`")
    return [head + tokens[first : first + size] for first in range(len(head), len(tokens), size)]


def pair_texts(engine: Engine, pairs: Iterable[ContrastPair], *, template: Template = "auto") -> list[Tokens]:
    """Both prompts of every pair, each with its answer.

    Raises:
        PairsError, PromptError, ContextOverflowError: a pair that cannot be used, with its place or id.
    """
    return [
        _encoded(engine, f"{pair.where}: {side} prompt", prompt, answer, template=template, most=engine.n_ctx)
        for pair in pairs
        for side, prompt, answer in pair.sides
    ]


def item_texts(engine: Engine, items: Iterable[Item]) -> list[Tokens]:
    """The prompts of task items, as a sweep gives them to the model.

    Raises:
        PromptError, ContextOverflowError: an item that cannot be used, by its name.
    """
    items, texts = tuple(items), []
    form = choice_form_of(items, engine.vocabulary.writes)
    for item in items:
        prompt, template, _ = prompt_of(item, form)
        texts.append(_encoded(engine, named(item), prompt, template=template, most=engine.n_ctx))
    return texts


def _encoded(
    engine: Engine, place: str, prompt: Prompt, answer: str = "", *, template: Template, most: int | None
) -> Tokens:
    try:
        tokens, _ = engine.encode_answered(prompt, answer, template=template)
    except PromptError as error:
        raise type(error)(f"{place}: {error}") from error
    if most is not None and len(tokens) > most:
        raise ContextOverflowError(
            f"{place}: {len(tokens)} tokens, the context holds {most}; shorten it or raise `n_ctx`"
        )
    return tokens
