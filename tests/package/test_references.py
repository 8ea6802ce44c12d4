"""Files that docstrings, comments and documents name are there: a reader who follows a name arrives."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from places import ROOT

FILE = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*[\w-]+\.(?:py|cpp|h)\b(?![\w/(-])")
# Names of files that are not ours.
OTHERS = {
    "__init__.py",  # of any room
    "llama.cpp",
    # llama.cpp's files, from its repository's root
    "common/common.cpp",
    "common/sampling.cpp",
    "ggml/include/gguf.h",
    "ggml/src/ggml-backend.cpp",
    "ggml/src/ggml-rpc/ggml-rpc.cpp",
    "ggml/src/gguf.cpp",
    "llama.h",
    "src/llama-batch.cpp",
    "src/llama-graph.cpp",
    "src/llama-kv-cache.cpp",
    "src/llama-hparams.h",
    "src/llama-model.cpp",
    "tools/cvector-generator/cvector-generator.cpp",
    "tools/perplexity/perplexity.cpp",
    # other projects'
    "easysteer/extraction/result.py",
    "asm-generic/unistd.h",
    "asm/unistd.h",
    "asm/unistd_64.h",
    "linux/audit.h",
    "linux/bpf_common.h",
    "linux/fcntl.h",
    "asm-generic/mman-common.h",
    "asm-generic/socket.h",
    "linux/keyctl.h",
    "linux/mman.h",
    "linux/prctl.h",
    "linux/sched.h",
    "linux/seccomp.h",
    "repeng/extract.py",
}
PLACES = (ROOT, ROOT / "steercpp", ROOT / "cli")  # from which a name with a folder may start
LINKS = {ROOT / "steercpp" / name for name in ("cli", "models")}  # what an editable install puts there
SOURCES = sorted(
    path
    for folder in ("steercpp", "cli", "native")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".cpp", ".h"} and not LINKS & set(path.parents)
)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def passages(text: str, suffix: str) -> Iterator[str]:
    """The docstrings and comments of a source file, the paragraphs of a document."""
    if suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield node.value.value
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        yield from (token.string for token in tokens if token.type == tokenize.COMMENT)
    elif suffix == ".md":
        yield from text.split("\n\n")
    else:
        yield from re.findall(r"//.*", text)


def target(name: str, folder: Path) -> Path | None:
    """The file of a name: beside the one that names it or, where the name has a folder, from the root or cli/ on."""
    places = (folder, *PLACES) if "/" in name else (folder,)
    return next((place / name for place in places if (place / name).is_file()), None)


def stale(text: str, path: Path) -> list[str]:
    """Names in the text of `path` that lead nowhere; names with capitals stand for any, such as tests/ROOM/test_X.py.

    In a document a bare name lies where the last one of its paragraph with a folder does, or at the top of steercpp/.
    """
    missing = []
    for passage in passages(text, path.suffix):
        folder = path.parent
        for name in FILE.findall(passage):
            if name in OTHERS or name != name.lower():
                continue
            found = target(name, folder)
            if found is None and path.suffix == ".md":
                found = target(name, ROOT / "steercpp")
            elif found is not None and path.suffix == ".md" and "/" in name:
                folder = found.parent
            if found is None:
                missing.append(name)
    return missing


def test_files_that_are_named_are_there() -> None:
    assert len(SOURCES) > 200 and len(DOCUMENTS) > 20
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*SOURCES, *DOCUMENTS]
        for name in stale(path.read_text(encoding="utf-8"), path)
    ]
    assert not missing, "\n".join(["name a file of another room with its room, as engine/engine.py:", *missing])


def test_a_stale_name_is_found() -> None:
    source = '"""See packing.py and runs/store.py, not store.py."""\nx = "gone.py"  # see gone_too.py\n'
    assert stale(source, ROOT / "steercpp/engine/engine.py") == ["store.py", "gone_too.py"]
    assert stale("// hook.h, steercpp/reference.py\nint gone_h;", ROOT / "native/hook.cpp") == ["steercpp/reference.py"]
    document = (
        "`data/sets/safety.py`, `catalog.py`, `choices.py`, `docs/gone.py`.\n\n`catalog.py`; `tests/ROOM/test_X.py`"
    )
    assert stale(document, ROOT / "README.md") == ["docs/gone.py", "catalog.py"]
