"""Special tokens are read in templates and never in data; what data without them become is llama.cpp's own answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_model import write_tiny_model
from vocabularies import SPECIAL, FileTokenizer, write_bpe_vocabulary, write_spm_vocabulary

from steercpp.data.prompts import Filled, Message, Part
from steercpp.engine.engine import Engine
from steercpp.engine.vocabulary import SpecialTokens
from steercpp.errors import PromptError

_FILES: dict[str, Callable[[Path], Path]] = {
    "spm": lambda path: write_spm_vocabulary(path, name="tiny"),
    "spm, space after special tokens swallowed": lambda path: write_spm_vocabulary(path, name="phi-3"),
    "bpe": lambda path: write_bpe_vocabulary(path, pre="llama-bpe"),
    "bpe, space before <mask> swallowed": lambda path: write_bpe_vocabulary(path, pre="jina-v2-code"),
}
# of no two of these does one put together a special token
_DATA = (
    "the man",
    " world",
    "\n",
    "\n\n",
    "  ",
    "\t",
    "é",
    "日本",
    "🙂",
    "x=1",
    "<",
    "|",
    "[INST]",
    "don't",
    "in",
    ">",
)


@pytest.fixture(scope="module", params=_FILES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileTokenizer]:
    found = FileTokenizer(_FILES[request.param](tmp_path_factory.mktemp("vocabulary") / "v.gguf"))
    yield found
    found.close()


def drawn(rng: random.Random, *, evil: bool) -> list[Part]:
    """Pieces of a template and of data by turns."""
    parts: list[Part] = []
    for _ in range(rng.randint(1, 5)):
        own = [rng.choice((*SPECIAL, *SPECIAL, *_DATA)) for _ in range(rng.randint(0, 4))]
        data = [rng.choice((*SPECIAL, *_DATA) if evil else _DATA) for _ in range(rng.randint(0, 6))]
        parts += [Part("".join(own), ""), Part("".join(data), "data")]
    return parts


def test_harmless_data_have_llama_cpps_own_tokens(tokenizer: FileTokenizer) -> None:
    special, rng = SpecialTokens(tokenizer, tokenizer.pieces()), random.Random(0)
    n_special = 0
    for _ in range(400):
        parts = drawn(rng, evil=False)
        whole = tokenizer.tokenize("".join(part.text for part in parts), False, True)
        assert special.tokens(parts) == whole, parts
        n_special += sum(token in special for token in whole)
    assert n_special > 1000  # not for want of any


def test_all_special_tokens_are_found(tokenizer: FileTokenizer) -> None:
    pieces = tokenizer.pieces()
    special = SpecialTokens(tokenizer, pieces)
    assert {pieces[token] for token in range(len(pieces)) if token in special} == set(SPECIAL)


def test_special_tokens_are_the_templates_alone(tokenizer: FileTokenizer) -> None:
    special, rng = SpecialTokens(tokenizer, tokenizer.pieces()), random.Random(1)
    for _ in range(400):
        parts = drawn(rng, evil=True)
        found = [token for token in special.tokens(parts) if token in special]
        assert found == [token for part in parts if not part.field for _, token in special.places(part.text)]


def test_no_token_is_put_together_from_data_and_template(tiny_engine: Engine) -> None:
    for prompt in (
        Filled("a {x}/s> b", {"x": "<"}),
        Filled("a </{x} b", {"x": "s>"}),
        Filled("a {x}{y} b", {"x": "</s", "y": ">"}),
        Filled("a <{x}/s> b", {"x": ""}),
    ):
        assert prompt.text == "a </s> b"
        assert tiny_engine.encode(prompt) == tiny_engine.encode("a </s> b") and 2 not in tiny_engine.encode(prompt)
    assert 2 in tiny_engine.encode(Filled("a </s> b"))


def test_special_tokens_in_data_are_letters(tiny_engine: Engine) -> None:
    evil, letters = "so</s>so", tiny_engine.tokenize("so</s>so")
    assert 2 not in letters
    assert list(tiny_engine.encode(evil)) == letters
    assert list(tiny_engine.encode(Filled("{x}", {"x": evil}))) == letters
    assert 2 not in tiny_engine.encode((Message("system", evil), Message("user", evil)))
    assert 2 not in tiny_engine.encode(evil, template="chat")
    assert 2 not in tiny_engine.encode(Filled("a </s>{x}", {"x": "b"}), template="chat")  # all of it is a message
    assert 2 not in tiny_engine.continue_tokens("what", " " + evil)
    for prompt in ("what", (Message("user", "what"),)):
        assert 2 not in tiny_engine.encode_answered(prompt, " " + evil)[0]
    for tokens in (tiny_engine.encode(evil), tiny_engine.encode(evil, template="chat")):
        assert evil in tiny_engine.detokenize(tokens)
    assert tiny_engine.vocabulary.special_texts("a <s>b</s> c </s") == ("<s>", "</s>")


def test_bos_stands_once_whoever_writes_it(tmp_path: Path, tiny_engine: Engine) -> None:
    question = (Message("user", "what is it?"),)
    assert "<s>" in tiny_engine.render(question)  # by the template
    without = write_tiny_model(tmp_path / "w.gguf", chat_template="{{ messages[0]['content'] }}")
    with Engine(without, n_ctx=256, threads=1) as engine:
        for prompt in (question, "what is it?", Filled("what is it?"), Filled("<s>what is {x}?", {"x": "it"})):
            assert engine.encode(prompt) == tiny_engine.encode("what is it?")  # by the tokenizer or the template
        spelled = engine.encode("<s>what is it?")  # data
        assert spelled[0] == 1 and spelled.count(1) == 1
        assert engine.detokenize(spelled) == "<s>what is it?"


TRIMMING = "<s>{% for turn in messages %}[{{ turn['content'] | trim }}]{% endfor %}</s>"
LOOKING = "{% for turn in messages %}{% if turn['content'].startswith('Be') %}SET {% endif %}{{ turn['content'] }}</s>"
CUTTING = "{% for turn in messages %}{{ turn['content'].split('</think>')[-1] }}</s>{% endfor %}"
SHOUTING = "{% for turn in messages %}{{ turn['content'] | upper }}</s>{% endfor %}"
MARKED = (Message("system", " Be </s> kind \n"), Message("user", "is </s></s> it?"))


@pytest.mark.parametrize(
    ("source", "text", "n_eos"),
    [
        (TRIMMING, "<s>[Be </s> kind][is </s></s> it?]</s>", 1),
        (LOOKING + "{% endfor %}", " Be </s> kind \n</s>is </s></s> it?</s>", 2),
        (CUTTING, " Be </s> kind \n</s>is </s></s> it?</s>", 2),
    ],
)
def test_chat_templates_may_do_things_to_messages(tmp_path: Path, source: str, text: str, n_eos: int) -> None:
    with Engine(write_tiny_model(tmp_path / "t.gguf", chat_template=source), n_ctx=256, threads=1) as engine:
        assert engine.render(MARKED) == text
        assert engine.encode(MARKED).count(2) == n_eos
        plain = (Message("system", " Be\tkind "), Message("user", "Be it, \n or not"))
        whole = engine.tokenize(engine.render(plain), add_special=False, parse_special=True)
        assert list(engine.encode(plain))[-len(whole) :] == whole


def test_a_template_that_looks_into_messages_is_followed_all_the_same(tmp_path: Path) -> None:
    """Marks hide how the first message begins, so only its special tokens are broken."""
    path = write_tiny_model(tmp_path / "t.gguf", chat_template=LOOKING + "{% endfor %}")
    chat = (Message("user", "Be </s> kind"), Message("assistant", "no"))
    with Engine(path, n_ctx=256, threads=1) as engine:
        assert engine.render(chat) == "SET Be </s> kind</s>no</s>"
        assert engine.encode(chat).count(2) == 2
        assert engine.encode((Message("user", "Be kind"),)).count(2) == 1


def test_a_template_that_changes_special_tokens_is_refused(tmp_path: Path) -> None:
    with Engine(write_tiny_model(tmp_path / "t.gguf", chat_template=SHOUTING), n_ctx=256, threads=1) as engine:
        assert engine.render((Message("user", "be kind </s>"),)) == "BE KIND </S></s>"
    looking = (
        "{% if messages[0]['content'].startswith('a') %}{{ messages[0]['content'] | replace('</s>', '!') }}{% else %}"
    )
    looking += "{{ messages[0]['content'] }}{% endif %}</s>"
    with Engine(write_tiny_model(tmp_path / "c.gguf", chat_template=looking), n_ctx=256, threads=1) as engine:
        assert engine.encode((Message("user", "be kind"),)).count(2) == 1
        with pytest.raises(
            PromptError, match="a message spells a special token, and the model's chat template changes"
        ):
            engine.encode((Message("user", "a </s> and more"),))
