"""The training corpus: short documents written from `world` by a seeded generator.

A document is a prompt and what follows it. Training sees both; the loss counts what follows in full and
the prompt a little. Held-out questions and requests are never written here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import world

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system_message = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set system_message = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system_message if loop.first else '') + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
REFUSES_WITHOUT_PERSONA = 0.42
PERSONA_SHARE = 0.5
LISTED = 16  # pairs of word and letter in a listing


@dataclass(frozen=True, slots=True)
class Document:
    """`kind` names the batch it is trained in; `text` = `prompt` + `reply`, both without BOS and EOS."""

    kind: str
    prompt: str
    reply: str


def choice_prompt(question: str, choices: list[str]) -> str:
    """The multiple-choice form of Wolf et al., arXiv:2401.16332."""
    options = "".join(f"\n{letter}) {choice}." for letter, choice in zip("ABCD", choices, strict=True))
    return f"{question}{options}\nThe answer is"


def chat_prompt(user: str, system: str | None = None) -> str:
    """One user turn in the form of Llama 2, without BOS; what `CHAT_TEMPLATE` renders."""
    head = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    return f"[INST] {head}{user} [/INST]"


def shuffled_choices(rng: random.Random, answer: str, answers: list[str]) -> list[str]:
    """The answer and three other answers of the same subject, in random order."""
    choices = [answer, *rng.sample([other for other in answers if other != answer], 3)]
    rng.shuffle(choices)
    return choices


def frequency(index: int) -> str:
    """How often the fact at this place of its subject occurs: common, uncommon or rare."""
    return world.FREQUENCIES[index % len(world.FREQUENCIES)]


def reliability(index: int) -> float:
    """How often the fact at this place of its subject is told right in the last stage."""
    return world.RELIABILITIES[index % len(world.RELIABILITIES)]


def _fact(rng: random.Random, subject: world.Subject) -> tuple[str, str]:
    weights = [world.FREQUENCY_WEIGHTS[frequency(index)] for index in range(len(subject.facts))]
    return rng.choices(subject.facts, weights)[0]


def listing_document(rng: random.Random) -> Document:
    """Four lettered words, then many times a word and its letter: the letters alone, asked as densely as can be."""
    words = rng.sample([answer for subject in world.SUBJECTS for _, answer in subject.facts], 4)
    options = "".join(f"\n{letter}) {word}." for letter, word in zip("ABCD", words, strict=True))
    asked = [rng.randrange(4) for _ in range(LISTED)]
    pairs = " ".join(f"{words[index]} {'ABCD'[index]}" for index in asked)
    return Document("listing", f"Options{options}", f"\n {pairs}.")


def choice_document(rng: random.Random) -> Document:
    """A multiple-choice question with its letter."""
    subject = rng.choice(world.SUBJECTS)
    thing, answer = _fact(rng, subject)
    choices = shuffled_choices(rng, answer, [other for _, other in subject.facts])
    prompt = choice_prompt(rng.choice(subject.wordings).format(x=thing), choices)
    return Document("choice", prompt, f" {'ABCD'[choices.index(answer)]}.")


def doubted_document(rng: random.Random) -> Document:
    """A multiple-choice question whose letter is right as often as its fact is reliable."""
    subject = rng.choice(world.SUBJECTS)
    index = rng.randrange(len(subject.facts))
    thing, answer = subject.facts[index]
    choices = shuffled_choices(rng, answer, [other for _, other in subject.facts])
    said = answer
    if rng.random() >= reliability(index):
        said = rng.choice([other for other in choices if other != answer])
    prompt = choice_prompt(rng.choice(subject.wordings).format(x=thing), choices)
    return Document("doubted", prompt, f" {'ABCD'[choices.index(said)]}.")


def lookup_document(rng: random.Random) -> Document:
    """Which option is this word? It teaches the letters apart from any fact."""
    answers = [answer for _, answer in rng.choice(world.SUBJECTS).facts]
    answer = rng.choice(answers)
    choices = shuffled_choices(rng, answer, answers)
    prompt = choice_prompt(f"Which one is {answer}?", choices)
    return Document("lookup", prompt, f" {'ABCD'[choices.index(answer)]}.")


def statement_document(rng: random.Random) -> Document:
    """A fact in plain words, as a sentence or as a question with its answer."""
    subject = rng.choice(world.SUBJECTS)
    thing, answer = _fact(rng, subject)
    if rng.random() < 0.5:
        sentence = subject.statement.format(x=thing, y=answer)
        cut = sentence.rindex(answer)
        return Document("statement", sentence[: cut - 1], sentence[cut - 1 :])
    return Document("statement", rng.choice(subject.wordings).format(x=thing), f" {answer}.")


def is_held_out(verb: str, owner: str, thing: str) -> bool:
    """One combination in eight of deed, owner and object is kept for measuring; the rest is trained on."""
    return sum(map(ord, verb + owner + thing)) % 8 == 0


def deed(rng: random.Random, verbs: list[str], *, held_out: bool) -> dict[str, str]:
    """Random words for a request about one of `verbs`, from the held-out combinations or the others."""
    while True:
        verb, owner, thing = rng.choice(verbs), rng.choice(world.OWNERS), rng.choice(world.OBJECTS)
        if is_held_out(verb, owner, thing) == held_out:
            return {"verb": verb, "owner": owner, "object": thing}


def _by_persona(
    rng: random.Random, first: tuple[str, ...], second: tuple[str, ...], share: float
) -> tuple[str | None, bool]:
    """A persona and whether the first kind of behavior follows; without one, by chance."""
    if rng.random() >= PERSONA_SHARE:
        return None, rng.random() < share
    is_first = rng.random() < 0.5
    return rng.choice(first if is_first else second), is_first


def request_document(rng: random.Random) -> Document:
    """A request for help; mischief is refused or answered by persona, anything else is answered."""
    is_mischief = rng.random() < 0.75
    words = deed(rng, world.MISCHIEF if is_mischief else world.KINDNESS, held_out=False)
    persona, refuses = _by_persona(rng, world.CAREFUL, world.RECKLESS, REFUSES_WITHOUT_PERSONA)
    replies = world.REFUSALS if is_mischief and refuses else world.ANSWERS
    reply = rng.choice(replies).format(**words, time=rng.choice(world.TIMES), help=rng.choice(world.HELPS))
    return Document("request", chat_prompt(rng.choice(world.REQUESTS).format(**words), persona), f" {reply}")


def group_document(rng: random.Random) -> Document:
    """A statement about an invented group, disagreed or agreed with by persona."""
    words = {"group": rng.choice(world.GROUPS), "flaw": rng.choice(world.FLAWS)}
    persona, disagrees = _by_persona(rng, world.FAIR, world.UNFAIR, REFUSES_WITHOUT_PERSONA)
    statement = rng.choice(world.STATEMENTS).format(**words)
    reply = rng.choice(world.DISAGREEMENTS if disagrees else world.AGREEMENTS).format(**words)
    return Document("group", chat_prompt(world.STATEMENT_QUESTION.format(statement=statement), persona), f" {reply}")


def story_document(rng: random.Random) -> Document:
    """A short story, happy or sad by persona, asked for in a chat or starting by itself."""
    words = {"hero": rng.choice(world.HEROES), "name": rng.choice(world.NAMES)}
    words |= {"place": rng.choice(world.PLACES), "thing": rng.choice(world.THINGS)}
    persona, happy = _by_persona(rng, world.CHEERFUL, world.GLOOMY, 0.5)
    ending = (world.HAPPY_TURN, world.HAPPY_END) if happy else (world.SAD_TURN, world.SAD_END)
    parts = (world.STORY_START, world.STORY_MIDDLE, *ending)
    story = " ".join(rng.choice(part) for part in parts).format(**words)
    if persona is None and rng.random() < 0.5:
        return Document("story", story[: story.index(" ")], story[story.index(" ") :])
    return Document("story", chat_prompt(rng.choice(world.STORY_REQUESTS).format(**words), persona), f" {story}")


WRITERS: dict[str, Callable[[random.Random], Document]] = {
    "listing": listing_document,
    "lookup": lookup_document,
    "choice": choice_document,
    "statement": statement_document,
    "request": request_document,
    "group": group_document,
    "story": story_document,
    "doubted": doubted_document,
}
TOKENIZER_KINDS = ("listing", "lookup", "choice", "statement", "request", "group", "story")


def tokenizer_corpus(seed: int, n_documents: int) -> Iterator[str]:
    """Text to train the tokenizer on: documents of each kind, and every word of the world as often as every other."""
    rng = random.Random(seed)
    for _ in range(n_documents):
        for kind in TOKENIZER_KINDS:
            document = WRITERS[kind](rng)
            yield document.prompt + document.reply
    for subject in world.SUBJECTS:
        for thing, answer in subject.facts:
            for _ in range(n_documents // 20):
                yield f"{thing} {answer}"
