"""What vectors are called after their files, so that those of several runs are told apart.

vector_name("runs/refusal/vector.gguf")                                    "refusal"
vector_names(["runs/a/vector.gguf", "runs/b/vector.gguf", "happy.gguf"])   ["a", "b", "happy"]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from steercpp.encoding import spelled
from steercpp.inputs import stem

RUN_VECTOR = "vector.gguf"  # every run calls its vector so, as runs/folder.py has it


def vector_name(path: Path) -> str:
    """A vector's name: its file's without the ending, of a run's vector that of the run's folder."""
    if path.name != RUN_VECTOR:
        return stem(path)
    return spelled(path.parent.name or path.absolute().parent.name) or stem(path)


def vector_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file, with as many of its folders as tell it from the others; a file named twice is numbered."""
    files = [path.absolute() for path in paths]
    distinct = list(dict.fromkeys(files))
    called = {path: vector_name(path) for path in distinct}
    for depth in range(1, max((len(path.parts) for path in distinct), default=0)):
        times = Counter(called.values())
        for path in [path for path in distinct if times[called[path]] > 1]:
            folders = path.parts[1:-2] if path.name == RUN_VECTOR else path.parts[1:-1]
            called[path] = "/".join((*folders[-depth:], vector_name(path)))
    names = [called[path] for path in files]
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if files.count(files[place]) > 1:
            names[place] = f"{name} ({seen[name]})"
    return names
