"""Files are written in one way: no module outside files/ opens one to write, renames or copies one.

What it looks for is a call by its name; what it finds elsewhere stands below with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

WRITES = {
    "write_text", "write_bytes", "tofile", "savefig", "save", "savez", "savez_compressed", "save_file", "savetxt",
    "copyfile", "copy", "copy2", "copytree", "move", "mkstemp", "mkdtemp", "truncate", "ftruncate", "symlink_to",
    "hardlink_to", "rename", "link", "symlink", "TemporaryFile", "to_csv", "dump",
}  # fmt: skip
OF_MODULES = {"save", "savez", "savez_compressed", "copy", "move", "rename", "link", "symlink", "dump", "truncate"}
MODULES = {"np", "numpy", "os", "shutil", "json", "pickle", "torch"}  # whose functions of these names write files
ELSEWHERE = {
    # the lock of a folder, which is no one's data: it is made, named and removed while it is locked
    ("steercpp/locks.py", "os.open"), ("steercpp/locks.py", "os.ftruncate"), ("steercpp/locks.py", "os.write"),
    # into memory, whose bytes files/ writes
    ("steercpp/vectors/arrays.py", "np.savez"), ("steercpp/reports/style.py", "savefig"),
    ("steercpp/experiments/constants/store.py", "np.savez_compressed"),
    # files without a name, which are gone with their process
    ("steercpp/extraction/activations.py", "TemporaryFile"), ("steercpp/bench/cvector.py", "TemporaryFile"),
    ("steercpp/pipes.py", "TemporaryFile"),
    # to a pipe
    ("steercpp/bench/extraction_process.py", "json.dump"), ("steercpp/bench/memory_process.py", "json.dump"),
    ("steercpp/doctor/stranger.py", "os.fdopen"), ("steercpp/doctor/stranger.py", "json.dump"),
    # a download's draft, which files/ adopts once its hash is right
    ("steercpp/data/sets/download.py", "open"),
}  # fmt: skip
SOURCES = sorted(path for folder in ("steercpp", "cli") for path in (ROOT / folder).rglob("*.py"))


def writes(text: str) -> Iterator[str]:
    """Names of the calls in a module that could write a file."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        module = owner.id if isinstance(owner, ast.Name) and owner.id in MODULES else ""
        said = f"{module}.{name}" if module else name
        if name == "open" and module == "os":
            flags = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            if flags & {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"} and "devnull" not in flags:
                yield said
        elif name in ("open", "fdopen"):
            if _is_to_write(node):
                yield said
        elif name in WRITES and (module or name not in OF_MODULES) or module == "os" and name in ("replace", "write"):
            yield said


def _is_to_write(node: ast.Call) -> bool:
    """Whether a call of open() names a mode that writes, or one that is only known when it runs."""
    modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    is_builtin = isinstance(node.func, ast.Name)
    modes += (
        node.args[1:2] if is_builtin or (isinstance(node.func, ast.Attribute) and node.func.attr == "fdopen") else []
    )
    if not is_builtin and isinstance(node.func, ast.Attribute) and node.func.attr == "open":
        modes += [argument for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return any(
        not isinstance(mode, ast.Constant) or (isinstance(mode.value, str) and set(mode.value) & set("wax+"))
        for mode in modes
    )


def test_only_one_room_writes_files() -> None:
    """What was wrong: vectors were written by ndarray.tofile, which loses the error of a full disk."""
    found = {
        (place, name)
        for path in SOURCES
        if not (place := str(path.relative_to(ROOT))).startswith("steercpp/files/") and "sandbox" not in path.name
        for name in writes(path.read_text(encoding="utf-8"))
    }
    assert found <= ELSEWHERE, f"write these by steercpp/files/: {sorted(found - ELSEWHERE)}"
    assert found >= ELSEWHERE, f"these are no longer there: {sorted(ELSEWHERE - found)}"


@pytest.mark.parametrize(
    "code",
    [
        'open(path, "w")', 'open(path, mode="ab")', 'path.open("wb")', "open(path, how)", "path.write_text(text)",
        "rows.tofile(file)", "np.savez(path, a=a)", "figure.savefig(path)", "os.open(path, os.O_RDWR)",
        "os.replace(a, b)", "shutil.copy(a, b)", "json.dump(x, file)",
    ],
)  # fmt: skip
def test_writing_is_found(code: str) -> None:
    assert list(writes(code))


@pytest.mark.parametrize(
    "code", ['open(path, "rb")', "path.open()", "os.open(path, os.O_RDONLY)", 'name.replace("a", "b")']
)
def test_reading_is_not(code: str) -> None:
    assert not list(writes(code))


def test_the_sources_are_there() -> None:
    assert len(SOURCES) > 200 and all(isinstance(path, Path) for path in SOURCES)
