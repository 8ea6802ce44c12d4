"""The vectors that requests may name: those of one folder, as they are now; read this for what is offered and refused.

A vector is a file of any format directly in the folder, called by its name without the ending, or the vector.gguf of
a run's folder in it, called by that folder's name. What changes on the disk is seen with the next request.
"""

from __future__ import annotations

import math
import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steercpp.choices import VECTOR_FORMATS
from steercpp.encoding import one_line
from steercpp.errors import InputError, SteerError, VectorFileError
from steercpp.files import write_whole
from steercpp.runs.recommended import BUDGET, STRENGTH
from steercpp.vectors.control_vector import PLAIN, ControlVector, vector_sha256
from steercpp.vectors.formats import ModelShape, check_vector, read_any_vector, write_any_vector
from steercpp.vectors.names import RUN_VECTOR, vector_name

MOST_VECTORS = 1000  # that an upload may add to
_SUFFIXES = tuple(f".{kind}" for kind in VECTOR_FORMATS)
_UPLOADED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_IS_A_PLACE = re.compile(r"[/\\\0]|^[a-z][a-z0-9+.-]*:|^\.+$", re.IGNORECASE)  # a path or a URL, and no name


class UnknownVectorError(InputError):
    """No vector of the folder has this name."""


class TakenNameError(InputError):
    """A vector of the folder has this name already."""


@dataclass(frozen=True, slots=True)
class NamedVector:
    """A vector of the folder.

    Attributes:
        name: by which requests call it.
        path: its file.
        vector: what it is.
        sha256: hash of what it does, see `vector_sha256`.
        is_run: whether it is that of a run.
    """

    name: str
    path: Path
    vector: ControlVector
    sha256: str
    is_run: bool

    @property
    def recommended(self) -> float | None:
        """The strength that its sweep recommends; None where none is."""
        strength = self.vector.metadata.get(STRENGTH)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
            return None
        return float(strength)

    def record(self) -> dict[str, Any]:
        """What is told of it, as plain data; nothing of it names a place on this machine."""
        metadata, vector = self.vector.metadata, self.vector
        budget = metadata.get(BUDGET)
        return {
            "id": self.name, "object": "steering.vector", "sha256": self.sha256,
            "format": self.path.suffix.lower().lstrip("."), "is_run": self.is_run,
            "architecture": vector.model_hint, "layers": list(vector.layers), "n_embd": vector.n_embd,
            "norms": {str(il): round(norm, 6) for il, norm in vector.norms.items()},
            **{key: metadata.get(key, usual) for key, usual in PLAIN.items()},
            "method": metadata.get("method"),
            "recommended_strength": self.recommended,
            "max_loss": budget if self.recommended is not None else None,
        }  # fmt: skip


class VectorFolder:
    """The vectors of a folder that are for one model; for one thread at a time, or several.

    Args:
        folder: where they lie; None for none at all.
        model: what they steer.

    Raises:
        VectorFileError: there is no such folder.
    """

    def __init__(self, folder: Path | None, model: ModelShape) -> None:
        if folder is not None:
            check_folder(folder)
        self.folder, self._model = folder, model
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[tuple[int, ...], NamedVector]] = {}  # with what tells whether a file has changed

    def names(self) -> Mapping[str, Path]:
        """The names that are offered now, sorted, with their files; not those that two files have."""
        return {name: paths[0] for name, paths in sorted(self._files().items()) if len(paths) == 1}

    def vector(self, name: str) -> NamedVector:
        """The vector of a name.

        Raises:
            UnknownVectorError: there is none, or none any more.
            InputError: it is a path or URL, two files have the name, or it is not for the model.
            VectorFileError: its file cannot be read.
        """
        if _IS_A_PLACE.search(name):
            raise InputError(
                f"{one_line(name[:80])!r} is a path or an address; vectors are called by their names, which "
                "/v1/steering/vectors lists"
            )
        paths = self._files().get(name, [])
        if not paths:
            raise UnknownVectorError(
                f"there is no vector {one_line(name[:80])!r}; /v1/steering/vectors lists those that there are"
            )
        if len(paths) > 1:
            raise InputError(f"{len(paths)} files are called {one_line(name)!r}; the server's owner has to rename one")
        return self._vector(name, paths[0])

    def all(self) -> tuple[list[NamedVector], dict[str, str]]:
        """All vectors, and of the names that cannot be used the reason."""
        found, refused = [], {}
        for name in sorted(self._files()):
            try:
                found.append(self.vector(name))
            except SteerError as error:
                refused[name] = str(error)
        return found, refused

    def add(self, name: str, data: bytes) -> NamedVector:
        """Keep an uploaded vector, once it is seen to be one that is for the model, as NAME.gguf.

        Args:
            name: a new one of letters, digits, dots, - and _.
            data: a file of any format.

        Raises:
            TakenNameError: there is a vector of this name.
            InputError: another name than these, too many vectors, or what `vector` raises of the file.
        """
        if self.folder is None:
            raise InputError("the server has no folder of vectors, so none can be uploaded")
        if not _UPLOADED.fullmatch(name) or name.lower().endswith(_SUFFIXES):
            raise InputError(
                f"{one_line(name[:80])!r} cannot be a vector's name; use letters, digits, dots, - and _, and no ending"
            )
        files = self._files()
        if name in files or (self.folder / name).exists():
            raise TakenNameError(f"there is a vector {name!r} already; delete it first or choose another name")
        if len(files) >= MOST_VECTORS:
            raise InputError(f"the folder holds {len(files)} vectors; delete some first")
        vector = self._checked(name, data)
        path = self.folder / f"{name}.gguf"
        try:
            write_any_vector(path, vector)
        except VectorFileError as error:
            raise VectorFileError(_without(error, path, name)) from error
        return self.vector(name)

    def remove(self, name: str) -> None:
        """Delete the file of a vector; a run's stays.

        Raises:
            UnknownVectorError, InputError: as `vector`; or it is a run's.
        """
        paths = self._files().get(name, [])
        if len(paths) != 1:
            self.vector(name)
        (path,) = paths
        if path.parent != self.folder:
            raise InputError(f"{one_line(name)!r} is the vector of a run, which keeps it; remove the run on the server")
        try:
            path.unlink()
        except FileNotFoundError:
            raise UnknownVectorError(f"there is no vector {one_line(name)!r} any more") from None
        except OSError as error:
            raise VectorFileError(f"{one_line(name)}: cannot be deleted: {error.strerror}") from error

    def _files(self) -> dict[str, list[Path]]:
        """By name, the files that are there."""
        files: dict[str, list[Path]] = defaultdict(list)
        if self.folder is None:
            return files
        with suppress(OSError):  # the folder has gone: none is there
            for path in self.folder.iterdir():
                if path.name.startswith("."):
                    continue
                if path.suffix.lower() in _SUFFIXES and path.is_file():
                    files[vector_name(path)].append(path)
                elif (path / RUN_VECTOR).is_file():
                    files[path.name].append(path / RUN_VECTOR)
        return files

    def _vector(self, name: str, path: Path) -> NamedVector:
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            self._read.pop(path, None)
            raise UnknownVectorError(f"there is no vector {one_line(name)!r} any more") from None
        with self._lock:
            known, found = self._read.get(path, ((), None))
            if found is None or known != state:
                vector = self._for_model(name, path)
                found = NamedVector(name, path, vector, vector_sha256(vector), path.name == RUN_VECTOR)
                self._read[path] = (state, found)
        return found

    def _for_model(self, name: str, path: Path) -> ControlVector:
        try:
            vector, _ = read_any_vector(path)
        except VectorFileError as error:
            raise VectorFileError(_without(error, path, name)) from error
        self._refuse_other_model(name, vector)
        return vector

    def _refuse_other_model(self, name: str, vector: ControlVector) -> None:
        hint, architecture = vector.model_hint, self._model.architecture
        if hint and hint != architecture:
            raise InputError(
                f"vector {one_line(name)!r} is for models of architecture {one_line(hint)}, this one is {architecture}"
            )
        try:
            check_vector(self._model, vector, name=f"vector {one_line(name)!r}")
        except InputError as error:
            raise type(error)(_without(error, self._model.path, "this model")) from error

    def _checked(self, name: str, data: bytes) -> ControlVector:
        """The vector of a file's bytes, which lie in a folder of their own while they are read."""
        import tempfile

        with tempfile.TemporaryDirectory(prefix="steercpp-upload-") as folder:
            path = Path(folder) / "uploaded"
            write_whole(path, data, force=False, error=VectorFileError)
            return self._for_model(name, path)


def check_folder(folder: Path) -> None:
    """See that a folder of vectors is there, which may be asked before a model is read.

    Raises:
        VectorFileError: it is not.
    """
    if not folder.is_dir():
        raise VectorFileError(f"{folder}: there is no such folder; name the one with the vectors in `vectors`")


def _without(error: Exception, path: Path, name: str) -> str:
    """An error's sentence without the place on this machine."""
    return str(error).replace(str(path), one_line(name))
