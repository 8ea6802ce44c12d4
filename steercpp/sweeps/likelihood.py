"""The model as a judge of generated text: ln P of a text asked in words for either side; read this for what is read.

    reader = Reader(prompts_with_the_instruction, prompts_with_its_opposite)
    readings, _ = reader.read(engine, item, [tokens])
    readings[tokens].llr     # ln P(tokens | with the instruction) - ln P(tokens | with its opposite)

Asked means that the instruction opens the user's last message, as in the prompts of contrast pairs: small models hardly
heed a system message, and some templates drop it.

The unsteered model reads the very tokens that were drawn, in the call that drew them, and the reading is committed with
the text. Tokens are not kept: a text that is tokenized again after its prompt may fall into others, drawn ones seldom
being the tokenizer's own, and a stop string is cut off. What follows from readings stands in statistics/likelihoods.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steercpp.aliases import Tokens
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.judging.texts import Reading


def text_nats(engine: Engine, prompt: Tokens, texts: Sequence[Tokens]) -> tuple[dict[Tokens, float], int]:
    """The unsteered log-probability of texts after a prompt.

    Args:
        engine: the model.
        prompt: tokens.
        texts: none of them empty; what they begin with in common is decoded once.

    Returns:
        nats of each text, and the token-layers of a plain loop for them.
    """
    if not texts:
        return {}, 0
    query = Query(prompt, tuple(texts))
    (batch,) = engine.pack([query])
    (nats,) = engine.logprobs(batch)
    return dict(zip(texts, nats.tolist(), strict=True)), query.n_tokens_plain * engine.n_layer


@dataclass(frozen=True, slots=True)
class Reader:
    """Prompts of some items, as tokens, after which their texts are read.

    Attributes:
        with_instruction: each item's prompt, opening with what asks for the behavior.
        with_opposite: the same with what asks for its opposite.
    """

    with_instruction: tuple[Tokens, ...]
    with_opposite: tuple[Tokens, ...]

    def read(self, engine: Engine, item: int, texts: Sequence[Tokens]) -> tuple[dict[Tokens, Reading], int]:
        """Readings of texts of an item.

        Args:
            engine: the model; nothing steers it.
            item: number of the item.
            texts: none of them empty.

        Returns:
            the reading of each, and the token-layers of a plain loop for them.
        """
        return read_texts(engine, *self.asked(item), texts)

    def asked(self, item: int) -> tuple[Tokens, Tokens]:
        """An item's prompts with the instruction, and with its opposite."""
        return self.with_instruction[item], self.with_opposite[item]


def read_texts(
    engine: Engine, with_instruction: Tokens, with_opposite: Tokens, texts: Sequence[Tokens]
) -> tuple[dict[Tokens, Reading], int]:
    """As `Reader.read`, after two prompts."""
    nats, n_plain = text_nats(engine, with_instruction, texts)
    nats_opposite, n_plain_opposite = text_nats(engine, with_opposite, texts)
    readings = {tokens: Reading(nats[tokens] - nats_opposite[tokens], nats[tokens]) for tokens in texts}
    return readings, n_plain + n_plain_opposite
