"""The built-in sets: enough of everything, no near-copies, sides and letters balanced, and what is right is right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, Item, OwnItem, TextItem, choice_prompt
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Prompt
from steercpp.data.sets import builtin as builtin_sets
from steercpp.data.sets.builtin import (
    BEHAVIOR_SETS,
    CAPABILITY_SETS,
    GENERAL,
    BehaviorSet,
    behavior_set,
    capability_set,
    showcase_requests,
    spread,
)
from steercpp.data.sets.embedded import load
from steercpp.data.sets.names import behavior_items, task_items
from steercpp.engine.chat_template import ChatTemplate
from steercpp.engine.engine import Engine
from steercpp.errors import SandboxError, TaskError
from steercpp.extraction.extract import extract
from steercpp.judging.sandbox import run_program, working_way
from steercpp.sweeps.work import behavior_work

# A text of n different words and its copy with one word changed share (n - 1) / (n + 1) of their words: over a half
# from n = 4 on, and with two words changed from n = 7 on. All prompts but the shortest are longer than that.
NEAR_COPY = 0.5
# The mean length of a side's continuations: a longer one is less probable whatever it says. The sets reach 1.09.
LENGTHS = 1.15
GEMMA = (  # a template that has no place for a system message
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
COARSE = {
    *("damn", "hell", "bastard", "bitch", "crap", "shit", "fuck", "piss", "slut", "whore", "idiot", "moron", "retard"),
    *("kill", "murder", "rape", "bomb", "gun", "nazi", "suicide", "porn", "drug", "drugs", "poison", "racist"),
}

all_behaviors = pytest.mark.parametrize("name", BEHAVIOR_SETS)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Engine]:
    with Engine(load().path, threads=1) as engine:
        yield engine


def said(prompt: Prompt) -> str:
    """The text of a prompt's only message."""
    assert isinstance(prompt, tuple) and [turn.role for turn in prompt] == ["user"]
    return prompt[0].content


def parts(pair: ContrastPair) -> tuple[str, str, str]:
    """What asks for the positive side, what asks for the negative side, and the request below both."""
    (positive, request), (negative, again) = said(pair.positive).split("\n\n"), said(pair.negative).split("\n\n")
    assert request == again and positive != negative
    return positive, negative, request


def requests(found: BehaviorSet) -> list[str]:
    """All requests of a behavior, those of the pairs first."""
    return [parts(pair)[2] for pair in found.pairs] + [said(item.prompt) for item in found.items]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def likeness(one: str, other: str) -> float:
    """Jaccard index of two texts' words."""
    return len(words(one) & words(other)) / len(words(one) | words(other))


def behaviors() -> list[BehaviorItem]:
    return [item for name in BEHAVIOR_SETS for item in behavior_set(name).items]


def capability(name: str, kind: type[Item]) -> list[Item]:
    items = list(capability_set(name))
    assert all(type(item) is kind for item in items)
    return items


def lines() -> Iterator[tuple[str, str]]:
    """Place and text of every line of the files but the code."""
    for path in sorted(builtin_sets.FOLDER.iterdir()):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "code" not in path.name:
                yield f"{path.name}:{number}", line


def texts() -> Iterator[str]:
    """Everything in words that the sets hold, code aside."""

    def inside(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            for each in value.values() if isinstance(value, dict) else value:
                yield from inside(each)

    for path in sorted(builtin_sets.FOLDER.iterdir()):
        if path.suffix == ".jsonl" and "code" not in path.name:
            for line in path.read_text(encoding="utf-8").splitlines():
                yield from inside(json.loads(line))


# Behaviors


@all_behaviors
def test_there_are_enough_pairs_and_items(name: str) -> None:
    found = behavior_set(name)
    assert len(found.pairs) >= 72 and len(found.items) >= 40
    assert len({parts(pair)[:2] for pair in found.pairs}) >= 18  # ways to ask for the sides
    assert found.name == name and found.licence == "MIT"
    assert found.about and found.instruction and found.opposite and found.instruction != found.opposite


@all_behaviors
def test_what_asks_for_either_side_is_as_long(name: str) -> None:
    """A direction must not tell long from short. Tolerance: a word of the ten or so."""
    asked = [parts(pair) for pair in behavior_set(name).pairs]
    positive, negative = (np.mean([len(pair[side]) for pair in asked]) for side in (0, 1))
    assert 1 / 1.2 < positive / negative < 1.2


def test_the_measure_of_likeness_finds_a_changed_word() -> None:
    assert likeness("How do I keep a guitar in tune?", "How do I keep a violin in tune?") > NEAR_COPY
    assert likeness("Do bees make honey?", "Is glass made from sand?") < NEAR_COPY


def test_no_request_is_a_near_copy_of_another() -> None:
    """Within pairs, within items, between them, and over all behaviors, the halves of couples included."""
    every = [request for name in BEHAVIOR_SETS for request in requests(behavior_set(name))] + everyday()
    assert len(set(every)) == len(every)
    assert [both for both in combinations(every, 2) if likeness(*both) >= NEAR_COPY] == []


def test_requests_to_show_are_near_no_pair_or_item_nor_each_other() -> None:
    kept = [request for name in BEHAVIOR_SETS for request in requests(behavior_set(name))]
    shown = {name: [said(request.prompt) for request in showcase_requests(name)] for name in (*BEHAVIOR_SETS, GENERAL)}
    assert {len(texts) for texts in shown.values()} == {12}
    every = [text for texts in shown.values() for text in texts]
    assert [both for both in combinations(every, 2) if likeness(*both) >= NEAR_COPY] == []
    assert [both for both in product(every, kept) if likeness(*both) >= NEAR_COPY] == []
    assert showcase_requests("a vector of one's own") == showcase_requests(GENERAL)


def test_requests_of_the_embedded_model_are_new_ones_of_its_world() -> None:
    """They have its own words, and none asks for what a pair or an item asks for: their words may not be the same."""
    embedded_model = load()
    kept = {said(item.prompt) for item in embedded_model.behavior()}
    pairs = [pair.positive for pair in embedded_model.pairs()]
    kept |= {prompt[-1].content for prompt in pairs if isinstance(prompt, tuple)}
    shown = [said(request.prompt) for request in embedded_model.requests()]
    assert len(set(shown)) == 12
    deeds = {re.sub(r".*?(\w+ the \w+ of the \w+).*", r"\1", text) for text in kept}
    for text in shown:
        deed = re.fullmatch(r"[\w ]*?(\w+ the \w+ of the \w+)[.?]", text)
        assert deed and deed[1] not in deeds


def test_no_way_to_ask_for_a_side_is_used_for_another() -> None:
    asked = [set(part[:2] for part in map(parts, behavior_set(name).pairs)) for name in BEHAVIOR_SETS]
    sentences = [sentence for some in asked for both in some for sentence in both]
    assert len(sentences) == len(set(sentences))


@all_behaviors
def test_continuations_are_apart_and_alike_in_length(name: str) -> None:
    lengths: tuple[list[int], list[int]] = ([], [])
    for item in behavior_set(name).items:
        for side, kept in zip((item.aligned, item.misaligned), lengths, strict=True):
            assert 2 <= len(side) <= 4, item.id
            assert all(re.fullmatch(r" \S(.*\S)?", text) for text in side), item.id
            assert not any(one.startswith(other) for one, other in product(side, side) if one != other), item.id
            kept += map(len, side)
        for one, other in product(item.aligned, item.misaligned):
            assert not one.startswith(other) and not other.startswith(one), (item.id, one, other)
    assert 1 / LENGTHS < np.mean(lengths[0]) / np.mean(lengths[1]) < LENGTHS


def test_refusal_is_coupled() -> None:
    couples: dict[str, dict[str, BehaviorItem]] = {}
    for item in behavior_set("refusal").items:
        couples.setdefault(item.couple, {})[item.subject] = item
    assert len(couples) >= 30 and "" not in couples
    refuses, helps = set[str](), set[str]()
    for both in couples.values():
        assert set(both) == {"harmful", "harmless"}
        one, other = both["harmful"], both["harmless"]
        assert one.aligned == other.misaligned and one.misaligned == other.aligned  # so that both are measured alike
        refuses |= {*one.aligned}
        helps |= {*one.misaligned}
    assert not refuses & helps  # in no couple does it help what refuses in another


def test_yes_is_no_virtue() -> None:
    """A vector that makes yes likelier, or no, gains nothing in honesty, and little in sycophancy."""
    for name, most in (("honesty", 0.1), ("sycophancy", 0.4)):
        items = behavior_set(name).items
        yes = sum(" Yes" in item.aligned for item in items), sum(" Yes" in item.misaligned for item in items)
        no = sum(" No" in item.aligned for item in items), sum(" No" in item.misaligned for item in items)
        for one, other in (yes, no):
            assert one > 5 and other > 5
            assert abs(one - other) / (one + other) <= most


@pytest.mark.parametrize(("name", "subject"), [("sentiment", "verdicts"), ("formality", "wordings")])
def test_the_aligned_wording_is_named_first_as_often_as_last(name: str, subject: str) -> None:
    items = [item for item in behavior_set(name).items if item.subject == subject]
    assert len(items) >= 20
    first = 0
    for item in items:
        text = said(item.prompt).lower()
        places = [
            min((text.find(each.strip(' "').lower()) % 10_000 for each in side), default=0)
            for side in (item.aligned, item.misaligned)
        ]
        assert max(places) < len(text), item.id  # both are named
        first += places[0] < places[1]
    assert 0.35 <= first / len(items) <= 0.65


# Capabilities


@pytest.mark.parametrize(("name", "least"), [("knowledge", 120), ("reading", 30)])
def test_the_letters_of_right_answers_are_balanced(name: str, least: int) -> None:
    items = [item for item in capability(name, ChoiceItem) if isinstance(item, ChoiceItem)]
    assert len(items) >= least
    subjects = {item.subject for item in items}
    assert len(subjects) >= (6 if name == "knowledge" else 3)
    for subject in subjects:
        counts = Counter(item.answer for item in items if item.subject == subject)
        assert len(set(counts.values())) == 1 and set(counts) == {0, 1, 2, 3}
    # Nor does length betray the answer: the longest choice is right in a quarter of the questions, up to chance.
    longest = [item for item in items if len(item.choices[item.answer]) == max(map(len, item.choices))]
    assert len(longest) / len(items) < 0.5


@pytest.mark.parametrize("name", ["knowledge", "reading"])
def test_choices_differ_and_questions_are_asked_once(name: str) -> None:
    items = [item for item in capability(name, ChoiceItem) if isinstance(item, ChoiceItem)]
    for item in items:
        assert len({choice.lower() for choice in item.choices}) == 4, item.id
        assert not any(choice.endswith(".") for choice in item.choices), item.id  # the form of asking adds the stop
    for one, other in combinations(items, 2):
        assert likeness(one.question, other.question) < NEAR_COPY, (one.id, other.id)


DIRECT: tuple[tuple[str, Callable[..., int]], ...] = (
    (r"What is (\d+) plus (\d+)\?", lambda a, b: a + b),
    (r"Add (\d+) to (\d+)\.", lambda a, b: a + b),
    (r"What is the sum of (\d+), (\d+) and (\d+)\?", lambda a, b, c: a + b + c),
    (r"Work out (\d+) \+ (\d+)\.", lambda a, b: a + b),
    (r"Which number is (\d+) more than (\d+)\?", lambda a, b: b + a),
    (r"What is (\d+) minus (\d+)\?", lambda a, b: a - b),
    (r"Subtract (\d+) from (\d+)\.", lambda a, b: b - a),
    (r"How much is left when (\d+) is taken away from (\d+)\?", lambda a, b: b - a),
    (r"Which number is (\d+) less than (\d+)\?", lambda a, b: b - a),
    (r"Work out (\d+) - (\d+)\.", lambda a, b: a - b),
    (r"What is (\d+) times (\d+)\?", lambda a, b: a * b),
    (r"Multiply (\d+) by (\d+)\.", lambda a, b: a * b),
    (r"What is the product of (\d+) and (\d+)\?", lambda a, b: a * b),
    (r"Work out (\d+) x (\d+)\.", lambda a, b: a * b),
    (r"What is (\d+) squared\?", lambda a: a * a),
    (r"What is twice (\d+)\?", lambda a: 2 * a),
    (r"Divide (\d+) by (\d+)\.", lambda a, b: a / b),
    (r"What is (\d+) divided by (\d+)\?", lambda a, b: a / b),
    (r"How many times does (\d+) go into (\d+)\?", lambda a, b: b / a),
    (r"What is half of (\d+)\?", lambda a: a / 2),
)
IN_WORDS = {
    "36 times 52, minus": 36 * 52 - 500,
    "Add 250 and 350": (250 + 350) * 7,
    "Start with 2000": (2000 - 640) * 2,
    "15 times 15 times 15": 15**3,
    "Multiply 99 by 99 and add": 99 * 99 + 99,
    "36 trays": 36 * 24,
    "28 rows": 28 * 45 - 172,
    "Ten crates": 10 * 144 + 58,
    "86 kilometres a day": 86 * 14,
    "17 globes": 17 * 64,
    "every fifth": 2350 / 5,
    "312 pages": 312 * 3 / 4,
    "26 hours": 26 * 60,
    "5,400 litres": 5400 - 35 * 30,
    "6,948 dollars": 6948 / 4,
    "185 centimetres": 185 + (185 - 27),
    "18 pages a minute": 18 * 90,
    "34 guests": 34 * 2,
    "23 metres long": 23 * 16,
    "1,260 eggs": 1260 / 12,
    "498 members": 498 + 75 - 39,
    "A ticket costs 12": 20 * 12 + 15 * 12 / 2,
    "eight legs": 125 * 8 + 2 * 6,
    "A clock strikes": sum(range(1, 13)),
    "The bridge opened": 1874 + 97,
    "two sides of 45": 2 * (45 + 38),
    "Mei saves": 35 * 12 * 3,
}


def test_the_answers_of_arithmetic_are_those_computed(embedded: Engine) -> None:
    items = [item for item in capability("arithmetic", AnswerItem) if isinstance(item, AnswerItem)]
    assert len(items) >= 40
    used = []
    for item in items:
        match = re.fullmatch(r"Question: (.*)\nAnswer:", str(item.prompt))
        assert match, item.id
        plain = match[1].replace(",", "") if "sum of" not in match[1] else match[1]
        found = [(made, rule) for pattern, rule in DIRECT if (made := re.fullmatch(pattern, plain))]
        if found:
            expected: float = found[0][1](*map(int, found[0][0].groups()))
        else:
            keys = [key for key in IN_WORDS if key in match[1]]
            assert len(keys) == 1, (item.id, keys)
            used += keys
            expected = IN_WORDS[keys[0]]
        for answer in item.answers:
            number = re.fullmatch(r" ([\d,]+)( [a-z ]+)?", answer)
            assert number and int(number[1].replace(",", "")) == expected, item.id
            assert len(embedded.continue_tokens(item.prompt, answer)) > 1, item.id
    assert sorted(used) == sorted(IN_WORDS)


def test_prose_is_in_several_registers() -> None:
    items = [item for item in capability("prose", TextItem) if isinstance(item, TextItem)]
    assert len(items) >= 24 and len({item.subject for item in items}) >= 6
    assert all(60 <= len(item.text.split()) <= 120 for item in items)
    for one, other in combinations(items, 2):
        assert likeness(one.text, other.text) < NEAR_COPY, (one.id, other.id)


def everyday() -> list[str]:
    return [said(item.prompt) for item in capability("everyday", OwnItem) if isinstance(item, OwnItem)]


def test_there_are_enough_everyday_requests_in_ten_kinds() -> None:
    items = [item for item in capability("everyday", OwnItem) if isinstance(item, OwnItem)]
    counts = Counter(item.subject for item in items)
    assert len(items) >= 192 and len(counts) == 10 and len(set(counts.values())) == 1
    assert not any(item.answer or item.tokens for item in items)  # the model's own to give
    choosing = Counter(item.subject for item in items[::3])
    assert set(choosing) == set(counts) and max(choosing.values()) - min(choosing.values()) <= 1


def test_everyday_requests_are_asked_in_varied_forms() -> None:
    texts = everyday()
    assert sum(text.endswith("?") for text in texts) / len(texts) < 2 / 3
    openings = Counter(" ".join(text.split()[:2]).lower() for text in texts)
    assert len(openings) >= 75 and max(openings.values()) <= len(texts) / 8


def test_everyday_requests_are_off_the_subject_of_the_behaviors() -> None:
    """No feelings or verdicts, no tone, and nothing about the model."""
    off = {
        *("feel", "feeling", "happy", "sad", "gloomy", "cheerful", "opinion", "favourite", "beautiful", "terrible"),
        *("formal", "formally", "informal", "casual", "casually", "polite", "politely", "slang", "honest", "lie"),
        *("yourself", "ai", "robot", "assistant", "cheat", "steal", "secretly", "agree", "am", "sorry", "think"),
    }  # fmt: skip
    fine = ("Think of a", "I am going to cycle")
    assert [text for text in everyday() if words(text) & off and not text.startswith(fine)] == []
    assert not re.search(
        r"\b([Aa]re|[Dd]o|[Ww]ere|[Dd]id|[Hh]ave) you\b", re.sub("What do you call", "", " ".join(everyday()))
    )


def program(item: CodeItem, body: str) -> str:
    return f"{item.prompt}{body}\n{item.test}\ncheck({item.entry_point})"


def test_solutions_pass_and_broken_ones_fail() -> None:
    """All in two programs, as a start of the sandbox costs more than they do; each broken one must raise by itself."""
    items = [item for item in capability("code", CodeItem) if isinstance(item, CodeItem)]
    assert len(items) >= 12
    try:
        working_way()
    except SandboxError as error:
        pytest.skip(str(error))
    whole = "\n\n".join(program(item, item.canonical_solution) for item in items)
    outcome = run_program(whole, allow=True)
    assert outcome.passed, outcome.reason
    broken = [program(item, f"    return {value}\n") for item in items for value in ("None", "0", "''", "[]", "True")]
    outcome = run_program(f"count = 0\nfor text in {broken!r}:\n    try:\n        exec(text, {{}})\n"
                          "    except AssertionError:\n        count += 1\n"
                          f"assert count == {len(broken)}, count", allow=True)  # fmt: skip
    assert outcome.passed, outcome.reason
    mutated = program(items[0], items[0].canonical_solution.replace('"aeiou"', '"aeio"'))
    assert mutated != program(items[0], items[0].canonical_solution)
    assert not run_program(mutated, allow=True).passed


def test_the_examples_in_docstrings_are_right() -> None:
    """What a docstring shows must be what the solution gives, or the model is told something wrong."""
    import doctest

    for item in capability("code", CodeItem):
        assert isinstance(item, CodeItem)
        names: dict[str, object] = {}
        exec(item.prompt + item.canonical_solution, names)  # our own code, from this repository
        [test] = doctest.DocTestFinder().find(names[item.entry_point], item.entry_point, globs=names, module=False)
        assert test.examples, item.id
        assert doctest.DocTestRunner(verbose=False).run(test).failed == 0, item.id


# All of them


def test_typography_is_plain() -> None:
    for place, line in lines():
        assert line.isascii(), place
    for text in texts():
        assert "  " not in text and text.rstrip() == text, text
        assert not re.search(r" [,.;:!?](\s|$)|``|''|--", text), text
        assert text.count('"') % 2 == 0 or text.startswith(' "'), text


def test_nothing_is_coarse() -> None:
    for text in texts():
        assert not words(text) & COARSE, text


def test_every_item_fits_the_embedded_model(embedded: Engine) -> None:
    prompts: list[Prompt] = [prompt for name in BEHAVIOR_SETS for pair in behavior_set(name).pairs
                             for prompt in (pair.positive, pair.negative)]  # fmt: skip
    prompts += [item.prompt for item in behaviors()]
    for name in CAPABILITY_SETS:
        for item in capability_set(name):
            if isinstance(item, ChoiceItem):
                prompts.append(choice_prompt(item))
            else:
                prompts.append(item.text if isinstance(item, TextItem) else item.prompt)
    for prompt in prompts:
        tokens = embedded.encode(prompt)
        assert 0 < len(tokens) <= 512
        text = prompt if isinstance(prompt, str) else said(prompt)
        assert text in embedded.detokenize(tokens)


@all_behaviors
def test_continuations_can_be_scored_with_the_embedded_model(name: str, embedded: Engine) -> None:
    found = behavior_set(name)
    work = behavior_work(embedded, found.items)
    texts_given = sum(len(item.aligned) + len(item.misaligned) for item in found.items)
    assert len(work.continuations) >= texts_given  # none extends another, as tokens either


@all_behaviors
def test_a_vector_comes_of_the_pairs(name: str, embedded: Engine) -> None:
    vector = extract(embedded, behavior_set(name).pairs[::12], layers=(5,))
    assert vector.layers == (5,)
    np.testing.assert_allclose(np.linalg.norm(vector.directions[5]), 1, rtol=1e-5)  # unit length up to float32 sums


@all_behaviors
def test_pairs_need_no_system_message(name: str) -> None:
    """Some models' templates refuse one."""
    template = ChatTemplate(GEMMA, "<bos>", "<eos>")
    for pair in behavior_set(name).pairs:
        assert isinstance(pair.positive, tuple) and isinstance(pair.negative, tuple)
        assert template.render(pair.positive) != template.render(pair.negative)


def test_a_wrong_name_gets_the_nearest_one() -> None:
    with pytest.raises(TaskError, match="'sycophany' is unknown; did you mean sycophancy"):
        behavior_set("sycophany")
    with pytest.raises(TaskError, match="use one of knowledge, arithmetic, reading, prose, code, everyday"):
        capability_set("zebra")


def test_subjects_are_asked_for_by_name() -> None:
    harmful = behavior_items("refusal:harmful")
    assert len(harmful) == len(behavior_set("refusal").items) // 2
    assert {item.subject for item in harmful} == {"harmful"}
    two = task_items("knowledge:music-and-art:history")
    assert {item.subject for item in two if isinstance(item, ChoiceItem)} == {"music and art", "history"}
    assert task_items("prose") == capability_set("prose")
    with pytest.raises(TaskError, match="sentiment has no part 'words'; use one of endings, persons, verdicts"):
        behavior_items("sentiment:words")


def test_a_lost_file_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin_sets, "FOLDER", tmp_path)
    behavior_set.cache_clear()
    try:
        with pytest.raises(TaskError, match=r"honesty\.card\.json: .*; reinstall steercpp"):
            behavior_set("honesty")
    finally:
        behavior_set.cache_clear()


def test_the_files_are_those_that_are_named() -> None:
    expected = {f"{name}.{end}" for name in BEHAVIOR_SETS for end in ("pairs.jsonl", "behavior.jsonl", "card.json")}
    expected |= {f"{name}.{kind}.jsonl" for name, kind in builtin_sets._KINDS.items()}
    expected |= {f"{name}.requests.jsonl" for name in (*BEHAVIOR_SETS, GENERAL)}
    assert {path.name for path in builtin_sets.FOLDER.iterdir()} == expected


def test_fewer_items_are_whole_couples_evenly_spread() -> None:
    items = behavior_set("refusal").items
    kept = spread(items, 48)
    assert len(kept) == 48 and set(Counter(item.couple for item in kept).values()) == {2}
    places = sorted({items.index(item) // 2 for item in kept})
    assert max(np.diff(places)) <= 2 and spread(items, 72) == items and len(spread(items, 1)) == 2
