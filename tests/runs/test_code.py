"""Running the code that a model has said: the hostile programs of every list, verdicts that are kept, and refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from places import SECRET
from small_sweep import small_vector, write_items

from steercpp.cli.main import main
from steercpp.data.items import CodeItem, item_json
from steercpp.doctor import installation as doctor
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import RunError, SandboxError
from steercpp.judging.sandbox import WAYS, ProgramOutcome, SandboxLimits, why_not
from steercpp.judging.texts import GeneratedText, Verdict
from steercpp.runs import code as code_runs
from steercpp.runs.code import judge_code, judge_run, stored_code_scores, verdict_label
from steercpp.runs.store import Store
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.texts import TextPlan, generate_texts, text_job

LABEL = verdict_label("vector", "whole")
RIGHT, WRONG = "    return a + b\n", "    return a - b\n"
ADD = CodeItem("add", 'def add(a, b):\n    """Their sum."""\n', "add", "def check(f):\n    assert f(1, 2) == 3\n")
# Passes where the function comes to its end: each program below does so only where its attack has worked.
ANY = CodeItem("any", 'def go():\n    """Do something."""\n', "go", "def check(f):\n    f()\n")


@pytest.fixture
def sandbox(way: str) -> str:
    """Each way to start the sandbox that works here; where none does, tests of the refusal are what is left."""
    return way


def said(item: int, text: str, *, strength: float = 0.0, sample: int = 0) -> GeneratedText:
    return GeneratedText(strength, item, sample, text, 5, "end", -1.0)


def filled(path: Path, items: Sequence[CodeItem], texts: Sequence[GeneratedText]) -> Store:
    """A store with what a sweep's model has said of these items."""
    store = Store.create(path, plan_sha256="p")
    store.add_items("code", items, ())
    for number in {one.item for one in texts}:
        mine = [one for one in texts if one.item == number]
        store.add_texts("vector", "code", number, mine, token_layers=1, token_layers_plain=1)
    return store


def body(source: str) -> str:
    return "".join(f"    {line}\n" for line in source.splitlines())


def hostile(home: Path, port: int, holder: int) -> dict[str, str]:
    """The programs that must be contained, each as an answer; harmless to a machine where the walls would fail."""
    return {
        # Bounded, so that a failing limit does not take the machine along; the endless one comes last.
        "fork bomb": "import os, time\nfor _ in range(64):\n    if not os.fork(): time.sleep(30)",
        "endless loop": "while True: pass",
        "10 GB": "import os\nblock = bytearray(10 ** 10)",
        "home": f"open({str(home / 'steercpp-was-here')!r}, 'w').write('x')",
        "socket": f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)",
        "environment": f"import os\nassert {SECRET!r} in ''.join(os.environ.values())",
        "parent's /proc": f"assert {SECRET!r} in open('/proc/{holder}/environ').read()",
        "every /proc": "import glob\ntext = b''\nfor path in glob.glob('/proc/[0-9]*/*'):\n"
        "    try: text += open(path, 'rb').read()\n    except OSError: pass\n"
        f"assert {SECRET[::-1]!r}[::-1].encode() in text",
        "1 GB": "for _ in range(1000): print('x' * 10 ** 6)",
        "the parent": f"import os\nos.kill({os.getpid()}, 0)",
        "its supervisor": "import os, time\nfirst = os.getppid()\nos.kill(first, 9)\ntime.sleep(0.2)\n"
        "assert os.getppid() != first",
        "everyone": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    }  # fmt: skip


@pytest.mark.slow
def test_hostile_answers_are_contained_and_fail(
    sandbox: str, tmp_path: Path, secret_holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERCPP_SECRET", SECRET)
    home = Path.home()
    before = set(home.glob("[!.]*"))  # caches, which another test may be making, begin with a dot
    # Time to spare for a busy machine: but for the loop none of them needs any.
    limits = SandboxLimits(timeout_s=3, output_bytes=1 << 16)
    with socket.create_server(("127.0.0.1", 0)) as server:
        programs = hostile(home, server.getsockname()[1], secret_holder)
        texts = [said(i, body(source)) for i, source in enumerate(programs.values())]
        with filled(tmp_path / "s.sqlite", [ANY] * len(texts), texts) as store:
            assert judge_code(store, [ANY] * len(texts), allow=True, limits=limits, sandbox=sandbox) == len(texts)
            verdicts = store.verdicts(LABEL, "code")
            scores = stored_code_scores(store, [0.0])
    reasons = {name: one.reason for name, one in zip(programs, verdicts, strict=True)}
    assert not any(one.passed for one in verdicts), reasons
    assert reasons["fork bomb"].startswith("BlockingIOError")
    assert reasons["endless loop"] == "stopped after 3 s"
    assert reasons["10 GB"] == "MemoryError"
    assert reasons["home"].startswith(("FileNotFoundError", "PermissionError", "OSError"))
    assert reasons["socket"].startswith(("OSError", "ConnectionRefusedError"))
    assert reasons["environment"] == reasons["every /proc"] == reasons["its supervisor"] == "AssertionError"
    assert reasons["parent's /proc"].startswith("FileNotFoundError")
    assert reasons["1 GB"] == "printed more than 65536 bytes"
    assert reasons["the parent"].startswith("ProcessLookupError") and reasons["everyone"].startswith("ProcessLookupE")
    assert set(home.glob("[!.]*")) == before
    os.kill(secret_holder, 0)
    assert scores is not None and scores.mean_pass_at(1) == [0.0]
    # Now that processes are known to be counted, a bomb without end.
    bomb = said(0, body("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"))
    with filled(tmp_path / "bomb.sqlite", [ANY], [bomb]) as store:
        judge_code(store, [ANY], allow=True, limits=SandboxLimits(timeout_s=2), sandbox=sandbox)
        assert [one.reason for one in store.verdicts(LABEL, "code")] == ["stopped after 2 s"]


def test_answers_are_scored(sandbox: str, tmp_path: Path) -> None:
    texts = [
        said(0, RIGHT),
        said(0, WRONG, sample=1),
        said(0, WRONG, strength=1.0),
        said(0, "(", strength=1.0, sample=1),
    ]
    with filled(tmp_path / "s.sqlite", [ADD], texts) as store:
        assert stored_code_scores(store, [0.0, 1.0]) is None
        told: list[tuple[int, int, str]] = []
        n = judge_code(store, [ADD], allow=True, sandbox=sandbox, progress=lambda *seen: told.append(seen))
        assert n == 4 and told[-1] == (4, 4, "programs")
        scores = stored_code_scores(store, [0.0, 1.0])
        assert scores is not None and scores.passed.tolist() == [[1], [0]] and scores.n_samples == 2
        reasons = [one.reason for one in store.verdicts(LABEL, "code")]
        assert reasons[:3] == ["", "AssertionError", "AssertionError"] and reasons[3].startswith("SyntaxError")
        # The study's extraction has verdicts of its own beside these.
        assert stored_code_scores(store, [0.0, 1.0], way="wolf2024") is None
        judge_code(store, [ADD], allow=True, sandbox=sandbox, way="wolf2024")
        assert stored_code_scores(store, [0.0, 1.0], way="wolf2024") is not None


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that would run, of which those with "+" pass and the third fails with an error of ours."""
    sources: list[str] = []
    lock = threading.Lock()

    def run(source: str, **_: object) -> ProgramOutcome:
        with lock:
            sources.append(source)
            if len(sources) == 3:
                raise SandboxError("the walls fell")
        return ProgramOutcome("+" in source, "" if "+" in source else "no", "")

    monkeypatch.setattr(code_runs, "run_program", run)
    monkeypatch.setattr(code_runs, "working_way", lambda: "none")
    return sources


def test_what_is_judged_is_kept_and_not_run_again(counted: list[str], tmp_path: Path) -> None:
    texts = [said(0, f"    return a + b + {i % 4}\n", sample=i) for i in range(8)]
    with filled(tmp_path / "s.sqlite", [ADD], texts) as store:
        with pytest.raises(SandboxError, match="the walls fell"):
            judge_code(store, [ADD], allow=True, n_processes=1)
        assert {one.sample for one in store.verdicts(LABEL, "code")} == {0, 4, 1, 5}
        assert stored_code_scores(store, [0.0]) is None
        assert judge_code(store, [ADD], allow=True, n_processes=1) == 4
        # Four programs of eight texts, the third of which was tried twice.
        assert len(counted) == 5 and len(set(counted)) == 4
        assert judge_code(store, [ADD], allow=False) == 0  # all there: nothing runs, so nothing need be allowed
        scores = stored_code_scores(store, [0.0])
    assert scores is not None and scores.passed.tolist() == [[8]]


def test_where_nothing_was_said_nothing_passes(counted: list[str], tmp_path: Path) -> None:
    lost = GeneratedText(9.0, 0, 0, "", 0, "nonfinite", None)
    with filled(tmp_path / "s.sqlite", [ADD], [lost]) as store:
        judge_code(store, [ADD], allow=True)
        assert store.verdicts(LABEL, "code") == (Verdict(9.0, 0, 0, False, code_runs.NO_TEXT),)
    assert counted == []


def test_what_a_model_says_is_judged(tiny_engine: Engine, sandbox: str, tmp_path: Path) -> None:
    """From the model to the scores: a random model's answers are wrong, each of them said, run and counted."""
    text_plan = TextPlan(max_tokens=4, samples=2, temperature=1.0)
    job = text_job(tiny_engine, [ADD, ANY], [(ADD.prompt, "raw"), (ANY.prompt, "raw")], text_plan, kind="code")
    steering = Steering(small_vector(tiny_engine))
    with Store.create(tmp_path / "s.sqlite", plan_sha256="p") as store:
        store.add_items("code", [ADD, ANY], ())
        generate_texts(tiny_engine, store, job, text_plan, steering=steering, strengths=[0.0, 1.0])
        assert judge_code(store, [ADD, ANY], allow=True, sandbox=sandbox) == 8
        scores = stored_code_scores(store, [0.0, 1.0])
    assert scores is not None and scores.passed.shape == (2, 2) and scores.n_samples == 2
    assert scores.passed[:, 0].tolist() == [0, 0]  # adding takes more than four random tokens


def test_a_folder_is_judged_without_its_model(counted: list[str], tmp_path: Path) -> None:
    filled(tmp_path / "sweep.sqlite", [ADD], [said(0, RIGHT), said(0, WRONG, sample=1)]).close()
    with pytest.raises(SandboxError, match="allow_code=True"):
        judge_run(tmp_path, allow=False)
    assert counted == []
    assert judge_run(tmp_path, allow=True, way="wolf2024") == 2
    with Store.read(tmp_path / "sweep.sqlite") as store:
        scores = stored_code_scores(store, [0.0], way="wolf2024")
    assert scores is not None and scores.passed.tolist() == [[1]]
    (tmp_path / "empty").mkdir()
    Store.create(tmp_path / "empty" / "sweep.sqlite", plan_sha256="p").close()
    with pytest.raises(RunError, match="holds no code"):
        judge_run(tmp_path / "empty", allow=True)


def test_texts_of_other_items_are_refused(counted: list[str], tmp_path: Path) -> None:
    store = filled(tmp_path / "s.sqlite", [ADD, ANY], [said(1, RIGHT)])
    with store, pytest.raises(RunError, match="more code items than the 1"):
        judge_code(store, [ADD], allow=True)
    assert counted == []


def _refuses(prepare: Callable[[], object], words: str, tmp_path: Path, *, allow: bool) -> None:
    with filled(tmp_path / "s.sqlite", [ADD], [said(0, RIGHT)]) as store:
        prepare()
        with pytest.raises(SandboxError, match=words):
            judge_code(store, [ADD], allow=allow)
        assert store.verdicts(LABEL, "code") == ()
        assert [one.text for one in store.texts("vector", "code")] == [RIGHT]


def test_nothing_runs_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    _refuses(lambda: None, "allow_code=True.*texts are kept", tmp_path, allow=False)


def test_nothing_runs_without_walls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty PATH there is neither bwrap nor unshare."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    words = "bwrap.*not found.*unshare.*not found.*install bubblewrap.*texts are kept"
    _refuses(lambda: monkeypatch.setenv("PATH", str(tmp_path / "bin")), words, tmp_path, allow=True)


def test_a_sweep_keeps_its_texts_where_code_may_not_run_and_goes_on_where_it_may(
    tiny_engine: Engine, tmp_path: Path
) -> None:
    asked: dict[str, object] = {
        "code": [ADD, ANY], "strengths": [1.0], "out": tmp_path / "run", "random_directions": 0,
        "said": TextPlan(max_tokens=3, code_template="wolf2024/humaneval-chat"),
    }  # fmt: skip
    vector = small_vector(tiny_engine)
    with pytest.raises(SandboxError, match="allow_code=True"):
        sweep(tiny_engine, vector, **asked)  # type: ignore[arg-type]
    before = tiny_engine.token_layers
    if all(why_not(name) for name in WAYS):
        with pytest.raises(SandboxError, match="install bubblewrap"):
            sweep(tiny_engine, vector, allow_code=True, **asked)  # type: ignore[arg-type]
        return
    result = sweep(tiny_engine, vector, allow_code=True, **asked)  # type: ignore[arg-type]
    assert tiny_engine.token_layers == before and result.finished
    # Asked in the study's words, so read in its way too.
    for scores in (result.code, result.code_by("wolf2024")):
        assert scores is not None and scores.passed.shape == (2, 2) and scores.passed[:, 0].tolist() == [0, 0]


def test_the_command_says_what_is_missing(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the user's word, and with it but without walls: exit 1, one sentence, and the texts are there."""
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    Path("code.jsonl").write_text(json.dumps(item_json(ADD)) + "\n")
    command = [
        "sweep", str(tiny_path), "--pairs", "p.jsonl", "--task", "code.jsonl", "--strengths", "1", "--out", "run",
        "--max-new-tokens", "3", "--threads", "1",
    ]  # fmt: skip
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1 and "takes --allow-code-execution" in result.stderr, result.output
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, [*command, "--allow-code-execution"])
    assert result.exit_code == 1 and "install bubblewrap" in result.stderr and "Traceback" not in result.output
    with Store.read(tmp_path / "run" / "sweep.sqlite") as store:
        assert len(store.texts("vector", "code")) == 2 and store.verdicts(LABEL, "code") == ()


def test_the_doctor_tells_whether_code_could_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._sandbox()
    assert found in WAYS or all(why_not(name) for name in WAYS)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install bubblewrap" in doctor._sandbox()


def test_an_answer_passes_if_one_of_its_readings_does(sandbox: str, tmp_path: Path) -> None:
    """With what is needed, whole, or the first definition alone; of a failure the first reading's reason is told."""
    answers = {
        "shown with input": f"```python\ndef add(a, b):\n{RIGHT}\nn = int(input())\nprint(add(n, n))\n```",
        "filled by a loop": "```python\nADDED = {}\nfor a in range(4):\n    for b in range(4):\n"
        "        ADDED[a, b] = a + b\n"
        "def add(a, b):\n    return ADDED[a, b]\n```",
        "another version": f"{RIGHT}\ndef add(a, b):\n    return 0\n",
        "whole alone": "```python\nimport builtins\nclass Maker:\n    def __del__(self):\n"
        "        builtins.adding = lambda a, b: a + b\nMaker()\ndef add(a, b):\n    return adding(a, b)\n```",
        "a draft thought of": f"<think>\n```python\ndef add(a, b):\n{WRONG}```\n</think>\n{RIGHT}",
        "wrong": f"```python\ndef add(a, b):\n{WRONG}\nprint(add(1, 2))\n```",
    }  # fmt: skip
    texts = [said(i, text) for i, text in enumerate(answers.values())]
    with filled(tmp_path / "s.sqlite", [ADD] * len(texts), texts) as store:
        assert judge_code(store, [ADD] * len(texts), allow=True, sandbox=sandbox) == len(texts)
        reasons = {name: one.reason for name, one in zip(answers, store.verdicts(LABEL, "code"), strict=True)}
    assert reasons == {**dict.fromkeys(answers, ""), "wrong": "AssertionError"}


def test_a_text_that_ended_inside_its_thoughts_has_nothing_to_run(counted: list[str], tmp_path: Path) -> None:
    with filled(tmp_path / "s.sqlite", [ADD], [said(0, f"<think>\ndef add(a, b):\n{RIGHT}")]) as store:
        judge_code(store, [ADD], allow=True)
        assert [one.reason for one in store.verdicts(LABEL, "code")] == [code_runs.NO_ANSWER]
    assert counted == []
