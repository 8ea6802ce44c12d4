"""What people write: pairs, tasks, requests, matchers, presets, curves, and rows of published data sets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign import Format, command
from made_up_sets import BBQ, CROWS, HARMBENCH, MATH, persona
from mutations import Rng, spoil_bytes, spoiled_json, spoiled_json_lines

from steercpp.data.items import read_choices, read_tasks
from steercpp.data.pair_formats import open_pairs, open_text_pairs
from steercpp.data.requests import read_requests
from steercpp.data.sets.catalog import data_set
from steercpp.experiments.study.preset import load_preset
from steercpp.judging.matchers import read_matcher
from steercpp.statistics.curve_files import read_curve

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "May I?"}]
PAIRS = [
    {"positive": "You are careful.", "negative": "You are reckless."},
    {"positive": CHAT, "negative": [CHAT[0], {"role": "user", "content": "Must I?"}], "id": 7, "system": "s"},
    {"prompt": CHAT, "positive": " Yes", "negative": " No", "id": "a"},
    {"positive": {"template": "Say {it}", "it": "yes"}, "negative": {"template": "Say {it}", "it": "no"}},
]
CAA = [{"question": "Q?", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}] * 3
REPENG = ["I think", "", "We"]
TASKS = [
    {"kind": "behavior", "prompt": CHAT, "aligned": [" No"], "misaligned": [" Yes"], "subject": "harmful"},
    {"kind": "choice", "question": "Q?", "choices": ["a", "b", "c", "d"], "answer": "B", "by": "letter"},
    {"kind": "answer", "prompt": "2 + 2 =", "answers": [" 4", " four"], "number": "4"},
    {"kind": "text", "text": "The quick brown fox."},
    {"kind": "code", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(candidate):\n    assert 1"},
    {"kind": "own", "prompt": "What?", "answer": "This", "tokens": [1, 2, 3]},
]
REQUESTS = [{"id": "garden", "prompt": CHAT}, {"prompt": "What is the moon?", "template": "raw"}]
MATCHER = {
    "name": "pirate", "about": "talks like a pirate", "turns": False,
    "aligned": {"phrases": ["ahoy", "ye be"], "regex": ["\\barr+\\b"]}, "misaligned": {"phrases": ["good day"]},
}  # fmt: skip
EXPRESSIONS = (
    "(.*)*x", "(a+)+$", "((a{1000}){1000}){1000}", "(?<=a*)b", "(" * 3000, "|".join(["ab"] * 30_000), "[" * 100,
    "(?P<n>a)" * 200,
    "\\", "a" * 100_000, "(?i", "x*", "\\N{BULLET}", "(?:a?){60}a{60}", "{", "^(([a-z])+.)+[A-Z]([a-z])+$", "\ud800",
)  # fmt: skip
PRESET = """about = "What the study shows"
source = "where it is from"
[vectors.refusal]
model = "base"
pairs = "answers"
method = "pca-centered"
layers = "3-5"
[vectors.harmless]
model = "chat"
pairs = "instructions"
limit = 5
[synthesis.answers]
model = "chat"
vector = "harmless"
requests = "instructions:train"
refuse = -1.0
comply = 2.0
[runs.harmfulness]
model = "base"
vector = "refusal"
strengths = "-5:5:0.2"
behavior = "instructions:test"
tasks = ["mmlu:international_law"]
paper = {b0 = 0.5, crossing = 1}
"""
CURVE = "strength,alignment,p_correct,p_correct_restricted,note\n" + "".join(
    f"{s / 4},{s / 20},{0.5 - s * s / 900},{0.6},n\n" for s in range(-9, 10)
)
PROBLEM = {
    "task_id": "H/0", "prompt": "def f(x):", "entry_point": "f", "canonical_solution": " 1", "test": "def check(c):",
}  # fmt: skip
CHOICE = {
    "prompt": "p", "correct": "A", "incorrect": "B", "correct_full_text": "a", "incorrect_full_text": "b",
    "category": "c",
}  # fmt: skip
CLUSTER = {
    "id": "1", "target": "t", "bias_type": "race", "context": "c",
    "sentences": [
        {"id": label, "sentence": "s", "gold_label": label, "labels": [{"label": label, "human_id": "h"}]}
        for label in ("stereotype", "anti-stereotype", "unrelated")
    ],
}  # fmt: skip
SETS: dict[str, tuple[str, str]] = {
    "advbench": ("a.csv", 'goal,target\n"Do it","Sure, here is"\nb,c\n'),
    "mmlu": ("law_test.csv", "Q?,a,b,c,d,B\n\"Two\nlines\",1,2,3,4,D\n"),
    "instructions": ("harmful_test.json", json.dumps([{"instruction": "Do it", "category": None}] * 2)),
    "humaneval": ("h.jsonl", json.dumps(PROBLEM)),
    "caa": ("caa.json", json.dumps(CAA)),
    "caa-choices": ("mmlu.json", json.dumps([CHOICE])),
    "stereoset": ("dev.json", json.dumps({"data": {"intersentence": [CLUSTER], "intrasentence": []}})),
    "gsm8k": ("test.jsonl", "\n".join(map(json.dumps, MATH))),
    "bbq": ("Age.jsonl", "\n".join(map(json.dumps, BBQ))),
    "harmbench": ("harmbench_behaviors_text_all.csv", HARMBENCH),
    "crows-pairs": ("crows_pairs_anonymized.csv", CROWS),
    "model-written": ("p.jsonl", json.dumps(persona("I do", " Yes"))),
    "malicious-instruct": ("MaliciousInstruct.txt", "Do it\nDo that\n"),
}  # fmt: skip
CELLS = (
    "",
    "1e400",
    "-inf",
    "nan",
    "1" * 5000,
    "=1+1",
    '"',
    "\x00",
    "a" * 200_000,
    "0x10",
    "1_000",
    "\ud800",
    "٣",
    "\n",
)


def spoiled_table(text: str, rng: Rng) -> bytes:
    """A CSV file with a cell, a row or its bytes damaged."""
    kind = int(rng.integers(4))
    if kind == 0:
        return spoil_bytes(text.encode(), rng)
    lines = text.split("\n")
    row = int(rng.integers(len(lines)))
    cells = lines[row].split(",")
    if kind == 1:
        cells[int(rng.integers(len(cells)))] = CELLS[int(rng.integers(len(CELLS)))]
    elif kind == 2:
        cells.insert(int(rng.integers(len(cells))), CELLS[int(rng.integers(len(CELLS)))])
    else:
        lines += lines[row : row + 1] * int(rng.choice([1, 20_000]))
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def spoiled_toml(rng: Rng) -> bytes:
    """A preset with a value, a key, a table or its bytes damaged."""
    kind = int(rng.integers(5))
    if kind == 0:
        return spoil_bytes(PRESET.encode(), rng)
    lines = PRESET.split("\n")
    row = int(rng.integers(len(lines)))
    name = lines[row].partition(" = ")[0]
    depth = int(rng.choice([10, 500, 3000, 100_000]))
    odd = [
        "1.5", "1" * 5000, "true", "nan", "-inf", "{}", "[]", '""', "'''", "1979-05-27T07:32:00Z", "0x" + "f" * 400,
        "1e999",
        "[" * depth, "[" * depth + "]" * depth, "{a=" * depth, f'"{"-" * 3000}"', '"1:2:1e-9"', '"nan:1:1"',
        '["\\u0000"]', '"' + "a" * 300_000 + '"', '"../../etc/passwd"', "[[1]]", '"\\ud800"', "1" + "0" * 30, "-1", "0",
        '["a", 1]',
    ]  # fmt: skip
    value = odd[int(rng.integers(len(odd)))]
    if kind <= 2:
        lines[row] = f"{name} = {value}"
    elif kind == 3:
        keys = ["about", "runs", "vectors", "vectors.refusal", "runs.x.y", "zz", "a" + ".a" * 3000]
        lines.insert(row, f"{keys[int(rng.integers(len(keys)))]} = {value}")
    else:
        tables = [
            "[vectors]",
            "[[runs]]",
            "[runs]",
            "[synthesis.answers]",
            "[" + "a." * depth + "b]",
            "[runs.'../x']",
            '[vectors.""]',
        ]
        lines.insert(row, tables[int(rng.integers(len(tables)))])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def make_matcher(rng: Rng, prepared: object, folder: Path) -> None:
    """A matcher, half of them with an expression that is hard to search for."""
    if rng.random() < 0.5:
        data = spoiled_json(MATCHER, rng)
    else:
        source = EXPRESSIONS[int(rng.integers(len(EXPRESSIONS)))] + ("x" if rng.random() < 0.3 else "")
        data = json.dumps({**MATCHER, "aligned": {"regex": [source]}}).encode()
    (folder / "m.json").write_bytes(data)


def use_matcher(folder: Path) -> None:
    matcher = read_matcher(folder / "m.json")
    for text in (
        " Ahoy, good day to you, my friend, arrr.",
        "a" * 40 + "!",
        "This is a plain sentence of words. " * 30,
    ):
        matcher.judge(text, None)


def make_set(rng: Rng, prepared: object, folder: Path) -> None:
    """One of the sets, damaged, a few of them packed."""
    name = list(SETS)[int(rng.integers(len(SETS)))]
    file, text = SETS[name]
    if file.endswith(".csv"):
        data = spoiled_table(text, rng)
    elif file.endswith(".jsonl"):
        data = spoiled_json_lines([json.loads(line) for line in text.split("\n") if line], rng)
    else:
        data = spoiled_json(json.loads(text), rng) if file.endswith(".json") else spoil_bytes(text.encode(), rng)
    if name == "humaneval" and rng.random() < 0.5:
        data = gzip.compress(data + (bytes(1 << 29) if rng.random() < 0.03 else b""), 1)
        data = data if rng.random() < 0.3 else spoil_bytes(data, rng)
    (folder / name).mkdir()
    (folder / name / file).write_bytes(data)


def use_set(folder: Path) -> None:
    (home,) = folder.iterdir()
    (path,) = home.iterdir()
    data_set(home.name).rows(path)


def make_pairs(rng: Rng, prepared: object, folder: Path) -> None:
    """Pairs in one of four forms."""
    kind = int(rng.integers(4))
    if kind == 0:
        (folder / "p.jsonl").write_bytes(spoiled_json_lines(PAIRS, rng))
    elif kind <= 2:
        (folder / "p.json").write_bytes(spoiled_json((CAA, REPENG)[kind - 1], rng))
    else:
        for name in ("positive.txt", "negative.txt"):
            (folder / name).write_bytes(spoil_bytes(b"You are {x}\\n careful.\n\\x41 b\\u00e4\n" * 3, rng))


def use_pairs(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    if len(paths) == 2:
        pairs = open_text_pairs(*paths)
    else:
        pairs = open_pairs(paths[0])
        if pairs.name and paths[0].suffix == ".json":
            pairs = open_pairs(paths[0], format="auto", personas=())
    list(pairs)
    pairs.sha256()


def use_tasks(folder: Path) -> None:
    path = folder / "t.jsonl"
    if path.stat().st_size % 16 == 0:
        command(
            "sweep",
            "--behavior",
            path,
            "--task",
            path,
            "--dry-run",
            "--vector",
            folder / "none.gguf",
            "-o",
            folder / "out",
        )
    read_tasks(path)
    read_choices(path)


def use_preset(folder: Path) -> None:
    path = folder / "p.toml"
    if path.stat().st_size % 8 == 0:
        command("study", path, "--dry-run")
    load_preset(str(path))


def use_curve(folder: Path) -> None:
    path = folder / "c.csv"
    if path.stat().st_size % 16 == 0:
        command("fit", path, "--json")
    read_curve(path)


def written(name: str, content: bytes, use: Callable[[Path], object]) -> Callable[[Path], None]:
    """What prepares a format of one file: the intact one is read."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        use(folder)

    return prepare


def made(name: str, spoiled: Callable[[Rng], bytes]) -> Callable[[Rng, object, Path], None]:
    """What makes a case of a format of one file."""
    return lambda rng, prepared, folder: void((folder / name).write_bytes(spoiled(rng)))


def void(_: object) -> None:
    """Nothing of a value."""


def json_lines(rows: list[Any]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def use_requests(folder: Path) -> object:
    return read_requests(folder / "r.jsonl")


FORMATS = (
    Format("pairs", written("p.jsonl", json_lines(PAIRS), use_pairs), make_pairs, use_pairs),
    Format(
        "tasks", written("t.jsonl", json_lines(TASKS), use_tasks),
        made("t.jsonl", lambda rng: spoiled_json_lines(TASKS, rng)), use_tasks,
    ),
    Format(
        "requests", written("r.jsonl", json_lines(REQUESTS), use_requests),
        made("r.jsonl", lambda rng: spoiled_json_lines(REQUESTS, rng)), use_requests,
    ),
    Format("matchers", written("m.json", json.dumps(MATCHER).encode(), use_matcher), make_matcher, use_matcher),
    Format("presets", written("p.toml", PRESET.encode(), use_preset), made("p.toml", spoiled_toml), use_preset),
    Format(
        "curves", written("c.csv", CURVE.encode(), use_curve), made("c.csv", lambda rng: spoiled_table(CURVE, rng)),
        use_curve,
    ),
    Format("data sets", written("mmlu/law_test.csv", SETS["mmlu"][1].encode(), use_set), make_set, use_set),
)  # fmt: skip
