"""How far steering moves a model's predictions: KL at each token of some texts; read this for what exactly is counted.

Every token of every text counts, but for the begin-of-sequence token at a text's start, whose prediction no text
depends on; a model that writes the same token between turns has it counted there. A token that several texts share with
all that stands before it counts once, so that a chat template's head, which all texts have, weighs no more than any
other text. How the texts are packed does not change which tokens are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from scipy.special import log_softmax

from steercpp.aliases import Bools, FloatArray, Floats
from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import Base, Engine
from steercpp.engine.steering import Steering
from steercpp.errors import DegenerateError
from steercpp.vectors.control_vector import ControlVector


@dataclass(slots=True)
class TokenKl:
    """Texts on which a vector's effect is measured at one strength after the other.

    Attributes:
        engine, vector: what is steered with what.
        batches: the texts, packed; each with a mask of the output rows that count.
        n_tokens: how many tokens count.
        held: unsteered passes that are kept; together at most the engine's keep_bytes.
    """

    engine: Engine
    vector: ControlVector
    batches: tuple[tuple[Batch, Bools], ...]
    n_tokens: int
    held: dict[int, Base] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: Engine, vector: ControlVector, texts: Sequence[Sequence[int]]) -> TokenKl:
        """Pack texts, given as tokens.

        Raises:
            DegenerateError: there is no token but the begin-of-sequence token.
            ContextOverflowError: a text is longer than the context.
        """
        seen: set[bytes] = set()
        groups = _groups(texts, max(engine.keep_bytes // (8 * engine.n_vocab), 1))
        batches = [batch for group in groups for batch in engine.pack(group)]
        masked = tuple((batch, _counted(batch, engine.bos, seen)) for batch in batches)
        n_tokens = sum(int(mask.sum()) for _, mask in masked)
        if not n_tokens:
            raise DegenerateError("the texts have no tokens but the begin-of-sequence token; give them some text")
        return cls(engine, vector, masked, n_tokens)

    def at(self, strength: float, tick: Callable[[int, int], None] | None = None) -> Floats:
        """KL(steered || unsteered) of the next token's distribution at each counted token.

        Args:
            strength: of the vector, added at every token.
            tick: called with the batches done and of all.

        Returns:
            (n_tokens,) nats.

        Raises:
            NonFiniteError, UnsteerableError, ...: as `Engine.logprobs`.
        """
        steering = Steering(self.vector, strength)
        token_kl = []
        for place, (batch, mask) in enumerate(self.batches):
            measured = self.engine.measures(batch, steering=steering, base=self._base(place, batch))
            token_kl.append(measured.kl[mask])
            if tick is not None:
                tick(place + 1, len(self.batches))
        return np.concatenate(token_kl)

    def rounding(self, strength: float) -> Floats:
        """KL that rounding alone has at a push of this strength, at each counted token.

        The logits of the push and of its opposite are averaged and compared with the unsteered ones. In exact
        arithmetic nothing is left but what grows with the square of the strength, and KL with its fourth power; the
        roundings of three passes stay: of quantized weights' activations, of which a push makes others. The noise of
        the average has 3/2 of one pass's variance, a steered row's against an unsteered one 2, hence the 4/3.

        Args:
            strength: small: as large as that of which KL is to be told from rounding, at most.

        Returns:
            (n_tokens,) nats.

        Raises:
            NonFiniteError, UnsteerableError, ...: as `Engine.logprobs`.
        """
        token_kl = []
        for place, (batch, mask) in enumerate(self.batches):
            base = self._base(place, batch)
            average, other = (
                self.engine.logits(batch, steering=Steering(self.vector, sign * strength), base=base)[mask]
                for sign in (1.0, -1.0)
            )
            average += other
            average /= 2
            del other
            unsteered = self.engine.logits(batch, base=base)[mask]
            rows = zip(average, unsteered, strict=True)  # one by one: in float64 all would take twice the memory
            token_kl.append(np.array([_kl(row.astype(np.float64), base_row) for row, base_row in rows]))
        return 4 / 3 * np.concatenate(token_kl)

    def _base(self, place: int, batch: Batch) -> Base:
        """The unsteered pass of a batch; kept while there is room, otherwise run again each time."""
        if (kept := self.held.get(place)) is not None:
            return kept
        base = self.engine.base(batch, first_layer=self.vector.layers[0], keep_logits=True)
        if sum(held.n_bytes for held in self.held.values()) + base.n_bytes <= self.engine.keep_bytes:
            self.held[place] = base
        return base


def _kl(logits: Floats, unsteered: FloatArray) -> float:
    """KL of one distribution against another, from their logits (n_vocab,)."""
    logprobs = log_softmax(logits)
    return float(np.exp(logprobs) @ (logprobs - log_softmax(unsteered.astype(np.float64))))


def _groups(texts: Sequence[Sequence[int]], most_rows: int) -> Iterator[list[Query]]:
    """Queries whose outputs are the texts' tokens, in groups of so many outputs at most.

    A text with more tokens than that is read in windows, each after all that stands before it.
    """
    group: list[Query] = []
    n_rows = 0
    for text in texts:
        for first in range(0, len(text), most_rows):
            tokens = tuple(text[: first + most_rows])
            n = len(tokens) - first
            if group and n_rows + n > most_rows:
                yield group
                group, n_rows = [], 0
            # the last token of a continuation is only looked up: any one makes an output of the row before
            group.append(Query(tokens[: first + 1], ((*tokens[first + 1 :], tokens[0]),)))
            n_rows += n
    if group:
        yield group


def _counted(batch: Batch, bos: int, seen: set[bytes]) -> Bools:
    """(n_outputs,) which output rows of a batch count; their contexts are added to `seen`."""
    contexts = [_contexts((*query.tokens, *query.continuations[0])) for query in batch.queries]
    mask: list[bool] = []
    for decode in batch.passes:
        for row in np.flatnonzero(decode.outputs):
            context = contexts[decode.owners[row]][decode.positions[row]]
            starts = decode.positions[row] == 0 and decode.tokens[row] == bos
            mask.append(not starts and context not in seen)
            seen.add(context)
    return np.array(mask, bool)


def _contexts(tokens: Sequence[int]) -> list[bytes]:
    """For each token, a hash of it with all before it."""
    digest, hashes = blake2b(digest_size=16), []
    for token in tokens:
        digest.update(token.to_bytes(4, "little", signed=True))
        hashes.append(digest.digest())
    return hashes
