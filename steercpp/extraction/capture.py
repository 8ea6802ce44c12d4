"""From contrast pairs to their activations, a chunk at a time; activations.py and activations_file.py keep them.

The pairs are gone through twice: `survey` checks them all and counts, before anything long begins; `chunks` decodes as
many pairs together as share their beginnings well and fit into bounded memory. Which pairs make a chunk depends on the
prompts and the model, not on the layers that are wanted: the same pairs give the same batches and so the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.choices import TOKEN_WORDS, TokenWord
from steercpp.data.pairs import ContrastPair, PairsDigest
from steercpp.data.prompts import Template
from steercpp.errors import ContextOverflowError, DegenerateError, InputError, NonFiniteError, PairsError, PromptError

if TYPE_CHECKING:
    from steercpp.aliases import TokenProgress
    from steercpp.engine.engine import Engine


Token: TypeAlias = TokenWord | int  # a position, from 0 on or from the end

CHANGED = "the pairs changed while they were read; leave their file alone meanwhile"
_CHUNK_TOKENS = 16_384
_CHUNK_BYTES = 64 * 2**20  # of activations, if every layer were wanted


def token_named(text: object) -> Token | None:
    """The token that a word or a position such as "-2" names, as options and metadata write it; None if it is none."""
    if isinstance(text, str) and text in TOKEN_WORDS:
        return TOKEN_WORDS[TOKEN_WORDS.index(text)]
    return int(text) if isinstance(text, str) and re.fullmatch("-?[0-9]{1,9}", text) else None


@dataclass(frozen=True, slots=True)
class Prompted:
    """One side of a pair as tokens; the last `n_answer` are its answer's."""

    tokens: tuple[int, ...]
    n_answer: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass over the pairs finds.

    Attributes:
        n_pairs: how many.
        n_tokens: on both sides together.
        pairs_sha256: their hash.
        has_chats: whether any prompt went through the model's chat template.
    """

    n_pairs: int
    n_tokens: int
    pairs_sha256: str
    has_chats: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """Which activations of which pairs.

    Attributes:
        layers: each once.
        token: which token of a prompt, or "all".
        template: how prompts become text, see `Vocabulary.render`.
    """

    engine: Engine
    pairs: Iterable[ContrastPair]
    layers: tuple[int, ...]
    token: Token | str
    template: Template

    def survey(self) -> Survey:
        """Check and count all pairs.

        Raises:
            PairsError: no pairs, or a bad one, such as one whose sides are the same tokens; an answer that is wanted
                and not there.
            PromptError, ContextOverflowError: a prompt that cannot be rendered or is too long.
            InputError: a position that a prompt lacks, or a prompt without a token to take.
        """
        n_pairs = n_tokens = 0
        has_chats = self.template == "chat"
        digest = PairsDigest()
        for pair, sides in self._prompted():
            n_pairs += 1
            n_tokens += sum(len(side.tokens) for side in sides)
            has_chats |= any(isinstance(prompt, tuple) for _, prompt, _ in pair.sides)
            positive, negative = sides
            if positive == negative and pair.sides[0][1:] != pair.sides[1][1:]:
                raise PairsError(
                    f"{pair.where}: both prompts become the same tokens, though their texts differ; the model's chat "
                    "template may trim what they differ in, so write it otherwise"
                )
            digest.add(pair)
        if not n_pairs:
            raise PairsError("no pairs were given; a direction needs at least one")
        return Survey(n_pairs, n_tokens, digest.hexdigest(), has_chats)

    def chunks(self, n_pairs: int, progress: TokenProgress | None) -> Iterator[tuple[list[Prompted], list[FloatArray]]]:
        """Prompts, positive and negative by turns, and the activations of each: (n_tokens_taken, n_layers, n_embd)."""
        n_done = 0

        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(n_done + done, 2 * n_pairs)

        for prompts in self._chunked():
            if n_done + len(prompts) > 2 * n_pairs:
                raise PairsError(CHANGED)
            yield prompts, self._activations(prompts, report)
            n_done += len(prompts)
        if n_done < 2 * n_pairs:
            raise PairsError(CHANGED)

    def positions(self, prompt: Prompted) -> Sequence[int]:
        """The tokens of a prompt whose activations are taken."""
        return taken(self.token, prompt.tokens, prompt.n_answer, self.engine.bos)

    def _prompted(self) -> Iterator[tuple[ContrastPair, tuple[Prompted, ...]]]:
        for pair in self.pairs:
            sides = []
            for side, prompt, answer in pair.sides:
                place = f"{pair.where}: {side} prompt"
                try:
                    prompted = Prompted(*self.engine.encode_answered(prompt, answer, template=self.template))
                    self.positions(prompted)
                except (PromptError, InputError) as error:
                    raise type(error)(f"{place}: {error}") from error
                if len(prompted.tokens) > self.engine.n_ctx:
                    raise ContextOverflowError(
                        f"{place}: {len(prompted.tokens)} tokens, the context holds {self.engine.n_ctx}; "
                        "shorten it or raise `n_ctx`"
                    )
                sides.append(prompted)
            yield pair, tuple(sides)

    def _chunked(self) -> Iterator[list[Prompted]]:
        bytes_of_token = 4 * self.engine.n_layer * self.engine.n_embd
        prompts: list[Prompted] = []
        n_tokens = n_bytes = 0
        for _, sides in self._prompted():
            more_tokens = sum(len(side.tokens) for side in sides)
            more_bytes = sum(len(self.positions(side)) for side in sides) * bytes_of_token
            if prompts and (n_tokens + more_tokens > _CHUNK_TOKENS or n_bytes + more_bytes > _CHUNK_BYTES):
                yield prompts
                prompts, n_tokens, n_bytes = [], 0, 0
            prompts += sides
            n_tokens, n_bytes = n_tokens + more_tokens, n_bytes + more_bytes
        if prompts:
            yield prompts

    def _activations(self, prompts: list[Prompted], progress: TokenProgress) -> list[FloatArray]:
        tokens = [prompt.tokens for prompt in prompts]
        if self.token == "last":
            activations = list(self.engine.activations(tokens, layers=self.layers, progress=progress)[:, None])
        else:
            positions = [self.positions(prompt) for prompt in prompts]
            activations = self.engine.activations_at(tokens, positions, layers=self.layers, progress=progress)
        if not all(np.isfinite(rows).all() for rows in activations):
            raise NonFiniteError(f"{self.engine.path}: activations are not finite; check the model file")
        return activations


def taken(token: Token | str, tokens: Sequence[int], n_answer: int, bos: int) -> Sequence[int]:
    """Positions of the tokens that a choice takes out of a prompt with its answer.

    Raises:
        PairsError: "answer", and there is none.
        InputError: a position that is not there; or "mean", of nothing but the begin-of-sequence token.
    """
    n_tokens = len(tokens)
    if token == "all":
        return range(n_tokens)
    if token == "last":
        return (n_tokens - 1,)
    if token == "answer":
        if not n_answer:
            raise PairsError('no answer, whose tokens are asked for; give one, or take the token "last"')
        return range(n_tokens - n_answer, n_tokens)
    if token == "mean":
        text = range(1 if tokens[0] == bos else 0, n_tokens)
        if not text:
            raise DegenerateError("no tokens but the begin-of-sequence token; give it some text")
        return text
    if not isinstance(token, int):
        raise InputError(f"token {token!r} is unknown; use last, mean, answer or a position such as -2")
    if not -n_tokens <= token < n_tokens:
        raise InputError(f"token {token} is asked for, and it has {n_tokens} tokens; choose another or last")
    return (token % n_tokens,)


def one_row(rows: FloatArray) -> FloatArray:
    """What stands for a prompt: the mean of the rows taken, summed in float64; (n_layers, n_embd)."""
    row: FloatArray = rows[0] if len(rows) == 1 else rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return row
