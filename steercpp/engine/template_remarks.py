"""What is unusual about a model's chat template, in sentences; read this for what the doctor says of one.

Nothing here keeps a template from doing harm: template_environment.py does. A template is code of whoever made the
file, and a user may want to know what that code is about before it writes the prompts of a measurement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jinja2 import nodes

from steercpp.data.prompts import Message
from steercpp.engine.compiled_template import compile_template, parsed
from steercpp.engine.template_functions import OFFERED
from steercpp.errors import SteerError

if TYPE_CHECKING:
    from steercpp.engine.vocabulary import Vocabulary

LONG_SOURCE = 25_000  # characters; the longest of llama.cpp's own collection has 17,000
LONG_TEXT = 10_000  # characters around two short messages; date and tools of the longest known take 3,000
_CHATS = (
    (Message("system", "Answer in one word."), Message("user", "What is the capital of France?")),
    (Message("user", "What is the capital of France?"),),
)
_SPECIAL = re.compile(r"<\|[^<>|\s]+\|>|<(?:bos|eos|start_of_turn|end_of_turn|im_start|im_end)>|\[/?INST\]")
_IN_FORMAT = re.compile(r"\{[^{}]*[.\[][^{}]*\}")


def template_remarks(vocabulary: Vocabulary) -> tuple[str, ...]:
    """What a model's chat template does that others do not; () where that is nothing, or it has none.

    Args:
        vocabulary: the model's.

    >>> from steercpp.engine.engine import Engine
    >>> with Engine("model.gguf") as engine:  # doctest: +SKIP
    ...     template_remarks(engine.vocabulary)
    ("it loops over `range(99999)`, not over messages",)
    """
    source = vocabulary.chat_template
    if source is None:
        return ()
    try:
        tree = parsed(source)
        compile_template(source)  # some faults are found by compiling alone
    except SteerError as error:
        return (str(error),)
    remarks = [*_of_size(source), *_of_code(tree), *_of_special_texts(source, vocabulary), *_of_chats(vocabulary)]
    return tuple(dict.fromkeys(remarks))


def _of_size(source: str) -> Iterator[str]:
    if len(source) > LONG_SOURCE:
        yield f"it has {len(source):,} characters"


def _of_code(tree: nodes.Template) -> Iterator[str]:
    names = set(OFFERED) | {node.name for node in tree.find_all(nodes.Macro)} | {"loop", "caller", "super"}
    set_names = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    for other in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield f"it reads another template ({type(other).__name__.lower()}), and there is none: it cannot be used"
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Const)):
        if hidden := _hidden(node):
            yield f"it looks for {hidden!r}, an inside of Python's objects: an attempt to leave the sandbox"
    for filter_ in tree.find_all(nodes.Filter):
        first = filter_.args[0] if filter_.args else None
        if filter_.name == "attr" or (
            filter_.name == "map" and isinstance(first, nodes.Const) and first.value in ("attr", "format")
        ):
            yield f"it takes attributes by the filter {filter_.name!r}"
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name not in names | set_names:
            yield f"it calls {call.node.name!r}, which chat templates are not given"
        elif isinstance(call.node, nodes.Getattr) and call.node.attr in ("format", "format_map"):
            yield f"it formats a text by its method {call.node.attr!r}"
    for loop in tree.find_all(nodes.For):
        values = loop.iter
        if isinstance(values, nodes.Call) and isinstance(values.node, nodes.Name) and values.node.name == "range":
            stops = ", ".join(str(arg.value) if isinstance(arg, nodes.Const) else "…" for arg in values.args)
            yield f"it loops over range({stops}), not over messages"


def _hidden(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr if node.attr.startswith("_") else None
    if isinstance(node, nodes.Getitem):
        node = node.arg
        name = node.value if isinstance(node, nodes.Const) else None
        return name if isinstance(name, str) and name.startswith("_") else None
    text = node.value if isinstance(node, nodes.Const) else None
    if not isinstance(text, str) or len(text) > 1000:
        return None
    if re.fullmatch(r"__\w+__", text) or (_IN_FORMAT.search(text) and "__" in text):
        return text
    return None


def _of_special_texts(source: str, vocabulary: Vocabulary) -> Iterator[str]:
    """Special tokens of other models, which are letters to this one."""
    pieces = set(vocabulary.pieces)
    foreign = [text for text in dict.fromkeys(_SPECIAL.findall(source)) if text not in pieces and text[0] == "<"]
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        yield f"it spells {', '.join(foreign[:5])}{more}: no tokens of this model, so they are read letter by letter"


def _of_chats(vocabulary: Vocabulary) -> Iterator[str]:
    """How it writes a short chat."""
    for chat in _CHATS:
        try:
            n_chars = len(vocabulary.render(chat))
        except SteerError as error:
            yield f"of a chat of {' and '.join(message.role for message in chat)}: {error}"
            continue
        n_own = n_chars - sum(len(message.content) for message in chat)
        if n_own > LONG_TEXT:
            yield f"it writes {n_own:,} characters of its own into a chat of two short messages"
    try:
        yield from vocabulary.chat_notes((chat, "auto") for chat in _CHATS)
    except SteerError:
        return  # said above
