"""Run folders from strangers: the store's schema, types and bytes, the manifest, and what else lies there."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

from campaign import Format, command
from mutations import Rng, odd_value, spoil_bytes, spoil_document, spoiled_json
from places import EMBEDDED

from steercpp.experiments.constants.store import read_constants
from steercpp.judging.matchers import MATCHERS
from steercpp.provenance import json_sha256
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import judge
from steercpp.runs.result import open_run

BEHAVIOR = [
    {"kind": "behavior", "prompt": f"May I {word}?", "aligned": [" No"], "misaligned": [" Yes"], "subject": subject}
    for word in ("go", "see", "ask") for subject in ("harmful", "harmless")
]  # fmt: skip
TASKS = [
    *({"question": f"Which {i}?", "choices": ["one", "two", "old", "new"], "answer": i % 4} for i in range(4)),
    *({"prompt": f"{i} + 1 =", "answers": [f" {i + 1}", " many"]} for i in range(4)),
    *({"text": f"The {word} of the world is good."} for word in ("time", "day")),
]
RECURSIVE = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM r) SELECT x"
SCHEMES = (
    "ALTER TABLE groups RENAME TO zz; CREATE VIEW groups AS "
    + RECURSIVE
    + " AS label, x AS kind, x AS strength FROM r",
    "CREATE TRIGGER t AFTER INSERT ON verdicts BEGIN DELETE FROM meta; END",
    "CREATE INDEX i ON logprobs(batch)",
    "CREATE TABLE extra (x)",
    "DROP TABLE texts",
    "DROP TABLE said; CREATE TABLE said (label, kind, item, token_layers, token_layers_plain)",
    "ALTER TABLE logprobs ADD COLUMN y DEFAULT 7",
    "CREATE VIEW v AS SELECT randomblob(1000000000)",
    "PRAGMA user_version=7; PRAGMA application_id=5",
    "DELETE FROM logprobs WHERE strength = 0",
    "UPDATE logprobs SET items = substr(items, 5), nats = substr(nats, 9)",
    "UPDATE logprobs SET items = items || items",
    "UPDATE logprobs SET items = CAST(items || items AS BLOB), nats = CAST(nats || nats AS BLOB)",
    "UPDATE logprobs SET items = CAST(x'ffffff7f' || substr(items, 5) AS BLOB)",
    "UPDATE logprobs SET items = x'', nats = x''",
    "UPDATE logprobs SET nats = zeroblob(100000000) WHERE strength = 0",
    "UPDATE meta SET value = 'steercpp sweep 4' WHERE key = 'format'",
    "UPDATE meta SET value = 'steercpp sweep 999999999' WHERE key = 'format'",
    "DELETE FROM items",
    "DELETE FROM groups WHERE strength > 0",
    "DELETE FROM meta",
    "UPDATE logprobs SET nats = CAST(x'000000000000f0ff' || substr(nats, 9) AS BLOB)",
    "UPDATE logprobs SET nats = randomblob(length(nats))",
    "UPDATE continuations SET side = '999999' WHERE kind = 'choice'",
    "UPDATE continuations SET tokens = '[' || hex(zeroblob(100000))",
    "UPDATE items SET record = hex(zeroblob(1000000))",
    "INSERT INTO texts SELECT label, kind, strength, item + 9999999, sample, text, n_tokens, finish, nats FROM texts",
    "INSERT INTO logprobs SELECT label, kind, strength, batch - 100, items, nats FROM logprobs",
)


def prepare(folder: Path) -> Path:
    """A small run of the embedded model, with texts and constants."""
    for name, rows in (("b", BEHAVIOR), ("k", TASKS)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = folder / "run"
    options = ["--strengths", "-0.5:0.5:0.5", "--random", "2", "--threads", "1", "--max-new-tokens", "8"]
    pairs = str(EMBEDDED.parent / "refusal.pairs.jsonl")
    for arguments in (
        ["extract", str(EMBEDDED), "--pairs", pairs, "--limit", "8", "--threads", "1", "-o", str(folder / "v.gguf")],
        ["sweep", str(EMBEDDED), "--vector", str(folder / "v.gguf"), "--behavior", str(folder / "b.jsonl"), "--task",
         str(folder / "k.jsonl"), *options, "-o", str(run)],
        ["constants", str(run), "--threads", "1"],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", "steercpp.cli.main", *arguments], check=True, capture_output=True)
    use(folder)
    command("score", run)
    command("report", run, "-o", folder / "page.html")
    command("constants", run)
    return run


def _repack(run: Path, packed: bytes) -> None:
    """Other arrays, whose hash fits."""
    record = json.loads((run / "constants.json").read_bytes()) | {"arrays_sha256": sha256(packed).hexdigest()}
    (run / "constants.npz").write_bytes(packed)
    (run / "constants.json").write_text(json.dumps(record))


def _change_cell(path: Path, rng: Rng) -> None:
    """Another value, or one of another type, in up to three cells."""
    with sqlite3.connect(path) as connection:
        connection.text_factory = bytes
        for _ in range(int(rng.integers(1, 4))):
            tables = [
                name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            table = tables[int(rng.integers(len(tables)))]
            columns = [row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")]
            column = columns[int(rng.integers(len(columns)))]
            value = odd_value(rng)
            if not isinstance(value, int | float | str) or (isinstance(value, int) and abs(value) >= 2**63):
                value = json.dumps(value).encode()
            if isinstance(value, str):
                value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
            some = (
                ""
                if rng.random() < 0.3
                else " WHERE rowid = 1"
                if rng.random() < 0.01
                else f" WHERE {column} = (SELECT {column} FROM {table} LIMIT 1)"
            )
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?{some}", (value,))
    connection.close()


def _spoil_store(run: Path, rng: Rng) -> None:
    path = run / STORE
    kind = int(rng.integers(4))
    if kind == 0:
        path.write_bytes(spoil_bytes(path.read_bytes(), rng))
        return
    try:
        if kind == 1:
            connection = sqlite3.connect(path)
            connection.executescript(SCHEMES[int(rng.integers(len(SCHEMES)))])
            connection.commit()
            connection.close()
        else:
            _change_cell(path, rng)
    except sqlite3.Error:
        path.write_bytes(spoil_bytes(path.read_bytes(), rng))


def _spoil_manifest(run: Path, rng: Rng) -> None:
    path = run / "manifest.json"
    record = json.loads(path.read_bytes())
    if rng.random() < 0.3:
        path.write_bytes(spoiled_json(record, rng))
        return
    if rng.random() < 0.6:  # the plan is changed, and its hash fits
        record["plan"] = spoil_document(record["plan"], rng)
        try:
            record["plan_sha256"] = json_sha256(record["plan"])
        except ValueError:
            return
        with sqlite3.connect(run / STORE) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'plan_sha256'", (record["plan_sha256"],))
        connection.close()
    else:
        record = spoil_document(record, rng)
    path.write_text(json.dumps(record))


def _spoil_other(run: Path, rng: Rng) -> None:
    name = ("vector.gguf", "constants.json", "constants.npz", "prepared.json")[int(rng.integers(4))]
    path, kind = run / name, int(rng.integers(5))
    if kind == 0 and name != "prepared.json":
        path.write_bytes(spoil_bytes(path.read_bytes(), rng))
    elif kind == 1:
        path.unlink(missing_ok=True)
        os.symlink("/dev/zero", path)
    elif kind == 2 and rng.random() < 0.1:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    elif name == "constants.json":
        path.write_bytes(spoiled_json(json.loads(path.read_bytes()), rng))
    elif name == "prepared.json":
        items = {"behavior": BEHAVIOR}
        document = {
            "format": "steercpp prepared 1", "identity": "x", "signals": [], "items": items, "layers": [1],
            "strengths": [-0.5, 0.0, 0.5], "windows": [], "sides": {}, "continuations": None, "token_layers": {},
            "reason": "",
        }  # fmt: skip
        path.write_bytes(spoiled_json(document, rng))
    else:
        data = io.BytesIO()
        header = b"\x93NUMPY\x01\x00" + (60).to_bytes(2, "little")
        shape = int(rng.choice([4, 1 << 24, 1 << 30, -1]))
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape},), }}".ljust(59).encode() + b"\n"
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", header + text + bytes(int(rng.choice([32, 1 << 22]))))
        _repack(run, data.getvalue())


def make(rng: Rng, prepared: object, folder: Path) -> None:
    """A copy of the run with something spoiled; in most the hash of the rows is taken out, so that they are read."""
    assert isinstance(prepared, Path)
    run = folder / "run"
    shutil.copytree(prepared, run)
    if rng.random() < 0.9:
        record = json.loads((run / "manifest.json").read_bytes())
        del record["rows_sha256"]
        if rng.random() < 0.2:
            record["finished"] = None
        (run / "manifest.json").write_text(json.dumps(record))
    (_spoil_store, _spoil_store, _spoil_manifest, _spoil_other)[int(rng.integers(4))](run, rng)


def use(folder: Path) -> None:
    """As `score` and `report` read it; a few by them."""
    run = folder / "run"
    drawn = (run / "manifest.json").stat().st_size % 16
    if drawn == 0:
        command("report", run, "-o", folder / "page.html")
    if drawn == 1:
        command("constants", run)
    if drawn <= 2:
        command("score", run, "--json")
    read_constants(run)
    result = open_run(run)
    repr(result)
    judgement = judge(result)
    judgement.recommendation  # noqa: B018 - it is computed when it is asked for
    result.to_json()
    result.to_frame()
    for matcher in ("auto", "wolf2024/llama3"):
        result.text_scores(MATCHERS.get(matcher, matcher))
    for strength in result.strengths:
        result.texts(float(strength))


FORMATS = (Format("runs", prepare, make, use),)
