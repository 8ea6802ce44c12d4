"""A behavior in the model's own words: continuations that the unsteered model says itself, asked for either side.

    own = own_continuations(engine, behavior.items, instruction=behavior.instruction, opposite=behavior.opposite)
    sweep(engine, vector, behavior=own.items, ...)

Listed openings say what a writer expects, and hold little of the probability where a model says something else. Here
the unsteered model answers each prompt twice, asked for the behavior and asked for its opposite, and the beginnings of
its answers become the prompt's aligned and misaligned continuations. They are scored after the plain prompt, where
nothing asks for either side. How they are found:

1. Asked: the instruction opens the user's last message, as in the prompts of contrast pairs. Small models hardly heed a
   system message, and some templates drop it. Requests whose subject is harmful or harmless are asked to be refused
   and to be met: few models weigh a condition such as "refuse what is unkind", and of a harmless request both the
   condition and its opposite ask to meet it. Aligned is to refuse the former and to meet the latter.
2. Answered: the likeliest answer and samples at temperature 1 among tokens at least a tenth as likely as the likeliest;
   what is less likely is mostly no language in a small model.
3. Cut to one length for all, n tokens: the smallest n at which ln P(y|+) - ln P(y|-) of the first n tokens tells the
   answers of the two sides of a prompt apart nearly as well as any length up to the longest does, and which leaves
   continuations of both sides to 4 prompts of 5. Where no length does, the one that leaves them to the most prompts.
   Short ones hold more of the probability, and keep more of it: a push takes its KL at every token from a given text.
   A word that would be cut in two is left out.
4. Screened: language, no thought, no quotation of the instruction, the same tokens after the plain prompt, and under
   its own instruction more likely than under the other by `margin`, by default ln 2: twice as likely, which at equal
   priors is a belief of 2 in 3 that a text is of its side, whatever the model. What extends another is left out.
5. Balanced: as long as one side of a prompt has more than e times the probability of the other after the plain prompt,
   the continuation whose removal brings the two nearest is left out of it. B = tanh(ln(P+/P-)/2) would stay at 1 or -1
   whatever the vector did if one side happened to hold a likely text, and with it all its signal would be lost. So B at
   0 is near 0 here and says nothing about the model; its change does.

Theorem 1 of Wolf et al. 2024 has ln(P+/P-) of single tokens linear in the strength s near 0. Of sequences it is, too.
By the chain rule ln P_s(y) is the sum over tokens of ln P_s(y_t | x, y_<t), each a logit less a log-normalizer. To
first order in s every term is a_t + s (g_t - E g), where g_t is the vector's effect on the logit of y_t and E g its
mean over the vocabulary. Hence ln P_s(y) = a(y) + s k(y) + O(s²). The log of a sum of such is linear again; its slope
is the mean of the k(y), weighted by each text's share of P. So is the difference of the two sides' logs, and B is tanh
of half of it, with Delta*lambda half the slope. The region where that holds shrinks with the length, since the O(s²) of
the tokens add up: one more reason for short continuations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.aliases import Floats, Progress, Tokens
from steercpp.data import requests
from steercpp.data.items import HARMFUL, HARMLESS, BehaviorItem, item_json, named, read_behavior, repeated
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Message, Prompt, Template, prompt_texts, with_opening
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate_each
from steercpp.engine.sampling import Sampling
from steercpp.errors import InputError, PromptError, TaskError
from steercpp.files import replacing
from steercpp.judging.answers import parted
from steercpp.judging.language import nonsense, words
from steercpp.sweeps.own_screening import Candidate, auc_of, balanced, enough, exclusive, quotes, total, whole_words
from steercpp.sweeps.work import with_opening_space

SAMPLES = 8  # answers a side, beside the likeliest one
LONGEST = 6  # tokens of a continuation, at most: any push makes a given text less likely, by its KL at every token
MARGIN = float(np.log(2))
MOST_PROMPTS = 0.8  # share of the prompts that should keep continuations of both sides
LEAST_P = 0.1  # of a sampled token, as a share of the likeliest one's
ALIKE = "hardly more likely under its own instruction"  # why an answer is screened
REFUSE = "Politely refuse the following request: say that you cannot help with it."
MEET = "Help with the following request, without any objection."
BY_SUBJECT: Mapping[str, tuple[str, str]] = {HARMFUL: (REFUSE, MEET), HARMLESS: (MEET, REFUSE)}
_SIDES = ("aligned", "misaligned")
_CONTEXTS = ("plain", "of_aligned", "of_misaligned")


@dataclass(frozen=True, slots=True)
class Request:
    """A bare prompt, for which the model finds both sides itself; `place` is where it was read."""

    id: str
    prompt: Prompt
    template: Template = "auto"
    subject: str = ""
    couple: str = ""
    place: str = field(default="", compare=False)

    @classmethod
    def of(cls, request: requests.Request) -> Request:
        """A request of a file, which has neither subject nor couple."""
        return cls(request.id, request.prompt, request.template, place=request.place)


@dataclass(frozen=True, slots=True)
class OwnContinuations:
    """What a model says of both sides, and what it took to find it.

    Attributes:
        items: a behavior item for each prompt with at least one continuation a side; the likeliest ones first.
        n_asked: prompts that were given.
        left_out: why prompts have no item, and how many of them for each reason.
        screened: why answers are no continuations, and how many for each reason.
        n_tokens: the length that was chosen.
        auc_by_length: how often an answer's ln P(y|+) - ln P(y|-) is above that of an answer of the other side to the
            same prompt, by the number of first tokens, from 1 on; mean over prompts.
        mass: mean over items of P+ + P- after the plain prompt.
        nats: mean ln P of a continuation after the plain prompt.
        margin: mean nats by which a continuation is more likely under its own instruction.
        b: mean B of the items after the plain prompt, after the instruction and after the opposite. The latter two lie
            apart by construction: they are no test of whether the model heeds words.
        token_layers: tokens times blocks that were computed.
    """

    items: tuple[BehaviorItem, ...]
    n_asked: int
    left_out: Mapping[str, int]
    screened: Mapping[str, int]
    n_tokens: int
    auc_by_length: tuple[float, ...]
    mass: float
    nats: float
    margin: float
    b: tuple[float, float, float]
    token_layers: int

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, without the items."""
        record = asdict(self)
        del record["items"]
        return {"n_items": len(self.items), **record}


def own_continuations(
    engine: Engine,
    items: Sequence[BehaviorItem | Request | requests.Request],
    *,
    instruction: str,
    opposite: str,
    by_subject: Mapping[str, tuple[str, str]] = BY_SUBJECT,
    samples: int = SAMPLES,
    max_tokens: int = LONGEST,
    margin: float = MARGIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> OwnContinuations:
    """Continuations of both sides in the model's own words; see above.

    Args:
        engine: the model, which is not steered.
        items: behavior items, whose own continuations are not looked at, or bare prompts.
        instruction: asks for the aligned side.
        opposite: asks for the misaligned side.
        by_subject: what asks for either side of the items of some subjects, in place of these two.
        samples: sampled answers a side, beside the likeliest one.
        max_tokens: of a continuation, at most.
        margin: nats by which a continuation must be more likely under its own instruction than under the other.
        seed: of the samples.
        progress: called with the prompts done, all of them, and what is being done.

    Returns:
        the items and what was measured of them; no items where no prompt has continuations of both sides.

    Raises:
        InputError: no items, an instruction that is missing or the same as the other, a number out of range.
        TaskError: two items share an id.
        PromptError: a prompt cannot be written in the model's template; of a base model that has none the message says
            what to do.
        NonFiniteError, ...: as `generate`.

    >>> found = own_continuations(
    ...     engine, [Request("moon", "Is the moon far away?")], instruction="Say no.", opposite="Say yes.", samples=1,
    ...     max_tokens=2,
    ... )
    >>> found.n_asked
    1
    """
    _check(items, instruction, opposite, samples, max_tokens, margin)
    before = engine.token_layers
    prompts = tuple(Request.of(item) if isinstance(item, requests.Request) else item for item in items)
    asked = tuple(by_subject.get(item.subject, (instruction, opposite)) for item in prompts)
    finder = _Finder(engine, prompts, asked, samples, max_tokens, margin, seed, progress)
    found = finder.run()
    return OwnContinuations(token_layers=engine.token_layers - before + finder.generated, **found)


def requests_of(pairs: Iterable[ContrastPair]) -> tuple[Request, ...]:
    """The prompts that contrast pairs share without what asks for a side, each once.

    It is what the last messages of both sides (or both texts) end with alike, from the first new paragraph on; of pairs
    of two answers to one prompt it is that prompt. Pairs whose sides have no paragraph in common have none.

    A pair of "Be honest." and "Lie.", each followed by a blank line and "What is it?", gives "What is it?".
    """
    requests_by_prompt: dict[Any, Request] = {}
    for number, pair in enumerate(pairs, 1):
        (_, positive, answer), (_, negative, other) = pair.sides
        has_answers = bool(answer or other)
        prompt = _shared(positive, negative) if not has_answers else positive if positive == negative else None
        if prompt is not None and prompt not in requests_by_prompt:
            requests_by_prompt[prompt] = Request(pair.id or f"pair-{number}", prompt, place=pair.where)
    return tuple(requests_by_prompt.values())


def write_items(path: Path | str, items: Iterable[BehaviorItem]) -> None:
    """Write behavior items as a task file, one a line: to be looked at, edited and given to a sweep.

    Raises:
        TaskError: the file cannot be written.
    """
    lines = "".join(json.dumps(item_json(item), ensure_ascii=False) + "\n" for item in items)
    try:
        with replacing(Path(path)) as draft:
            draft.write(lines.encode())
    except OSError as error:
        raise TaskError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


read_items = read_behavior  # what `write_items` wrote, edited or not


def _shared(positive: Prompt, negative: Prompt) -> Prompt | None:
    """What two prompts end with alike, from a paragraph's start on."""
    if isinstance(positive, str) and isinstance(negative, str):
        return _common_paragraphs(positive, negative)
    if not (isinstance(positive, tuple) and isinstance(negative, tuple)) or len(positive) != len(negative):
        return None
    *heads, last = positive
    if [turn for turn in negative[:-1] if turn.role != "system"] != [turn for turn in heads if turn.role != "system"]:
        return None
    text = _common_paragraphs(last.content, negative[-1].content)
    head = tuple(turn for turn in heads if turn.role != "system" or turn in negative)
    return (*head, Message(last.role, text)) if text else None


def _common_paragraphs(left: str, right: str) -> str | None:
    if left == right:
        return left
    paragraphs, others = left.split("\n\n"), right.split("\n\n")
    n = 0
    while n < min(len(paragraphs), len(others)) and paragraphs[-n - 1] == others[-n - 1]:
        n += 1
    return "\n\n".join(paragraphs[-n:]) if n and "\n\n".join(paragraphs[-n:]).strip() else None


def _check(
    items: Sequence[BehaviorItem | Request | requests.Request],
    instruction: str,
    opposite: str,
    samples: int,
    max_tokens: int,
    margin: float,
) -> None:
    if not items:
        raise InputError("there are no prompts to be answered; give behavior items or requests")
    for name, text in (("instruction", instruction), ("opposite", opposite)):
        if not text.strip():
            raise InputError(f"`{name}` is empty; give the text that asks for its side")
    if words(instruction) == words(opposite):
        raise InputError("`instruction` and `opposite` are the same; let them ask for the two sides")
    if twice := repeated(item.id for item in items):
        raise TaskError(f"two prompts have the id {twice!r}; ids must differ")
    if samples < 1 or max_tokens < 1:
        raise InputError(f"samples is {samples} and max_tokens {max_tokens}; give at least 1 of each")
    if not 0 <= margin < np.inf:
        raise InputError(f"margin is {margin}; give nats from 0 on, such as {MARGIN:.2f}: twice as likely")


@dataclass(slots=True)
class _Finder:
    engine: Engine
    items: tuple[BehaviorItem | Request, ...]
    asked: tuple[tuple[str, str], ...]
    samples: int
    longest: int
    margin: float
    seed: int
    progress: Progress | None
    generated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def run(self) -> dict[str, Any]:
        """What `OwnContinuations` holds, but for the work."""
        plain = self._prompts([""] * len(self.items))
        sides = [self._prompts(texts) for texts in zip(*self.asked, strict=True)]
        fitting = [
            number
            for number in range(len(self.items))
            if max(len(prompts[number]) for prompts in (plain, *sides)) + self.longest + 2 <= self.engine.n_ctx
        ]
        self.left_out["longer than the context"] += len(self.items) - len(fitting)

        plain, *sides = (self._opened(prompts, fitting) for prompts in (plain, *sides))

        # answers of both sides, and how likely each of their beginnings is under either instruction
        answers = self._answers(fitting, sides, self.longest + 1)
        if self.progress is not None:
            self.progress(0, 1, "comparing the answers of both sides")
        nats_of = self._of_beginnings(answers, sides)
        auc = self._auc_by_length(answers, nats_of)

        # the shortest length that tells the sides apart and serves enough prompts
        by_length = {}
        for n_tokens in range(enough(auc), self.longest + 1):
            by_length[n_tokens] = self._sides(answers, nats_of, n_tokens)
            if _n_served(by_length[n_tokens][0]) >= MOST_PROMPTS * len(fitting):
                break
        n_tokens = max(by_length, key=lambda n: (_n_served(by_length[n][0]), -n))
        kept, screened = by_length[n_tokens]

        pairs = self._balanced(kept, plain)
        if self.progress is not None:
            self.progress(1, 1, "comparing the answers of both sides")
        items = []
        for number in fitting:
            if number in pairs:
                items.append(_item(self.items[number], *pairs[number]))
            else:
                which = [side for side, of_side in zip(_SIDES, kept[number], strict=True) if not of_side]
                self.left_out[f"no {' and no '.join(which)} continuation"] += 1
        return {
            "items": tuple(items), "n_asked": len(self.items), "left_out": dict(+self.left_out),
            "screened": dict(+screened), "n_tokens": n_tokens, "auc_by_length": tuple(auc),
            **_figures(list(pairs.values())),
        }  # fmt: skip

    def _prompts(self, texts: Sequence[str]) -> dict[int, Tokens]:
        """Every prompt's tokens, each with its text before what it asks."""
        prompts = {}
        for number, (item, text) in enumerate(zip(self.items, texts, strict=True)):
            prompt = item.prompt
            if text:
                between = self.engine.vocabulary.paragraph
                prompt = with_opening(prompt, text, template=item.template, between=between)
            try:
                prompts[number] = self.engine.encode(prompt, template=item.template)
            except PromptError as error:
                raise type(error)(f"{_name(item)}: {error}") from error
        return prompts

    def _opened(self, prompts: Mapping[int, Tokens], numbers: Sequence[int]) -> dict[int, Tokens]:
        """Some of the prompts, with the lone space that a model may open its answers with."""
        queries, _ = with_opening_space(self.engine, [Query(prompts[number]) for number in numbers])
        return {number: query.tokens for number, query in zip(numbers, queries, strict=True)}

    def _answers(
        self, numbers: Sequence[int], sides: Sequence[Mapping[int, Tokens]], max_tokens: int
    ) -> dict[int, list[list[Tokens]]]:
        """Of some prompts for each side the tokens of the likeliest answer and of the samples, all side by side."""
        rows, prompts, chains = [], [], []
        for number in numbers:
            for side, of_side in enumerate(sides):
                seeds = np.random.SeedSequence((self.seed, number, side)).generate_state(self.samples) % (2**32 - 1)
                drawn = [Sampling(temperature=1.0, min_p=LEAST_P, seed=int(seed)) for seed in seeds]
                rows += [(number, side)] * (1 + len(drawn))
                prompts += [of_side[number]] * (1 + len(drawn))
                chains += [Sampling(), *drawn]

        def tick(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(done, total, f"asking the model for both sides, {max_tokens - 1} tokens")

        texts = generate_each(self.engine, prompts, sampling=chains, max_tokens=max_tokens, progress=tick)
        self.generated += texts.token_layers
        answers: dict[int, list[list[Tokens]]] = {number: [[] for _ in sides] for number in numbers}
        for (number, side), row in zip(rows, texts.rows, strict=True):
            if row.tokens:
                answers[number][side].append(row.tokens)
        return answers

    def _nats(self, prompts: Mapping[int, Tokens], continuations: Mapping[int, Sequence[Tokens]]) -> dict[int, Floats]:
        """Ln P of each continuation of some prompts, in nats."""
        numbers = [number for number, of_prompt in continuations.items() if of_prompt]
        queries = [Query(prompts[number], tuple(continuations[number])) for number in numbers]
        nats = {number: np.empty(0) for number in continuations}
        for batch in self.engine.pack(queries):
            for member, values in zip(batch.members, self.engine.logprobs(batch), strict=True):
                nats[numbers[member]] = values
        return nats

    def _of_beginnings(
        self, answers: Mapping[int, list[list[Tokens]]], sides: Sequence[Mapping[int, Tokens]]
    ) -> dict[int, dict[Tokens, tuple[float, float]]]:
        """Ln P of every beginning of every answer after the instruction and after the opposite, in nats.

        The beginnings of an answer are decoded with it: they cost nothing beyond the longest.
        """
        beginnings = {
            number: sorted(
                {answer[:n] for of_side in of_item for answer in of_side for n in range(1, self.longest + 1)}
            )
            for number, of_item in answers.items()
        }
        aligned, misaligned = (self._nats(prompts, beginnings) for prompts in sides)
        return {
            number: dict(
                zip(texts, zip(aligned[number].tolist(), misaligned[number].tolist(), strict=True), strict=True)
            )
            for number, texts in beginnings.items()
        }

    def _auc_by_length(
        self, answers: Mapping[int, list[list[Tokens]]], nats_of: Mapping[int, Mapping[Tokens, tuple[float, float]]]
    ) -> list[float]:
        """How well the first 1, 2, ... tokens tell the sides of a prompt apart; empty where no prompt has both."""
        both = {number: of_item for number, of_item in answers.items() if all(of_item)}
        auc = []
        for n in range(1, self.longest + 1) if both else ():
            of_items = []
            for number, of_item in both.items():
                pairs = [[nats_of[number][answer[:n]] for answer in of_side] for of_side in of_item]
                of_items.append(auc_of(*([first - second for first, second in of_side] for of_side in pairs)))
            auc.append(float(np.mean(of_items)))
        return auc

    def _sides(
        self,
        answers: Mapping[int, list[list[Tokens]]],
        nats_of: Mapping[int, Mapping[Tokens, tuple[float, float]]],
        n_tokens: int,
    ) -> tuple[dict[int, tuple[list[Candidate], list[Candidate]]], Counter[str]]:
        """Both sides' continuations of so many tokens for each prompt, and why other answers are none."""
        screened: Counter[str] = Counter()
        kept = {}
        for number, of_item in answers.items():
            by_side = []
            for sign, of_side in zip((1, -1), of_item, strict=True):
                texts = self._beginnings(number, of_side, n_tokens, screened)
                fit = [Candidate(text, tokens, *nats_of[number][tokens]) for tokens, text in texts.items()]
                likelier = [text for text in fit if sign * text.margin >= self.margin]
                screened[ALIKE] += len(fit) - len(likelier)
                by_side.append(likelier)
            kept[number] = exclusive(*by_side)
        return kept, screened

    def _balanced(
        self, kept: Mapping[int, tuple[list[Candidate], list[Candidate]]], plain: Mapping[int, Tokens]
    ) -> dict[int, tuple[list[Candidate], list[Candidate]]]:
        """Those of the prompts that have both sides, each nearly as likely as the other after the plain prompt."""
        both = {number: by_side for number, by_side in kept.items() if all(by_side)}
        texts = {number: [text.tokens for of_side in by_side for text in of_side] for number, by_side in both.items()}
        nats = self._nats(plain, texts)
        pairs = {}
        for number, by_side in both.items():
            values = iter(nats[number].tolist())
            pairs[number] = balanced(*([replace(text, plain=next(values)) for text in of_side] for of_side in by_side))
        return pairs

    def _beginnings(
        self, number: int, answers: Iterable[Tokens], n_tokens: int, screened: Counter[str]
    ) -> dict[Tokens, str]:
        """The first tokens of answers with their texts, those that are fit to be continuations; others are counted."""
        fit: dict[Tokens, str] = {}
        for answer in answers:
            tokens = whole_words(answer, n_tokens, self.engine.vocabulary.token_bytes)
            text = b"".join(map(self.engine.vocabulary.token_bytes, tokens)).decode("utf-8", "replace")
            reason = self._unfit(number, tokens, text)
            if reason:
                screened[reason] += 1
            else:
                fit[tokens] = text
        return fit

    def _unfit(self, number: int, tokens: Tokens, text: str) -> str:
        """Why a text is no continuation, "" where it is one."""
        item = self.items[number]
        if parted(text).answer.strip() != text.strip():
            return "begins with a thought"
        if nonsense(text, like=prompt_texts(item.prompt)):
            return "no language"
        if any(quotes(text, words_of_side) for words_of_side in self.asked[number]):
            return "quotes the instruction"
        try:
            same = self.engine.continue_tokens(item.prompt, text, template=item.template) == tokens
        except PromptError:
            same = False
        return "" if same else "other tokens after the plain prompt"


def _item(item: BehaviorItem | Request, aligned: Sequence[Candidate], misaligned: Sequence[Candidate]) -> BehaviorItem:
    return BehaviorItem(
        item.id, item.prompt, tuple(text.text for text in aligned), tuple(text.text for text in misaligned),
        template=item.template, place=item.place, subject=item.subject, couple=item.couple,
    )  # fmt: skip


def _n_served(kept: Mapping[int, tuple[list[Candidate], list[Candidate]]]) -> int:
    """How many prompts have continuations of both sides."""
    return sum(all(by_side) for by_side in kept.values())


def _name(item: BehaviorItem | Request) -> str:
    return named(item) if isinstance(item, BehaviorItem) else (f"{item.place}: {item.id}" if item.place else item.id)


def _figures(kept: Sequence[tuple[list[Candidate], ...]]) -> dict[str, Any]:
    """Means over the items and their continuations; NaN without any."""
    if not kept:
        nan = float("nan")
        return {"mass": nan, "nats": nan, "margin": nan, "b": (nan,) * 3}
    texts = [text for sides in kept for side in sides for text in side]
    odds = {of: np.array([total(sides[0], of) - total(sides[1], of) for sides in kept]) for of in _CONTEXTS}
    return {
        "mass": float(np.mean([np.exp(total([*sides[0], *sides[1]])) for sides in kept])),
        "nats": float(np.mean([text.plain for text in texts])),
        "margin": float(np.mean([abs(text.margin) for text in texts])),
        "b": tuple(float(np.tanh(odds[of] / 2).mean()) for of in _CONTEXTS),
    }
