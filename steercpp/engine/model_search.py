"""A model by its hash, wherever it lies; read this to name folders of models.

    find_model("9f86d0...", n_bytes=368_000, hint="/home/me/model.gguf", folders=("/models",))

A hash is of all shards of a model, see `model_sha256`. Files of another size are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from steercpp.engine.model_file import model_bytes, model_files, model_sha256
from steercpp.errors import ModelError

FOLDERS = "STEERCPP_MODELS"  # the environment's folders of models, with the system's separator between them


def find_model(sha256: str, *, n_bytes: int, hint: Path | str, folders: Iterable[Path | str] = ()) -> Path:
    """The file of a model; of a split one its first shard.

    Args:
        sha256: of the model, in hexadecimal.
        n_bytes: its size.
        hint: where it may lie.
        folders: where else it may lie, at any depth; those that the environment's STEERCPP_MODELS names are searched
            too.

    Raises:
        ModelError: it is in none of these places.
    """
    named = [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]
    places = [Path(folder).expanduser() for folder in (*folders, *named)]
    for path in _candidates(Path(hint), places):
        with suppress(OSError, ModelError):  # of another model, or none at all
            if model_files(path)[0] == path and model_bytes(path) == n_bytes and model_sha256(path) == sha256:
                return path
    searched = f"nor in {', '.join(map(str, places))}" if places else f"and {FOLDERS} names no folder"
    raise ModelError(
        f"the model {Path(hint).name} with the hash {sha256[:12]} is neither at {hint} {searched}; copy it into a "
        "folder of models"
    )


def _candidates(hint: Path, folders: Iterable[Path]) -> Iterator[Path]:
    """Files that may be a model, the likeliest first."""
    yield hint
    for folder in folders:
        found = sorted(folder.rglob("*.gguf"))
        yield from sorted(found, key=lambda path: path.name != hint.name)
