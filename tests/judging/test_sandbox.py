"""The sandbox: HumanEval's own solutions pass in it, hostile programs do not get out, and without walls nothing runs.

Each hostile program comes to its end without an error only where its attack has worked, so a pass is an escape.
"""

from __future__ import annotations

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import SECRET

from steercpp.data.sets.knowledge import read_humaneval
from steercpp.errors import InputError, SandboxError
from steercpp.judging import sandbox_walls
from steercpp.judging.programs import program
from steercpp.judging.sandbox import (
    UNREADABLE,
    WAYS,
    Program,
    ProgramOutcome,
    SandboxLimits,
    _outcome,
    run_program,
    why_not,
)


def run(source: str, way: str, **limits: float) -> ProgramOutcome:
    return run_program(source, allow=True, way=way, limits=SandboxLimits(**limits))  # type: ignore[arg-type]


@pytest.mark.slow
def test_humaneval_solutions_pass(test_data: Path) -> None:
    problems = read_humaneval(test_data / "datasets" / "humaneval" / "HumanEval.jsonl.gz")
    assert len(problems) == 164
    way = next((name for name in WAYS if not why_not(name)), None)
    if way is None:
        pytest.skip("no sandbox works here: " + "; ".join(f"{name}: {why_not(name)}" for name in WAYS))
    # As a model's answers are. Generous time: they take under a second alone, but the machine may be busy.
    programs = [program(one, one.canonical_solution) for one in problems]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda source: run(source, way, timeout_s=60), programs))
    failed = {one.task_id: end.reason for one, end in zip(problems, outcomes, strict=True) if not end.passed}
    assert failed == {}
    # The same first problem with a wrong body fails, so that a pass says something.
    assert run(program(problems[0], "    return None\n"), way).reason == "AssertionError"


def test_a_python_of_many_libraries(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of mounts and the modules were one word of a command, which the kernel holds to 128 KiB."""
    shown = [tmp_path / f"a-long-folder-{'x' * 100}" / f"lib{i}.so" for i in range(60)]
    shown[0].parent.mkdir()
    for path in shown:
        path.touch()
    real = sandbox_walls.visible()
    monkeypatch.setattr(sandbox_walls, "visible", lambda: [*real, *map(str, shown)])
    assert run("pass", way) == ProgramOutcome(True, "", "")


def test_what_does_not_start_is_a_sandbox_error(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WAYS[way]
    monkeypatch.setitem(WAYS, way, (lambda root, command: [*real[0](root, command), "x" * (1 << 18)], real[1]))
    with pytest.raises(SandboxError, match="the walls could not be built: .* does not start: Argument list too long"):
        run("pass", way)


def test_output_is_kept(way: str) -> None:
    assert run("import sys; print('out'); print('err', file=sys.stderr)", way) == ProgramOutcome(True, "", "err\nout\n")
    assert run("print('x'); 1 / 0", way).reason == "ZeroDivisionError: division by zero"


def test_leaving_before_the_tests_is_no_pass(way: str) -> None:
    assert run("raise SystemExit(0)", way) == ProgramOutcome(False, "SystemExit: 0", "")
    assert run("import os; os._exit(0)", way) == ProgramOutcome(False, "left before its end", "")
    # A forked child that comes to the end once passed the program whose first process had left.
    assert run("import os, time\nif os.fork(): time.sleep(0.5); os._exit(0)", way).reason == "left before its end"


@pytest.mark.slow
def test_endless_loop_is_stopped(way: str) -> None:
    assert run("while True: pass", way, timeout_s=1) == ProgramOutcome(False, "stopped after 1 s", "")
    assert run("import time\nwhile True: time.sleep(9)", way, timeout_s=1).reason == "stopped after 1 s"


@pytest.mark.slow
def test_processes_are_counted(way: str) -> None:
    """Bounded by itself, so that it is safe where the limit fails; the fork bomb below is run once this holds."""
    source = "import os, time\nfor _ in range(20):\n    if not os.fork(): time.sleep(30)"
    outcome = run(source, way, processes=6)
    assert not outcome.passed and outcome.reason.startswith("BlockingIOError")
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert run(bomb, way, processes=6, timeout_s=2).reason == "stopped after 2 s"


@pytest.mark.slow
def test_memory_is_limited(way: str) -> None:
    """A little past a small limit first, which no machine would mind; 10 GB once this holds."""
    assert run("bytearray(100 << 20)", way, memory_bytes=200 << 20).passed
    assert run("bytearray(300 << 20)", way, memory_bytes=200 << 20).reason == "MemoryError"
    assert run("bytearray(10 ** 10)", way).reason == "MemoryError"


@pytest.mark.slow
def test_a_flood_of_output_is_cut(way: str) -> None:
    outcome = run("for _ in range(1000): print('x' * 10 ** 6)", way, output_bytes=5000)
    assert outcome == ProgramOutcome(False, "printed more than 5000 bytes", "x" * 5000)


def test_nothing_is_written_outside_the_temporary_folder(way: str, tmp_path: Path) -> None:
    home = Path.home()
    before = set(home.glob("[!.]*"))  # caches, which another test may be making, begin with a dot
    for target in (home / "steercpp-escaped", tmp_path / "escaped", Path("/usr/escaped"), Path("/escaped")):
        assert not run(f"open({str(target)!r}, 'w').write('x')", way).passed
        assert not target.exists()
    assert set(home.glob("[!.]*")) == before
    mine = Path("/tmp") / f"steercpp-{os.urandom(8).hex()}"  # a name that nobody has
    assert run(f"open({str(mine)!r}, 'w').write('x'); assert open({mine.name!r}).read() == 'x'", way).passed
    assert not mine.exists()
    assert not run("open('large', 'w').write('x' * 10 ** 6)", way, file_bytes=10**5).passed


def test_home_is_not_seen(way: str, tmp_path: Path) -> None:
    (tmp_path / "private").write_text(SECRET)
    assert run(f"open({str(tmp_path / 'private')!r})", way).reason.startswith("FileNotFoundError")
    assert not run(f"open({str(Path(__file__).resolve())!r})", way).passed


def test_there_is_no_network(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        port, name = server.getsockname()[1], f"\0steercpp-{os.getpid()}"
        abstract.bind(name)
        abstract.listen()
        socket.create_connection(("127.0.0.1", port)).close()  # both answer outside
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
        inside = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        # No network at all by unshare; by bwrap a loopback of its own, where nobody listens.
        assert run(inside, way).reason.startswith(("OSError: [Errno 101]", "ConnectionRefusedError"))
        assert not run(f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})", way).passed


def test_secrets_are_not_found(way: str, secret_holder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET in Path(f"/proc/{secret_holder}/environ").read_text()  # there for the taking outside
    monkeypatch.setenv("STEERCPP_SECRET", SECRET)
    # LC_CTYPE is Python's own doing (PEP 538).
    assert run("import os; assert set(os.environ) <= {'LC_CTYPE'}, os.environ", way).passed
    for pid in (secret_holder, os.getpid()):
        for entry in ("environ", "cmdline", "root/etc/hostname", "cwd/pyproject.toml"):
            assert not run(f"open('/proc/{pid}/{entry}').read(1) or 1 / 0", way).passed
    assert not run("import os; open(f'/proc/{os.getppid()}/environ').read()", way).passed
    search = """
import glob
text = b""
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try: text += open(path, "rb").read()
    except OSError: pass
assert bytes.fromhex("HEX") in text
""".replace("HEX", SECRET.encode().hex())
    assert run(search, way).reason == "AssertionError"


def test_the_parent_is_not_killed(way: str, secret_holder: int) -> None:
    for pid in (os.getpid(), secret_holder):
        assert run(f"import os; os.kill({pid}, 9)", way).reason.startswith("ProcessLookupError")
    # Its own parent is the supervisor, process 1, which no signal from within reaches.
    kill = "import os, time; first = os.getppid(); os.kill(first, 9); time.sleep(0.3); assert os.getppid() != first"
    assert run(kill, way).reason == "AssertionError"
    everyone = run("import os; os.kill(-1, 9)", way).reason
    assert everyone.startswith("ProcessLookupError")  # all but itself and process 1: nobody
    os.kill(secret_holder, 0)  # still there


def test_the_verdict_is_out_of_reach(way: str) -> None:
    forge = 'open("/proc/1/fd/1", "w").write(\'{"passed": true, "reason": "", "output": ""}\\n\'); time.sleep(9)'
    assert run(f"import time; {forge}", way).reason.startswith("PermissionError")


def test_nothing_runs_unless_allowed() -> None:
    with pytest.raises(SandboxError, match="allow=True"):
        run_program("pass", allow=False)


def test_nothing_runs_without_walls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    with pytest.raises(SandboxError, match=r"bubblewrap: .*not found.*namespaces: .*install bubblewrap, or util-linux"):
        run_program("pass", allow=True)
    assert started == []


def test_walls_that_cannot_be_built_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in {name for _, tools in WAYS.values() for name in tools}:
        fake = tmp_path / name
        fake.write_text("#!/bin/sh\necho no namespaces for you >&2; exit 1\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="no namespaces for you.*install bubblewrap"):
        run_program("pass", allow=True)


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"timeout_s": float("inf")}, {"memory_bytes": -1}])
def test_limits_must_limit(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(limits))} is"):
        SandboxLimits(**limits)  # type: ignore[arg-type]


PASSED = b'{"passed": true, "reason": "", "output": ""}'


@pytest.mark.parametrize(
    "told",
    [
        b"", b"0000002", b"zzzzzzzz", b"0000002c" + PASSED[:-1], b"0000002c" + PASSED + b"x", PASSED, b"00000002{}",
        b"00000004null", b'0000002d{"passed": 1,    "reason": "", "output": ""}',
        b'0000002d{"passed": true, "reason": "x", "output": ""}', b"000186a0" + b"[" * 100_000, b"00000003\xff\xff\xff",
    ],
    ids=range(12),
)  # fmt: skip
def test_what_the_supervisor_did_not_tell_whole_is_a_failure(told: bytes) -> None:
    """A line that a program cut short ended the judging of a whole run."""
    assert _outcome(b"0000002c" + PASSED) == ProgramOutcome(True, "", "")
    assert _outcome(told) == ProgramOutcome(False, UNREADABLE, "")


def test_a_test_sees_what_a_function_does(way: str) -> None:
    """What it changes, yields and prints, its helpers, and the functions that the problem itself gives."""
    code = "def half(x): return x // 2\ndef go(xs):\n    xs.sort(); print('sorted'); return map(half, xs)\n"
    test = (
        "import io\nfrom contextlib import redirect_stdout\nxs, told = [4, 2], io.StringIO()\n"
        "with redirect_stdout(told): got = list(go(xs))\n"
        "assert (xs, got, told.getvalue()) == ([2, 4], [1, 2], 'sorted\\n'), (xs, got, told.getvalue())\n"
        "assert double(half(9)) == 8\n"
    )
    given = "def double(x): return 2 * x\n"
    assert run(Program.of(code, test, given=given), way) == ProgramOutcome(True, "", "")
    other = code + "def double(x): return 8\n"  # a program's own version of what is given has no say
    assert run(Program.of(other, test.replace("== 8", "== 8 and double(1) == 2"), given=given), way).passed


def test_what_cannot_be_told_to_a_test_fails_with_the_reason(way: str) -> None:
    test = "try:\n    f()\nexcept BaseException:\n    pass\n"
    end = run(Program.of("def f(): return object()\n", test), way)
    assert end.reason == "a value of type object cannot cross between a program and its test"
