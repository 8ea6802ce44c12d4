"""What a model's files are and say before llama.cpp reads them; read this when a model is refused.

llama.cpp explains a failed load in its own words, and some files it should refuse only crash later. The first 24
bytes of a GGUF file settle the usual cases: magic, version (uint32), number of tensors (uint64), of keys (uint64).
Source: ggml/include/gguf.h of llama.cpp 0.5.0.

A large model may come in shards, NAME-00001-of-00003.gguf and so on: the first one's keys say how many, and it is the
one that is loaded. Whatever is kept of a model, its hash above all, is of all its shards.
Source: the model loader of llama.cpp 0.5.0, llama_model_loader.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steercpp.encoding import printable
from steercpp.errors import ModelError, VectorFileError
from steercpp.provenance import file_sha256

if TYPE_CHECKING:
    from steercpp.vectors.gguf_header import Header

OLDEST_VERSION = 2  # llama.cpp refuses version 1
_SIGNS_OF_DAMAGE = ("not within the file bounds", "exceeds remaining file size", "failed to read key-value pairs")
_NO_DECODER = "decoders can be steered"  # of our own two refusals, in native/model.cpp and native/session.cpp
_RENAMED = "invalid split file name"  # what llama.cpp says of a first shard that is not named as one
_HEADER = struct.Struct("<4sIQQ")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def model_files(path: Path) -> tuple[Path, ...]:
    """The files that a model consists of: the one named, or all shards of a split model in their order.

    Args:
        path: the model, of a split one its first shard.

    Raises:
        ModelError: a shard is missing or belongs elsewhere, or the path is not that of the first one.
    """
    if _SHARD.fullmatch(path.name) is None:
        return (path,)
    first = _Shard.read(path)
    if first.count <= 1:
        return (path,)
    paths = tuple(path.with_name(_shard_name(path, i, first.count)) for i in range(first.count))
    if first.number != 0:
        raise ModelError(f"{path}: is shard {first.number + 1} of {first.count} of a model; give the first, {paths[0]}")
    if path.name != paths[0].name:
        raise ModelError(f"{path}: is shard 1 of {first.count}, which this name does not say; call it {paths[0].name}")
    shards = [first, *(_later_shard(shard, paths, i) for i, shard in enumerate(paths) if i)]
    names = [name for shard in shards for name in shard.tensors]
    if len(set(names)) < len(names) or first.n_tensors not in (None, len(names)):
        twice = len(names) - len(set(names))
        how_many = f"hold {twice} tensors twice" if twice else f"hold {len(names)} tensors of {first.n_tensors}"
        raise ModelError(f"{path}: its {first.count} shards {how_many}; copy or download all of them from one place")
    return paths


def model_sha256(path: Path) -> str:
    """Hash of a model in hexadecimal: of its file; of a split one, of its shards' hashes.

    Those are hashed as text in the shards' order, each in hexadecimal with a line break behind it, so that
    `sha256sum NAME-*.gguf | cut -c-64 | sha256sum` gives the same.

    Raises:
        ModelError: see `model_files`.
        OSError: a file cannot be read.
    """
    return joined_sha256([file_sha256(file) for file in model_files(path)])


def joined_sha256(hashes: Sequence[str]) -> str:
    """Hash of a model by those of its files."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{sha256}\n" for sha256 in hashes).encode()).hexdigest()


def model_bytes(path: Path) -> int:
    """Size of a model, all its shards together.

    Raises:
        ModelError: see `model_files`.
        OSError: a file is not there.
    """
    return sum(file.stat().st_size for file in model_files(path))


@dataclass(frozen=True, slots=True)
class _Shard:
    """What a file says of its place in a split model; a model of one file has the count 0 or 1.

    Attributes:
        number: its place, from 0 on.
        count: how many there are.
        tensors: names of those in it.
        n_tensors: how many all shards hold together; None where it is not told.
    """

    number: int
    count: int
    tensors: tuple[str, ...]
    n_tensors: int | None

    @classmethod
    def read(cls, path: Path) -> _Shard:
        """Of a GGUF file.

        Raises:
            ModelError: it cannot be read, or is damaged.
        """
        from steercpp.vectors.gguf_header import read_header

        _check_head(path)
        try:
            with open(path, "rb") as file:
                header = read_header(file, path)
        except VectorFileError as error:
            raise ModelError(str(error)) from error
        number, count, n_tensors = (_whole(header, f"split.{key}") for key in ("no", "count", "tensors.count"))
        return cls(number or 0, count or 0, tuple(tensor.name for tensor in header.tensors), n_tensors)


def _whole(header: Header, key: str) -> int | None:
    value = header.values[key].value if key in header.values else None
    return value if isinstance(value, int) else None


def _shard_name(path: Path, number: int, count: int) -> str:
    named = _SHARD.fullmatch(path.name)
    assert named is not None
    return f"{named[1]}-{number + 1:05d}-of-{count:05d}.gguf"


def _later_shard(path: Path, paths: tuple[Path, ...], number: int) -> _Shard:
    """A shard behind the first."""
    if not path.exists():
        raise ModelError(f"{paths[0]}: its shard {path.name} is missing; put all {len(paths)} into one folder")
    shard = _Shard.read(path)
    if (shard.number, shard.count) != (number, len(paths)):
        place = f"shard {shard.number + 1} of {shard.count}" if shard.count else "no shard"
        raise ModelError(
            f"{path}: is {place} and not {number + 1} of {len(paths)}; copy or download it again, as the others"
        )
    return shard


def check_model_file(path: Path) -> None:
    """Do nothing for a file that looks like a GGUF model with weights, or the first shard of one.

    Raises:
        ModelError: missing, a folder, unreadable, cut off, not GGUF, of a version llama.cpp refuses, without weights;
            or a shard is, see `model_files`.
    """
    n_tensors = _check_head(path)
    if len(model_files(path)) == 1 and n_tensors == 0:  # a split model's first shard may hold keys alone
        if other := _other_kind(path):  # a vector that is not simply added has no tensors
            raise ModelError(f"{path}: {other}")
        raise ModelError(f"{path}: the file holds a vocabulary but no weights; give the model itself")


def _check_head(path: Path) -> int:
    """Do nothing for a file that begins as a GGUF file; how many tensors it holds."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise ModelError(f"{path}: is a pipe or device, which cannot be read twice; save the model as a file")
        with open(path, "rb") as file:
            head = file.read(_HEADER.size)
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read: {error.strerror or error}; check the path") from error
    if head[:4] != b"GGUF":
        start = head[:4].decode("utf-8", "backslashreplace")
        fault = "empty" if not head else f"not a GGUF file, it starts with {printable(start)!r}"
        raise ModelError(f"{path}: the file is {fault}; give a model in GGUF form")
    if len(head) < _HEADER.size:
        raise ModelError(f"{path}: the file ends after {len(head)} bytes, inside its header; copy or download it again")
    version, n_tensors = _HEADER.unpack(head)[1:3]
    if version & 0xFFFF == 0:
        raise ModelError(f"{path}: the file is GGUF of the other byte order; convert it for this machine")
    if version < OLDEST_VERSION:
        raise ModelError(f"{path}: GGUF version {version} is too old for llama.cpp; convert the model again")
    return int(n_tensors)


def _other_kind(path: Path) -> str:
    """Of a file that is none, what it is instead of a model and where it goes; "" where its keys do not tell."""
    from steercpp.vectors.gguf_header import read_header
    from steercpp.vectors.kinds import MODEL, VECTOR, kind_of

    try:
        with open(path, "rb") as file:
            kind = kind_of(read_header(file, path))
    except (VectorFileError, OSError):
        return ""
    if kind in ("", MODEL):
        return ""
    step = "give it as `vector`, and as `model` the model that it steers" if kind == VECTOR else "give the model itself"
    return f"is {kind}, not a model; {step}"


def load_failure(path: Path, log: str) -> ModelError:
    """The error for a file that llama.cpp refused; `log` is what it logged, parts joined by "; ", maybe nothing."""
    if other := _other_kind(path):
        return ModelError(f"{path}: {other}")
    lines = [line.removeprefix("error loading model: ") for line in log.split("; ")]
    reasons = [line for line in lines if "failed to load model" not in line] or ["it gives no reason"]
    if _NO_DECODER in log:
        why = "; ".join(reason for reason in reasons if _NO_DECODER not in reason)
        return ModelError(f"{path}: the model is no decoder: {why}; use a decoder, a model that writes text")
    if _RENAMED in log:
        name = f"{path.stem}-00001-of-0000N.gguf"
        return ModelError(f"{path}: is the first shard of a split model, renamed; give it back a name such as {name}")
    is_broken = any(sign in log for sign in _SIGNS_OF_DAMAGE)
    step = "copy or download it again" if is_broken else "check that llama.cpp itself can run it"
    return ModelError(f"{path}: llama.cpp cannot use this model: {'; '.join(reasons)}; {step}")
